r"""State-space models with unknown parameters: a prior, and a model built from a draw of it.

.. math:: p(\theta, x_{0:T}, y_{0:T}) = p(\theta)\, p_\theta(x_{0:T}) \prod_t g_\theta(y_t \mid x_t)

Parameters live on unconstrained vectors (`smcinfer.static.prior`), where kernels move them; what is built from them sees their
own names, shapes and supports.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core import smc
from smcinfer.core.compose import Composed
from smcinfer.core.conditional import Conditioned, Fixed, Path, log_joint
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.settings import Settings
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError, calling
from smcinfer.kernels.base import TemperedDensity
from smcinfer.state_space.model import StateSpace
from smcinfer.state_space.smoothing.smooth import draw_path
from smcinfer.static.prior import Prior

Position = Float[Array, " dim"]


class Parametric(eqx.Module):
    """A model with unknown parameters (made by `parametric`).

    Attributes:
        prior: of the parameters.
        build: ``theta -> Composed``, theta as the prior was written (one value, or a dict).
        num_steps: T, the same whatever the parameters.
    """

    prior: Prior
    build: Callable[[Any], Composed]
    num_steps: int = eqx.field(static=True)

    def at(self, position: Position) -> Composed:
        """The model at an unconstrained vector."""
        return self.build(self.prior.values(position))

    def log_likelihood(self, key: KeyArray, position: Position, settings: Settings) -> Scalar:
        """log of an unbiased estimate of p(y_0:T | theta), nats; minus infinity where it is undefined."""
        return log_z(filter_to(key, self.at(position), settings, jnp.asarray(self.num_steps, jnp.int32)))

    def estimated(self, key: KeyArray, settings: Settings) -> TemperedDensity:
        """Prior times the likelihood estimate that one key gives."""
        one = jnp.ones((), jnp.result_type(float))
        return TemperedDensity(self.prior.log_density, lambda x: self.log_likelihood(key, x, settings), one)

    def given_path(self, path: Path) -> TemperedDensity:
        """Prior times p(x_0:T, y_0:T | theta), exactly: what theta follows once the path is known."""

        def joint(position: Array) -> Array:
            value = log_joint(self.at(position), path)
            return jnp.where(jnp.isnan(value) | (value == jnp.inf), -jnp.inf, value).astype(position.dtype)

        return TemperedDensity(self.prior.log_density, joint, jnp.ones((), jnp.result_type(float)))


def filter_to(key: KeyArray, model: FeynmanKac, settings: Settings, last: Array) -> smc.SMCState:
    """One run of the filter up to a step.

    Args:
        key: one random key.
        model: what is filtered.
        settings: of the filter.
        last: Int[""], the last step; may be traced.

    Returns:
        The state after step ``last``; leaves keep their leading axis of one run.
    """
    state, _ = smc.init(key[None], model, settings)
    return jax.lax.fori_loop(1, last + 1, lambda t, state: smc.step(t, state, model, settings)[0], state)


def log_z(state: smc.SMCState) -> Scalar:
    """log Z_hat of one run's state, nats; NaN counts as minus infinity."""
    value = (state.log_z + state.log_z_error)[0]
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


def filter_path(key: KeyArray, model: Composed | Conditioned, settings: Settings) -> Path:
    """A path drawn from a run's last weights.

    Args:
        key: one random key.
        model: what is filtered, or its conditional twin that keeps a path.
        settings: of the filter, with full history.
    """
    run_key, draw_key = jax.random.split(key)
    state, first = smc.init(run_key[None], model, settings)
    _, later = smc.scan(jnp.ones((), jnp.int32), state, model, settings, model.num_steps)
    kept = ("particles", "log_weights", "ancestors")
    joined = {
        name: jax.tree.map(lambda start, rest: jnp.concatenate([start, rest[0]]), first[name], later[name])
        for name in kept
    }
    return draw_path(draw_key, *(joined[name] for name in kept))


def next_path(key: KeyArray, model: Composed, path: Path, settings: Settings, *, ancestor_sampling: bool) -> Path:
    """One step of the particle Gibbs kernel: it leaves p(x_0:T | y_0:T) invariant for any number of particles above one.

    Args:
        key: one random key.
        model: what is filtered.
        path: x_0 .. x_T as it is, every leaf ``(T+1, ...)``.
        settings: of the filter, with full history.
        ancestor_sampling: whether the kept path draws whom it descends from at each step.

    Source: Andrieu, Doucet & Holenstein (2010), section 4.3; Lindsten, Jordan & Schon (2014).
    """
    return filter_path(key, Conditioned(model, Fixed(path), ancestor_sampling, model.num_steps), settings)


def check_parametric(who: str, target: Any) -> None:
    """Raise `ArgumentError` unless a target has parameters to draw: ``who`` asks for them."""
    if not isinstance(target, Parametric):
        raise ArgumentError(
            f"target of {who} needs unknown parameters", expected="parametric(prior, build)", got=type(target).__name__
        )


def check_model(model: Any, what: str = "target") -> Composed:
    """The model itself, once it is sure that paths can be drawn from it.

    Args:
        model: what a caller gave, or what ``build`` returned.
        what: which of the two it is, for the message.

    Raises:
        TargetError: it is not composed, or its state is not x.
    """
    if not isinstance(model, Composed):
        raise TargetError(
            f"{what} is no composed model, of which paths could be drawn",
            expected="a model made by state_space or compose",
            got=type(model).__name__,
        )
    if not model.process.state_is_x:
        raise TargetError(
            f"{what} has a state that is not x itself",
            expected="a process without an advance of its own",
            got=type(model.process).__name__,
        )
    return model


def parametric(prior: PyTree[Any], build: Callable[[Any], Composed]) -> Parametric:
    """A state-space model with unknown parameters, checked before any work.

    Args:
        prior: a numpyro distribution, or a (nested) dict of them.
        build: ``theta -> model``, theta as the prior draws it (a value, or a dict), the model made by `state_space` or
            `compose`. It is traced: no Python branch on a value of theta.

    Returns:
        What `particle_gibbs`, `pmmh` and `smc2` take; with models without data, what `smcinfer.online` takes.

    Raises:
        TargetError: for an improper or discrete prior, or a ``build`` that raises or returns no composed model.
    """
    base = Prior.of(prior)
    with calling(
        "build",
        expected="theta -> a model made by state_space or compose",
        hint="build gets theta as the prior draws it, and is traced by JAX",
    ):
        reference = build(base.values(base.sample(jax.random.key(0), 1)[0]))
        model = Parametric(base, build, check_model(reference, "what build returned").num_steps)
        settings = Settings(2, history="none")
        vector = jax.ShapeDtypeStruct((base.dim,), jnp.result_type(float))
        # Without data there is no likelihood to look at before they come.
        if not (isinstance(reference, StateSpace) and reference.observations.awaited):
            jax.eval_shape(lambda x: model.log_likelihood(jax.random.key(0), x, settings), vector)
    return model
