"""Bringing your own weights: a network trained elsewhere, drawn from under an inpainting and a reward.

    python examples/own_diffusion_weights.py [--weights FILE.npz] [--out output/own_weights]

The file holds a small convolutional network that predicts the noise in MNIST digits, trained in torch by others (MIT
licence), with its table of cumulative products. A few lines of equinox hold such weights, one says what they predict.
In 784 dimensions a handful of particles is enough to draw from, not to measure: do not believe the log Z of the
completion, of which the status says that one family of particles is left.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import smcinfer
from smcinfer import diffusion
from smcinfer.arrays import Array, Float, Scalar
from smcinfer.plots import style

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "diffusion" / "sdaloglu_linear100ep.npz"
SIDE = 28


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
        out = jax.lax.conv_general_dilated(x[None], self.weights[f"{name}.weight"], (1, 1), "SAME")[0]
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
    schedule: diffusion.Schedule

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
    """Complete digits from their upper halves, and ask for slender ones."""
    if not weights.is_file():
        print(f"no weights at {weights}: nothing to show")
        return
    out.mkdir(parents=True, exist_ok=True)
    model = load(weights)
    options = {"num_steps": num_steps, "kernel": "ddpm"}
    drawn = smcinfer.sample(
        jax.random.key(0),
        diffusion.alignment(model, lambda x: 0.0 * x.sum(), look="none", **options),
        num_particles=8,
        num_runs=1,
    )
    digit = drawn.particles["x"][0, 0]
    upper = np.arange(SIDE)[:, None] * np.ones(SIDE) < SIDE // 2
    seen = diffusion.inpainting(upper, digit, 0.5, data_std=0.3)
    rows = {"drawn": drawn}
    for name, reward, temperature in (
        ("lower half completed", seen, 1.0),
        ("little ink", lambda x: -jnp.mean(x + 0.5), 0.01),
    ):
        target = diffusion.alignment(model, reward, temperature, proposal="gradient", **options)
        rows[name] = smcinfer.sample(jax.random.key(1), target, num_particles=num_particles, num_runs=1)
        print(name)
        print(rows[name])
    figure = style.new_figure(height=4.0)
    axes = figure.subplots(len(rows), 8)
    for line, (name, result) in zip(axes, rows.items(), strict=True):
        points = result.draws(jax.random.key(2), 8)["x"].reshape(8, SIDE, SIDE)
        for axis, image in zip(line, points, strict=True):
            axis.imshow(image, cmap="gray_r", vmin=-0.5, vmax=0.5)
            axis.set_axis_off()
        line[0].set_title(name, loc="left", fontsize=8)
    figure.savefig(out / "digits.png")
    print(f"saved {out / 'digits.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=DEFAULT, help="the npz file")
    parser.add_argument("--out", type=Path, default=Path("output/own_weights"), help="folder for the figure")
    parser.add_argument("--num-particles", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=50)
    arguments = parser.parse_args()
    main(arguments.weights, arguments.out, arguments.num_particles, arguments.num_steps)
