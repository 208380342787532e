"""Trains the proposal for pairs of mixture components on random instances: needs no data.

python -m smcinfer.proposals.mixture_pair.recipe [--out weights.safetensors] [--num-steps 8000] [--seed 0]
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax

from smcinfer import nn
from smcinfer.proposals.mixture_pair import WEIGHTS
from smcinfer.proposals.mixture_pair.instances import Instances, draw_instances, expected_acceptance, inclusive_kl
from smcinfer.proposals.mixture_pair.network import PairNetwork, pair_network
from smcinfer.run.fit import fit

BATCH = 64
HELD_OUT = 24
"""Batches of validation; each has scales of its own."""


def train(seed: int, num_steps: int, progress: bool = True) -> tuple[PairNetwork, dict[str, float]]:
    """Train the network, and judge it on instances that training never saw.

    Args:
        seed: of all that is random.
        num_steps: the most gradient steps; fewer where the held-out loss stops falling.
        progress: whether to show a bar.

    Returns:
        The network, and its card: losses (nats an instance), acceptance, seconds.
    """
    init_key, train_key, held_key, judge_key = jax.random.split(jax.random.key(seed), 4)
    held_out = eqx.filter_jit(lambda keys: jax.lax.map(lambda key: draw_instances(key, BATCH), keys))(
        jax.random.split(held_key, HELD_OUT)
    )

    @eqx.filter_jit
    def check(network: PairNetwork, held_out: Instances) -> jax.Array:
        return jax.lax.map(lambda drawn: inclusive_kl(network, drawn), held_out).mean()

    fitted = fit(
        train_key,
        pair_network(init_key),
        lambda network, key, _: inclusive_kl(network, draw_instances(key, BATCH)),
        num_steps=num_steps,
        learning_rate=2e-3,
        validate=lambda network: check(network, held_out),
        check_every=500,
        patience=8,
        progress=progress,
        description="pairs of components",
    )

    @eqx.filter_jit
    def acceptance(network: PairNetwork, held_out: Instances) -> jax.Array:
        keys = jax.random.split(judge_key, HELD_OUT)
        return jax.lax.map(lambda parts: expected_acceptance(parts[0], network, parts[1]), (keys, held_out)).mean()

    card = {
        "seed": seed,
        "num_steps": len(fitted.losses),
        "held_out_loss": float(fitted.checks.min()),
        "acceptance": float(acceptance(fitted.module, held_out)),
        "seconds": fitted.seconds,
    }
    return fitted.module, card


def main() -> None:
    """Train, print the card and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--num-steps", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    network, card = train(arguments.seed, arguments.num_steps)
    print(card)
    nn.save(arguments.out, network, card)
    print(f"saved {arguments.out}")


if __name__ == "__main__":
    main()
