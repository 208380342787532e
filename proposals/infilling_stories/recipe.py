"""Learn the infilling twist for the stories model, measure it, write it.

    python -m smcinfer.proposals.infilling_stories.recipe

The training data are the model's own: what it writes after the prompt, drawn afresh at every step. Draws that are kept and
read again are learned by heart: with 8,192 of them what was gained fell to less than half on new ones.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer import twists
from smcinfer.language.infilling import infilling, infilling_head
from smcinfer.models import stories
from smcinfer.proposals.infilling_stories import FREE, GIVEN, PROMPT, WEIGHTS, WIDTH
from smcinfer.twists.gap import bounds_over

SEED = 0


def main() -> None:
    """Train, print the gap between the bounds with and without the twist, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=12000, help="gradient steps")
    parser.add_argument("--num-contexts", type=int, default=128, help="continuations that it is measured on")
    parser.add_argument("--checkpoint", type=Path, help="a file to resume from and to save to")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    asked = parser.parse_args()
    pretrained: Any = stories.load()
    tokens = jnp.asarray(pretrained.tokenizer.encode(PROMPT), jnp.int32)
    sizes = {"num_tokens": FREE, "num_given": GIVEN}
    family = infilling(pretrained.lm, tokens, **sizes)
    head_key, learn_key, measure_key = jax.random.split(jax.random.key(SEED), 3)
    done = twists.learn(
        learn_key,
        family,
        "dpg",
        twist=infilling_head(head_key, pretrained.lm, tokens, width=WIDTH, **sizes),
        num_contexts=64,
        num_steps=asked.steps,
        learning_rate=3e-3,
        validate=False,
        checkpoint=asked.checkpoint,
        progress=True,
    )
    gaps = {}
    # DPG learns a proposal and no values: nothing on the way tells resampling whom to keep.
    for name, twist, below in (("base", None, 0.5), ("twist", done.twist, 0.0)):
        for size in (1, 16, 64, 256, 1024):
            ends = bounds_over(measure_key, family, twist, size, asked.num_contexts, below)
            gap = np.asarray(ends[1]) - np.asarray(ends[0])
            gaps[f"{name}_{size}"] = (round(float(gap.mean()), 2), round(float(gap.std() / len(gap) ** 0.5), 2))
    print("gap between the bounds on log Z and its standard error, nats:", gaps)
    twists.save(asked.out, done.twist, pretrained.lm, {"seed": SEED, "steps": asked.steps, "gaps": gaps})


if __name__ == "__main__":
    main()
