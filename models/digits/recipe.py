"""Trains the networks of the digits: ``python -m smcinfer.models.digits.recipe [--out weights.safetensors]``.

The images come with scikit-learn. Four networks, minutes on one core of a CPU: a denoiser, the same flow straightened,
so that one evaluation tells what a noise becomes, a classifier for rewards, and another, of other images, to judge by.
"""

import argparse
import math
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer import nn
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.models.digits.classifier import Classifier
from smcinfer.models.digits.data import DIM, Images, split
from smcinfer.models.digits.network import Network
from smcinfer.models.digits.weights import FILE, SIZES, Weights, blank
from smcinfer.run.fit import fit

SEED = 0
BATCH = 256
HALF_TURN = math.pi / 2


def denoiser_loss(network: Network, key: KeyArray, pixels: Float[Array, "n 64"], size: int = BATCH) -> Scalar:
    r"""Mean square error of :math:`v = \cos\varphi\, \epsilon - \sin\varphi\, x_0` at angles uniform over the way.

    Args:
        network: guesses v from a noisy image and its angle.
        key: one random key, for the images, the angles and the noise.
        pixels: Float["n 64"], images to draw from.
        size: images in the mean.
    """
    row_key, angle_key, noise_key = jax.random.split(key, 3)
    x0 = pixels[jax.random.randint(row_key, (size,), 0, len(pixels))]
    # One angle to each of ``size`` equal parts of the way.
    angle = HALF_TURN * (jnp.arange(size) + jax.random.uniform(angle_key, (size,))) / size
    noise = jax.random.normal(noise_key, x0.shape)
    cosine, sine = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    v = jax.vmap(network)(cosine * x0 + sine * noise, angle)
    return jnp.mean((v - (cosine * noise - sine * x0)) ** 2)


def transport(network: Network, noise: Float[Array, "n 64"], num_steps: int) -> Float[Array, "n 64"]:
    """Where the deterministic reverse process takes noise.

    Args:
        network: guesses v from a noisy image and its angle.
        noise: Float["n 64"], standard Gaussian.
        num_steps: rotations against v, of equal angles, from noise to image.

    Returns:
        Float["n 64"], images.
    """
    step = HALF_TURN / num_steps

    def turn(x: Array, index: Array) -> tuple[Array, None]:
        v = jax.vmap(network, in_axes=(0, None))(x, HALF_TURN - index * step)
        return math.cos(step) * x - math.sin(step) * v, None

    return jax.lax.scan(turn, noise, jnp.arange(num_steps))[0]


def straight_loss(
    network: Network, key: KeyArray, pairs: tuple[Float[Array, "n 64"], Float[Array, "n 64"]], size: int = BATCH
) -> Scalar:
    r"""Mean square error of :math:`\epsilon - x_0` on :math:`(1-t) x_0 + t \epsilon`, pairs joined by the transport.

    Half of the times are one, where the network is asked what a noise becomes.

    Args:
        network: guesses the velocity from a point and its time, the latter as an angle.
        key: one random key, for the pairs and the times.
        pairs: noises and the images they became, Float["n 64"] each.
        size: pairs in the mean.

    Source: Liu, Gong & Liu (2022).
    """
    row_key, time_key = jax.random.split(key)
    rows = jax.random.randint(row_key, (size,), 0, len(pairs[0]))
    noise, x0 = pairs[0][rows], pairs[1][rows]
    time = jnp.minimum(1.0, 2.0 * jax.random.uniform(time_key, (size, 1)))
    velocity = jax.vmap(network)((1 - time) * x0 + time * noise, HALF_TURN * time[:, 0])
    return jnp.mean((velocity - (noise - x0)) ** 2)


