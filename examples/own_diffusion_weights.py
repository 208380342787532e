"""Bringing your own weights: a network trained elsewhere, and what it makes of a noisy half of a picture.

    python examples/own_diffusion_weights.py [--weights FILE.npz] [--out output/own_weights]

The file holds a small convolutional network that predicts the noise in MNIST digits, trained in torch by others (MIT
licence), with its table of cumulative products. A few lines of equinox hold such weights, one says what they predict.
The upper half of a drawn digit is seen under noise of half the range of a pixel, and the lower one is completed.

What a network makes of nearly pure noise is divided by an alpha of a hundredth, and its gradient more so: trusted there
(`strength=1.0`), the drift costs thousands of nats. `strength="signal"` leaves the noise alone and is what makes the
weights even. Seeing half a digit is still worth twenty to thirty nats, so that few of the starts have descendants; the
error bar of log Z comes from independent runs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import smcinfer
from smcinfer import diffusion
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.plots import style

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "diffusion" / "sdaloglu_linear100ep.npz"
SIDE, NUM_SHOWN, CHOSEN = 28, 8, 4
NOISE_STD = 0.5


class Network(eqx.Module):
    """Four convolutions with layer norms, a time embedding added after the first, and a last convolution: the noise in x."""

    weights: dict[str, Array]
    num_times: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "side side"], time: Scalar) -> Float[Array, "side side"]:
        """The noise, at a time that is an index into the table."""
        hidden = self._block(0, x[None]) + self._embed(time / (self.num_times - 1))[:, None, None]
        for block in (1, 2, 3):
            hidden = self._block(block, hidden)
        return self._convolve("blocks.4", hidden)[0]

    def _block(self, number: int, x: Array) -> Array:
        hidden = self._convolve(f"blocks.{number}.net.0", x)
        hidden = (hidden - hidden.mean()) / jnp.sqrt(hidden.var() + 1e-5)
        name = f"blocks.{number}.net.1"
        return jax.nn.gelu(hidden * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"], approximate=False)

    def _convolve(self, name: str, x: Array) -> Array:
        """A convolution by Fourier transforms: XLA runs plain ones inside a loop on a CPU up to twenty times slower."""
        kernel, (height, width) = self.weights[f"{name}.weight"], x.shape[1:]
        edge = kernel.shape[-1] // 2
        size = (height + 2 * edge, width + 2 * edge)
        # Networks correlate, so the kernel is turned round.
        product = jnp.einsum("oihw,ihw->ohw", jnp.fft.rfft2(kernel[:, :, ::-1, ::-1], size), jnp.fft.rfft2(x, size))
        out = jnp.fft.irfft2(product, size)[:, edge : edge + height, edge : edge + width]
        return out + self.weights[f"{name}.bias"][:, None, None]

    def _embed(self, fraction: Array) -> Array:
        phases = fraction * self.weights["frequencies"]
        hidden = jnp.concatenate([jnp.sin(phases), jnp.cos(phases) - 1.0])
        for layer in (0, 2, 4, 6):
            hidden = self.weights[f"time_embed.{layer}.weight"] @ hidden + self.weights[f"time_embed.{layer}.bias"]
            hidden = jax.nn.gelu(hidden, approximate=False) if layer < 6 else hidden
        return hidden


class Clipped(eqx.Module):
    """The mean of the data that the network's noise means, kept where pixels can be: far out the noise is divided by little."""

    network: Network
    schedule: diffusion.NoiseSchedule

    def __call__(self, x: Float[Array, "side side"], time: Scalar) -> Float[Array, "side side"]:
        """The data, at a time."""
        noise = self.schedule.sigma(time) * self.network(x, time)
        return jnp.clip((x - noise) / self.schedule.alpha(time), -0.5, 0.5)


def load(path: Path) -> diffusion.Model:
    """The network of a file as a model: weights by name, and the schedule they were trained under."""
    arrays = dict(np.load(path))
    weights = {name.removeprefix("gt."): jnp.asarray(value) for name, value in arrays.items() if name.startswith("gt.")}
    alpha_bar = np.asarray(arrays["alpha_t"], np.float64)
    schedule = diffusion.tabulated(alpha_bar)
    denoiser = Clipped(Network(weights, len(alpha_bar)), schedule)
    return diffusion.diffusion_model(denoiser, schedule, (SIDE, SIDE), parameterisation="x0")


def main(weights: Path, out: Path, num_particles: int, num_steps: int) -> None:
    """Draw digits, see the upper half of one under noise, and complete it."""
    if not weights.is_file():
        print(f"no weights at {weights}: nothing to show")
        return
    out.mkdir(parents=True, exist_ok=True)
    model = load(weights)
    plain = diffusion.alignment(model, lambda x: 0.0 * x.sum(), look="none", num_steps=num_steps)
    drawn = smcinfer.sample(jax.random.key(0), plain, num_particles=NUM_SHOWN, num_runs=1)
    digits = np.asarray(drawn.particles["x"])[0]
    upper = np.arange(SIDE)[:, None] * np.ones(SIDE) < SIDE // 2
    noisy = digits[CHOSEN] + NOISE_STD * np.random.default_rng(0).standard_normal((SIDE, SIDE))
    seen = diffusion.inpainting(upper, noisy, NOISE_STD, data_std=0.2)
    target = diffusion.alignment(model, seen, num_steps=num_steps, proposal="gradient", strength="signal")
    result = smcinfer.sample(jax.random.key(1), target, num_particles=num_particles, num_runs=4)
    print(result)
    completed = np.asarray(result.draws(jax.random.key(2), NUM_SHOWN)["x"])
    residual = (completed - noisy)[:, upper]
    print(f"completions differ from what was seen by {residual.std():.2f}; the noise has {NOISE_STD}")
    rows = {
        "the digit, and what was seen of it": [digits[CHOSEN], np.where(upper, noisy, np.nan)],
        "drawn freely": digits,
        "completed": completed,
    }
    figure = draw(rows)
    figure.savefig(out / "digits.png")
    print(f"saved {out / 'digits.png'}")


def draw(rows: dict[str, Sequence[np.ndarray]]) -> Figure:
    """Rows of images."""
    figure = style.new_figure(height=4.0)
    axes = figure.subplots(len(rows), NUM_SHOWN)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image, cmap="gray_r", vmin=-0.5, vmax=0.5)
        line[0].set_title(name, loc="left", fontsize=8)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=DEFAULT, help="the npz file")
    parser.add_argument("--out", type=Path, default=Path("output/own_weights"), help="folder for the figure")
    parser.add_argument("--num-particles", type=int, default=24)
    parser.add_argument("--num-steps", type=int, default=80)
    arguments = parser.parse_args()
    main(arguments.weights, arguments.out, arguments.num_particles, arguments.num_steps)
