"""Trains the masked denoiser: ``python -m smcinfer.models.masked_digits.recipe [--out weights.safetensors]``.

The images come with scikit-learn; a minute on one core of a CPU.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer import nn
from smcinfer.ground.arrays import Array, Int, KeyArray, Scalar
from smcinfer.models.digits import DIM, split
from smcinfer.models.masked_digits.images import binary
from smcinfer.models.masked_digits.network import MASK, MaskedNetwork
from smcinfer.models.masked_digits.weights import FILE, SIZE
from smcinfer.run.fit import fit

SEED = 0
BATCH = 128


def nats_per_image(network: MaskedNetwork, key: KeyArray, images: Int[Array, "n 64"], size: int = BATCH) -> Scalar:
    r"""A bound of -log p of an image, estimated: 64 times the mean cross entropy of a masked pixel.

    .. math:: E_{k \sim U\{1..64\}}\, E_{M : |M| = k}
        \Bigl[ -\frac{64}{k} \sum_{i \in M} \log p_i(x_i \mid x_{\setminus M}) \Bigr]

    Args:
        network: gives log p of every pixel given the known ones.
        key: one random key, for the images and the masks.
        images: Int["n 64"], to draw from.
        size: images in the mean.

    Source: Uria, Murray & Larochelle (2014); Ou et al. (2024).
    """
    row_key, count_key, order_key = jax.random.split(key, 3)
    x = images[jax.random.randint(row_key, (size,), 0, len(images))]
    # One number of masked pixels to each of ``size`` equal parts of 1 .. 64.
    share = (jnp.arange(size) + jax.random.uniform(count_key, (size,))) / size
    count = 1 + jnp.floor(DIM * share).astype(jnp.int32).clip(0, DIM - 1)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(order_key, (size, DIM)), axis=1), axis=1)
    hidden = rank < count[:, None]
    log_p = jax.nn.log_softmax(jax.vmap(network)(jnp.where(hidden, MASK, x)))
    chosen = jnp.take_along_axis(log_p, x[..., None], axis=-1)[..., 0]
    return -jnp.mean(DIM / count * jnp.sum(jnp.where(hidden, chosen, 0.0), axis=1))


def main() -> None:
    """Train, print the metrics and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="the file of weights")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    build_key, fit_key, check_key = jax.random.split(jax.random.key(arguments.seed), 3)
    thirds = {name: jnp.asarray(binary(part)) for name, part in split().items()}
    seen = jnp.concatenate([thirds["reward"], thirds["judge"]])
    fitted = fit(
        fit_key,
        MaskedNetwork(build_key, *SIZE),
        nats_per_image,
        seen,
        num_steps=arguments.steps,
        learning_rate=2e-3,
        validate=eqx.filter_jit(lambda network: nats_per_image(network, check_key, thirds["test"], 4096)),
        check_every=500,
        progress=True,
        description="masked denoiser",
    )
    metrics = {
        "nats_per_image_seen": float(nats_per_image(fitted.module, check_key, seen, 4096)),
        "nats_per_image_unseen": float(fitted.checks.min()),
    }
    for name, value in metrics.items():
        print(f"{name:24s} {value:.3f}")
    record = {"size": SIZE, "seed": arguments.seed, "steps": arguments.steps, "metrics": metrics}
    print(f"wrote {nn.save(arguments.out, fitted.module, record)}")


if __name__ == "__main__":
    main()