def classifier_loss(classifier: Classifier, key: KeyArray, data: tuple[Array, Array], size: int = 128) -> Scalar:
    """Cross entropy on images with noise of standard deviation 0 to 1, so that gradients reach beyond the images; nats.

    Args:
        classifier: what is trained.
        key: one random key, for the images and their noise.
        data: pixels, Float["n 64"], and labels, Int["n"].
        size: images in the mean.
    """
    row_key, scale_key, noise_key = jax.random.split(key, 3)
    pixels, labels = data
    rows = jax.random.randint(row_key, (size,), 0, len(pixels))
    noise = jax.random.uniform(scale_key, (size, 1)) * jax.random.normal(noise_key, (size, DIM))
    log_p = jax.vmap(classifier)(pixels[rows] + noise)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[rows][:, None], axis=1))


def accuracy(classifier: Classifier, images: Images) -> float:
    """Share of images whose class is the most probable one."""
    return float(jnp.mean(jnp.argmax(jax.vmap(classifier)(images.pixels), axis=1) == images.labels))


def train(key: KeyArray, num_steps: int) -> tuple[Weights, dict[str, float]]:
    """All four networks, and what they reach on images that none of them saw."""
    thirds = split()
    keys = jax.random.split(key, 6)
    start = blank(keys[0], SIZES)
    seen = jnp.concatenate([jnp.asarray(thirds[name].pixels) for name in ("reward", "judge")])
    unseen, check_key = jnp.asarray(thirds["test"].pixels), keys[1]

    check = eqx.filter_jit(lambda network: denoiser_loss(network, check_key, unseen, 4096))
    denoiser = fit(
        keys[2],
        start.denoiser,
        denoiser_loss,
        seen,
        num_steps=num_steps,
        learning_rate=2e-3,
        validate=check,
        check_every=500,
        progress=True,
        description="denoiser",
    )

    @eqx.filter_jit
    def pairs(key: KeyArray, size: int = 16384) -> tuple[Array, Array]:
        noise = jax.random.normal(key, (size, DIM))
        return noise, transport(denoiser.module, noise, 32)

    held_out = pairs(check_key)
    straight = fit(
        keys[3],
        start.straight,
        straight_loss,
        num_steps=num_steps,
        learning_rate=2e-3,
        refresh=lambda key, _: pairs(key),
        validate=eqx.filter_jit(lambda network: straight_loss(network, check_key, held_out, 4096)),
        check_every=500,
        progress=True,
        description="straightened flow",
    )
    classifiers = {}
    for name, fit_key in zip(("reward", "judge"), keys[4:], strict=True):
        data = (jnp.asarray(thirds[name].pixels), jnp.asarray(thirds[name].labels))
        classifiers[name] = fit(
            fit_key,
            getattr(start, name),
            classifier_loss,
            data,
            num_steps=3000,
            learning_rate=3e-3,
            description=name,
        ).module
    weights = Weights(denoiser.module, straight.module, classifiers["reward"], classifiers["judge"])
    one_step = held_out[0] - jax.vmap(straight.module, in_axes=(0, None))(held_out[0], jnp.asarray(HALF_TURN))
    metrics = {
        "denoiser_loss_seen": float(denoiser_loss(denoiser.module, check_key, seen, 4096)),
        "denoiser_loss_unseen": float(denoiser.checks.min()),
        "straight_one_step_mse": float(jnp.mean((one_step - held_out[1]) ** 2)),
        "reward_accuracy": accuracy(weights.reward, thirds["test"]),
        "judge_accuracy": accuracy(weights.judge, thirds["test"]),
    }
    return weights, metrics


def main() -> None:
    """Train, print the metrics and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="the file of weights")
    parser.add_argument("--steps", type=int, default=12_000, help="gradient steps of each flow")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    weights, metrics = train(jax.random.key(arguments.seed), arguments.steps)
    for name, value in metrics.items():
        print(f"{name:24s} {value:.4f}")
    record = {"sizes": SIZES, "seed": arguments.seed, "steps": arguments.steps, "metrics": metrics}
    print(f"wrote {nn.save(arguments.out, weights, record)}")


if __name__ == "__main__":
    main()
