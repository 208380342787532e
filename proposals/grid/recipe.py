"""Train the grid proposal on random instances of its motif, print how good it is, write its weights.

python -m smcinfer.proposals.grid.recipe [--num-steps 5000] [--out weights.safetensors]
"""

import argparse
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.graphs.block_exact import enumerated
from smcinfer.graphs.block_neural import (
    MotifDraws,
    NeuralBlocks,
    expected_acceptance,
    inclusive_kl,
    log_likelihood,
    save,
)
from smcinfer.ground.arrays import Array, KeyArray
from smcinfer.proposals.grid import WEIGHTS, untrained
from smcinfer.proposals.grid.draws import random_instances
from smcinfer.run.fit import fit

BATCH = 256
GRIDS_A_CHUNK = 512
HELD_OUT_GRIDS = 40
DETERMINISM = (0.0, 0.25, 0.5, 0.75, 1.0)


def loss(proposal: NeuralBlocks, key: KeyArray, data: MotifDraws) -> Array:
    """Inclusive KL on a random batch, up to the entropy of the instances, nats a block.

    Args:
        proposal: what is trained.
        key: one random key, for the batch.
        data: exact draws of blocks with their motifs, leading axis instances.
    """
    rows = jax.random.randint(key, (BATCH,), 0, data.block.shape[0])
    return inclusive_kl(proposal, jax.tree.map(lambda leaf: leaf[rows], data))


def train(
    seed: int = 0, num_steps: int = 5000, progress: bool = True, **options: Any
) -> tuple[NeuralBlocks, dict[str, Any]]:
    """Train, and judge on instances that the training never saw.

    Args:
        seed: of all that is random.
        num_steps: the most gradient steps; fewer where the held-out loss stops falling.
        progress: whether to show a bar.
        options: further settings of `smcinfer.run.fit.fit`.

    Returns:
        The proposal, and its card: held-out log-likelihood (nats a block) and acceptance, in all and by determinism.
    """
    start_key, fit_key, judge_key = jax.random.split(jax.random.key(seed), 3)
    generate, generate_judged = random_instances(), random_instances(keep_scores=True)
    held_out = generate_judged(jax.random.fold_in(judge_key, 0), HELD_OUT_GRIDS)
    entropy = -jnp.mean(enumerated(held_out.log_scores, untrained(start_key).motif.block).log_prob(held_out.block))
    fitted = fit(
        fit_key,
        untrained(start_key),
        loss,
        num_steps=num_steps,
        learning_rate=2e-3,
        refresh=lambda key, _: generate(key, GRIDS_A_CHUNK),
        validate=eqx.filter_jit(lambda proposal: -jnp.mean(log_likelihood(proposal, held_out))),
        check_every=200,
        patience=10,
        progress=progress,
        description="grid proposal",
        **options,
    )
    card = {
        "seed": seed,
        "steps": len(fitted.losses),
        "seconds": round(fitted.seconds),
        "held_out_log_likelihood": -float(fitted.checks.min()),
        "held_out_kl": float(fitted.checks.min() - entropy),
    }
    accept = eqx.filter_jit(expected_acceptance)
    for number, share in enumerate(DETERMINISM, start=1):
        draws = generate_judged(jax.random.fold_in(judge_key, number), HELD_OUT_GRIDS, share, share)
        card[f"acceptance_{share}"] = float(accept(jax.random.fold_in(judge_key, 10 + number), fitted.module, draws))
    return fitted.module, card


def main() -> None:
    """Train as the command line asks, print the card and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-steps", type=int, default=5000)
    parser.add_argument("--checkpoint", type=Path, help="file to resume the training from and to save it to")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    proposal, card = train(args.seed, args.num_steps, checkpoint=args.checkpoint)
    for name, value in card.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    save(args.out, proposal, card)


if __name__ == "__main__":
    main()
