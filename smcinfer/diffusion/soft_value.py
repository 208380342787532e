r"""The soft value of a diffusion as a twist that can be learned: the best twist there is, and with its gradient the best drift.

.. math:: V_t(x) = \log E\Bigl[ \prod_{s > t} \phi_s \Bigm| x_t = x \Bigr]

`smcinfer.twists.learn` learns it from paths of the process itself, by ``objective="linex"``.

Source: Li et al. (2024).
"""

import math
from collections.abc import Callable
from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.core.compose import Composed
from smcinfer.core.nouns import Process, Proposal
from smcinfer.diffusion.process import GaussianSteps
from smcinfer.diffusion.proposals import Controlled
from smcinfer.diffusion.schedule import NoiseSchedule
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Point, Scalar, Time
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.run.runner import as_typed_key, run
from smcinfer.twists.learned import LearnedTwist, attach

Network = Callable[[Array, Array], Array]
"""``(x, time) -> Float[""]``, nats."""


class ValueNetwork(eqx.Module):
    """A small network of a point and the log of its noise ratio (made by `value_network`)."""

    layers: eqx.nn.MLP
    schedule: NoiseSchedule

    def __call__(self, x: Point, time: Scalar) -> Scalar:
        """Float[""], nats, of a point Float["*shape"] at a diffusion time."""
        schedule = jax.lax.stop_gradient(self.schedule)
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        clock = jnp.log(jnp.maximum(sigma / alpha, 1e-4))
        # One unit of size at every noise level.
        seen = x.reshape(-1) / jnp.sqrt(alpha**2 + sigma**2)
        return self.layers(jnp.concatenate([seen, jnp.stack([clock / 3.0, jnp.sin(clock), jnp.cos(clock)])]))


def value_network(
    key: KeyArray, schedule: NoiseSchedule, shape: tuple[int, ...], *, width: int = 64, depth: int = 2
) -> ValueNetwork:
    """An untrained network for `soft_value`.

    Args:
        key: of the first weights.
        schedule: that of the model.
        shape: axes of one point.
        width, depth: of the hidden layers.
    """
    layers = eqx.nn.MLP(math.prod(shape) + 3, "scalar", width, depth, activation=jax.nn.silu, key=key)
    return ValueNetwork(layers, schedule)


class SoftValue(LearnedTwist):
    """log psi_t as a network around a level, for one process (made by `soft_value`).

    It is a function ``(x, time) -> Float[""]`` as well: the ``look`` of an `alignment`, the ``twist`` of `corrected`.

    Attributes:
        network: ``(x, time) -> Float[""]``, nats.
        level: Float[""], where it stands untrained, nats.
        times: Float["T+1"], diffusion times of the process, fixed.
    """

    network: Network
    level: Scalar
    times: Float[Array, " num_times"]

    def __call__(self, x: Point, time: Scalar) -> Scalar:
        """Float[""], nats, of a point Float["*shape"] at a diffusion time."""
        return self.level + self.network(x, time)

    @override
    def look(self, law: Distribution, state: Any) -> Point:
        # Before x_0 is drawn there is no point, and nothing will be asked of it.
        return jnp.zeros(law.event_shape) if state is None else state.x

    @override
    def log_mean(self, t: Time, seen: Point) -> Scalar:
        return self(seen, jax.lax.stop_gradient(self.times)[t - 1])

    @override
    def log_value(self, t: Time, seen: Point, x: Point) -> Scalar:
        raise TargetError(
            "a soft value says nothing of the potential of a step itself",
            expected='twists.learn(key, target, "linex", twist=...)',
            got="an objective that asks for log chi_t",
        )

    @override
    def proposal(self, process: Process) -> Proposal:
        if not isinstance(process, GaussianSteps):
            raise ArgumentError("this is no diffusion", expected="alignment or corrected", got=type(process).__name__)
        return Controlled(process, GradientOf(self))


class GradientOf(eqx.Module):
    """The gradient of a value in x, a control for `alignment` and `corrected`.

    Attributes:
        network: ``(x, time) -> Float[""]``, nats.
    """

    network: Network

    def __call__(self, x: Point, time: Scalar) -> Point:
        """Float["*shape"], nats per unit of x."""
        return jax.grad(self.network)(x, time)


def soft_value(
    key: Any,
    target: Composed,
    network: Network | None = None,
    *,
    width: int = 64,
    depth: int = 2,
    num_paths: int = 1000,
) -> SoftValue:
    """A soft value to be learned by ``twists.learn(key, target, "linex", twist=...)``.

    Args:
        key: of the network's first weights, and of a few paths of the process that tell its level.
        target: made by `alignment` or `corrected`; its own twist and proposal are not used.
        network: ``(x, time) -> Float[""]``, an equinox module; a `value_network` where ``None``.
        width, depth: of that one's hidden layers.
        num_paths: paths that the level, log of the mean of what they earn, is measured on.

    Raises:
        ArgumentError: a target that is no diffusion, or numbers out of range.
    """
    if not (isinstance(target, Composed) and isinstance(target.process, GaussianSteps)):
        raise ArgumentError(
            "there is no diffusion whose value could be learned",
            expected="a target made by diffusion.alignment or diffusion.corrected",
            got=type(target).__name__,
        )
    validate.count("num_paths", num_paths)
    network_key, path_key = jax.random.split(as_typed_key(key))
    process: Any = target.process
    if network is None:
        sizes = {"width": validate.count("width", width), "depth": validate.count("depth", depth)}
        network = value_network(network_key, process.schedule, process.shape, **sizes)
    done = run(path_key, attach(target, None), num_paths, resample_below=0.0, history="none")
    return SoftValue(network, jnp.asarray(done.log_z[0]), process.times)
