"""Trains the proposals for blocks of tags on random fields: needs no data.

python -m smcinfer.proposals.chain_tags.recipe [--motif chain_2 chain_3 chain_4 skip] [--num-steps 2000] [--seed 0]
"""

import argparse
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from smcinfer import nn
from smcinfer.proposals.chain_tags import MOTIFS, weights_of
from smcinfer.proposals.chain_tags.instances import draw_instances, expected_acceptance, inclusive_kl
from smcinfer.proposals.chain_tags.network import TagBlocks, tag_blocks
from smcinfer.run.fit import fit

BATCH, HELD_OUT = 128, 4096


def train(seed: int, motif: str, num_steps: int, progress: bool = True) -> tuple[TagBlocks, dict[str, Any]]:
    """Train the proposal for one motif, and judge it on instances that training never saw.

    Args:
        seed: of all that is random.
        motif: name of one of `MOTIFS`.
        num_steps: the most gradient steps; fewer where the held-out loss stops falling.
        progress: whether to show a bar.

    Returns:
        The proposal, and its card: losses (nats a block), acceptance, seconds.
    """
    init_key, train_key, held_key, judge_key = jax.random.split(jax.random.key(seed), 4)
    start = tag_blocks(init_key, MOTIFS[motif])
    held_out = eqx.filter_jit(draw_instances)(held_key, start, HELD_OUT)
    check = eqx.filter_jit(inclusive_kl)
    fitted = fit(
        train_key,
        start,
        lambda proposal, key, _: inclusive_kl(proposal, draw_instances(key, proposal, BATCH)),
        num_steps=num_steps,
        learning_rate=1e-3,
        validate=lambda proposal: check(proposal, held_out),
        check_every=500,
        patience=6,
        progress=progress,
        description=motif,
    )
    judged = eqx.filter_jit(expected_acceptance)
    card = {
        "motif": MOTIFS[motif].digest,
        "seed": seed,
        "num_steps": len(fitted.losses),
        "held_out_loss": float(fitted.checks.min()),
        "acceptance": float(judged(judge_key, fitted.module, held_out)),
        "acceptance_untrained": float(judged(judge_key, start, held_out)),
        "seconds": fitted.seconds,
    }
    return fitted.module, card


def main() -> None:
    """Train, print the cards and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motif", nargs="+", choices=list(MOTIFS), default=list(MOTIFS))
    parser.add_argument("--out", type=Path, help="folder for the weights; the library's own where not given")
    parser.add_argument("--num-steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for motif in arguments.motif:
        proposal, card = train(arguments.seed, motif, arguments.num_steps)
        path = weights_of(motif) if arguments.out is None else arguments.out / f"{motif}.safetensors"
        print(motif, card)
        nn.save(path, proposal, card)
        print(f"saved {path}")


if __name__ == "__main__":
    main()
