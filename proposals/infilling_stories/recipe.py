"""Learn the infilling twist for the stories model, measure it, write it.

    python -m smcinfer.proposals.infilling_stories.recipe

The training data are the model's own: prompts, and what it writes after them.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer import twists
from smcinfer.models import stories
from smcinfer.proposals.infilling_stories import FREE, GIVEN, PROMPT, WEIGHTS, blank
from smcinfer.twists.gap import bounds_over
from smcinfer.twists.infilling import infilling

SEED = 0


def main() -> None:
    """Train, print the gap between the bounds with and without the twist, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--proposal-steps", type=int, default=3000, help="gradient steps by DPG: the proposal")
    parser.add_argument("--value-steps", type=int, default=1000, help="gradient steps after them: the values")
    parser.add_argument("--values", default="rl", choices=("ctl", "rl"), help="by which objective")
    parser.add_argument("--num-draws", type=int, default=16384, help="stories that are written to learn from")
    parser.add_argument("--num-contexts", type=int, default=32, help="continuations that the twist is measured on")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    asked = parser.parse_args()
    pretrained = stories.load()
    tokens = jnp.asarray(pretrained.tokenizer.encode(PROMPT), jnp.int32)
    family = infilling(pretrained.lm, tokens, num_tokens=FREE, num_given=GIVEN)
    draw_key, first_key, second_key, measure_key = jax.random.split(jax.random.key(SEED), 4)
    stored = family.stored(draw_key, asked.num_draws)
    common = {"learning_rate": 5e-3, "validate": False, "progress": True}
    proposal = twists.learn(
        first_key, stored, "dpg", twist=blank(pretrained.lm), num_contexts=64, num_steps=asked.proposal_steps, **common
    )
    done = twists.learn(
        second_key,
        stored,
        asked.values,
        twist=proposal.twist,
        num_contexts=16,
        num_particles=4,
        num_steps=asked.value_steps,
        **common,
    )
    gaps = {}
    for name, twist in {"base": None, "twist": done.twist}.items():
        for size in (16, 64):
            lower, upper = (
                np.asarray(end) for end in bounds_over(measure_key, family, twist, size, asked.num_contexts)
            )
            gaps[f"{name}_{size}"] = round(float((upper - lower).mean()), 3)
    print("gap between the bounds on log Z, nats:", gaps)
    twists.save(asked.out, done.twist, pretrained.lm, {"seed": SEED, "values": asked.values, "gaps": gaps})


if __name__ == "__main__":
    main()
