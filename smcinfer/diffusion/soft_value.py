r"""Learning the soft value of a diffusion: the best twist there is, and with its gradient the best drift.

.. math:: V_t(x) = \log E\Bigl[ \prod_{s > t} \phi_s \Bigm| x_t = x \Bigr]

from paths of the process itself. With G the log of the product on a path, the loss

.. math:: E\bigl[ e^{G - V(x_t)} - (G - V(x_t)) - 1 \bigr]

is least exactly there, is convex in V, and does not need Z.

Source: Li et al. (2024) for the soft value; the loss is the linear-exponential one of Varian (1975).
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.compose import Composed
from smcinfer.core.nouns import Bootstrap
from smcinfer.core.weights import log_mean_exp
from smcinfer.diffusion.process import GaussianSteps
from smcinfer.diffusion.schedule import NoiseSchedule
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.run.fit import Fitted, fit

Point = Float[Array, "*shape"]
Network = Callable[[Array, Array], Array]
"""``(x, time) -> Float[""]``."""

# Where a path earned this many nats more than foreseen the loss goes on along its tangent: no path must rule a batch.
LARGEST_SURPRISE = 4.0


class ValueNetwork(eqx.Module):
    """A small network of a point and the log of its noise ratio (made by `value_network`)."""

    layers: eqx.nn.MLP
    schedule: NoiseSchedule

    def __call__(self, x: Point, time: Scalar) -> Scalar:
        """Float[""], nats."""
        schedule = jax.lax.stop_gradient(self.schedule)
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        clock = jnp.log(jnp.maximum(sigma / alpha, 1e-4))
        # One unit of size at every noise level.
        seen = x.reshape(-1) / jnp.sqrt(alpha**2 + sigma**2)
        return self.layers(jnp.concatenate([seen, jnp.stack([clock / 3.0, jnp.sin(clock), jnp.cos(clock)])]))


def value_network(
    key: KeyArray, schedule: NoiseSchedule, shape: tuple[int, ...], *, width: int = 64, depth: int = 2
) -> ValueNetwork:
    """An untrained network for `learn_soft_value`.

    Args:
        key: one random key.
        schedule: of the model.
        shape: of one point.
        width, depth: of the hidden layers.
    """
    layers = eqx.nn.MLP(math.prod(shape) + 3, "scalar", width, depth, activation=jax.nn.silu, key=key)
    return ValueNetwork(layers, schedule)


class Centred(eqx.Module):
    """A network around the log of the mean, which is where untrained it should stand."""

    network: Network
    baseline: Scalar

    def __call__(self, x: Point, time: Scalar) -> Scalar:
        """Float[""], nats."""
        return self.baseline + self.network(x, time)


class GradientOf(eqx.Module):
    """The gradient of a value in x, a control for `alignment` and `corrected`."""

    network: Network

    def __call__(self, x: Point, time: Scalar) -> Point:
        """Float["*shape"]."""
        return jax.grad(self.network)(x, time)


class Paths(eqx.Module):
    """Paths of a process, time first: the points, and what is still to come of each (log, nats)."""

    x: Float[Array, "num_times num_paths *shape"]
    to_come: Float[Array, "num_times num_paths"]


@eqx.filter_jit
def simulate(key: KeyArray, model: Composed, num_paths: int) -> Paths:
    """Paths of a model's process with nothing asked of it, at t = 0 .. T - 1.

    Args:
        key: one random key.
        model: made by `alignment` or `corrected`.
        num_paths: how many.
    """
    process = model.process
    start_key, step_key = jax.random.split(key)
    law: Any = process.initial()
    zero = jnp.zeros((), jnp.int32)
    start = jax.vmap(lambda x: process.advance(zero, None, x))(law.sample(start_key, (num_paths,)))

    def step(states: Any, t: Int[Array, ""]) -> tuple[Any, tuple[Array, Array]]:
        x, _ = Bootstrap(process).propose(jax.random.fold_in(step_key, t), t, states, num_paths)
        moved: Any = jax.vmap(lambda state, x: process.advance(t, state, x))(states, x)
        return moved, (states.x, jax.vmap(lambda state: model.potential(t, state))(moved))

    _, (points, earned) = jax.lax.scan(step, start, jnp.arange(1, model.num_steps + 1, dtype=jnp.int32))
    return Paths(points, jnp.cumsum(earned[::-1], axis=0)[::-1])


def learn_soft_value(
    key: KeyArray,
    model: Composed,
    network: Network,
    *,
    num_paths: int = 4096,
    num_steps: int = 2000,
    batch_size: int = 512,
    learning_rate: float = 2e-3,
    progress: bool = False,
) -> Fitted:
    """Train a network to foresee what a diffusion earns.

    Args:
        key: one random key.
        model: made by `alignment` or `corrected`; its own twist and proposal are not used.
        network: ``(x, time) -> Float[""]``, an equinox module; `value_network` makes one.
        num_paths: paths to learn from, drawn once.
        num_steps: gradient steps.
        batch_size: points a step, over all times.
        learning_rate: of Adam.
        progress: draw a bar on stderr.

    Returns:
        `Fitted`, whose ``module`` is the network: ``SoftValue(module)`` is a look-ahead, ``GradientOf(module)`` a
        control.
    """
    process = model.process
    if not isinstance(process, GaussianSteps):
        raise ArgumentError("no diffusion", expected="made by alignment or corrected", got=type(process).__name__)
    path_key, fit_key = jax.random.split(key)
    paths = simulate(path_key, model, num_paths)
    times, count = process.times, paths.to_come.shape[0]
    start = Centred(network, log_mean_exp(paths.to_come[0]))

    def loss(module: Centred, key: KeyArray, paths: Paths) -> Scalar:
        t_key, i_key = jax.random.split(key)
        t = jax.random.randint(t_key, (batch_size,), 0, count)
        i = jax.random.randint(i_key, (batch_size,), 0, num_paths)
        surprise = paths.to_come[t, i] - jax.vmap(module)(paths.x[t, i], times[t])
        inside = jnp.minimum(surprise, LARGEST_SURPRISE)
        slope = jnp.exp(LARGEST_SURPRISE) - 1.0
        return jnp.mean(jnp.exp(inside) - inside - 1.0 + slope * (surprise - inside))

    return fit(
        fit_key,
        start,
        loss,
        paths,
        num_steps=num_steps,
        learning_rate=learning_rate,
        progress=progress,
        description="soft value",
    )
