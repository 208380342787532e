r"""Maximum likelihood: parameters that climb the score of a particle filter.

.. math:: \theta_{k+1} = \theta_k + a_k\, \widehat{\nabla \log p_{\theta_k}(y)}

Steps are those of Adam, and shrink to nothing by a cosine, so that the noise of the score averages out; the estimate is the
mean of the last quarter of the way. Standard errors come from the observed information there.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from smcinfer.core.settings import Settings
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.programs import compiled
from smcinfer.results.likeliest import Likeliest
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock
from smcinfer.state_space.parameters.parametric import Parametric, Position
from smcinfer.state_space.parameters.scores import Slopes, slopes
from smcinfer.state_space.parameters.start import likely_position
from smcinfer.static.prior import numbers_as_arrays

FRESH = 16
"""Filters at the end: of the log likelihood, its error, and the information."""


def maximum_likelihood(
    key: Any,
    target: Parametric,
    *,
    num_particles: int = 256,
    num_steps: int = 200,
    learning_rate: float = 0.1,
    resampling: str = "systematic",
) -> Likeliest:
    """The parameters of a state-space model that make its data likeliest, with standard errors.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same estimate bit for bit.
        target: made by `parametric`. Of its prior only the names, the supports and a few draws to start from are used.
        num_particles: of each filter. The score has a bias of order 1/N, and a variance that grows with the square of the
            length of the series over N.
        num_steps: of the climb, one filter each.
        learning_rate: the first step, on the unconstrained scale.
        resampling: name of a scheme.

    Returns:
        `Likeliest`: estimate, standard errors, log likelihood; prints itself.

    Raises:
        ArgumentError: before any work.

    Source: Poyiadjis, Doucet & Singh (2011); Scibior & Wood (2021).
    """
    if not isinstance(target, Parametric):
        raise ArgumentError(
            "target needs unknown parameters", expected="parametric(prior, build)", got=type(target).__name__
        )
    target = numbers_as_arrays(target)
    num_steps = validate.count("num_steps", num_steps, at_least=4)
    rate = validate.number("learning_rate", learning_rate, above=0.0)
    settings, typed = Settings(num_particles, resampling, history="none"), as_typed_key(key)
    started = time.perf_counter()
    with compile_clock() as compiling:
        positions, values = _climb(typed, target, settings, num_steps, jnp.asarray(rate))
        last = jnp.mean(positions[-max(1, num_steps // 4) :], axis=0)
        fresh = _fresh(jax.random.fold_in(typed, num_steps), target, last, settings)
        information = np.asarray(jnp.mean(fresh.information, axis=0), np.float64)
        estimate, jacobian = jax.tree.map(np.asarray, _on_its_scale(target, last))
    dead = not np.isfinite(np.asarray(fresh.log_z)).all()
    return Likeliest(
        estimate=estimate,
        se={name: _errors(part, information) for name, part in jacobian.items()},
        information=information,
        positions=np.asarray(positions),
        log_likelihoods=np.asarray(values),
        log_likelihood_runs=np.asarray(fresh.log_z),
        settings={
            "num_particles": num_particles,
            "learning_rate": rate,
            "resampling": resampling,
            "key": np.asarray(jax.random.key_data(typed)).tolist(),
        },
        status=Status.ALL_WEIGHTS_ZERO if dead else Status.OK,
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


@compiled
def _climb(
    key: KeyArray, target: Parametric, settings: Settings, num_steps: int, rate: Array
) -> tuple[Float[Array, "steps dim"], Float[Array, " steps"]]:
    """Positions and log likelihood estimates of all steps."""
    start_key, key = jax.random.split(key)
    start, _ = likely_position(start_key, target, settings)
    adam = optax.scale_by_adam()

    def once(carry: tuple[Position, Any], step: Array) -> tuple[tuple[Position, Any], tuple[Position, Array]]:
        position, moments = carry
        found = slopes(jax.random.fold_in(key, step), target, position, settings)
        # A filter that died, or a density that is no number there, says nothing of where to go.
        score = jnp.where(jnp.isfinite(found.score), found.score, 0.0)
        way, moments = adam.update(score, moments)
        length = rate * 0.5 * (1.0 + jnp.cos(jnp.pi * step / num_steps))
        moved = position + length * way
        return (moved, moments), (moved, found.log_z)

    return jax.lax.scan(once, (start, adam.init(start)), jnp.arange(num_steps))[1]


@compiled
def _fresh(key: KeyArray, target: Parametric, position: Position, settings: Settings) -> Slopes:
    """Independent filters at one point, with second derivatives."""
    look = lambda key: slopes(key, target, position, settings, twice=True)  # noqa: E731
    return jax.lax.map(look, jax.random.split(key, FRESH))


@compiled
def _on_its_scale(target: Parametric, position: Position) -> tuple[dict[str, Array], dict[str, Array]]:
    """Parameters by name, and their derivatives by the unconstrained position."""
    return target.prior.constrain(position), jax.jacfwd(target.prior.constrain)(position)


def _errors(jacobian: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Standard errors by the delta method; NaN where the information is not positive definite."""
    if not np.isfinite(information).all() or np.linalg.eigvalsh(information).min() <= 0:
        return np.full(jacobian.shape[:-1], np.nan)
    covariance = np.linalg.inv(information)
    return np.asarray(np.sqrt(np.einsum("...i,ij,...j->...", jacobian, covariance, jacobian)))
