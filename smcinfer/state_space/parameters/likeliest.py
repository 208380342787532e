"""Maximum likelihood: parameters that climb the likelihood of particle filters, and their standard errors.

The estimate is the mean of the last quarter of the way. Standard errors come from the observed information there.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.settings import Settings
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.programs import compiled
from smcinfer.results.likeliest import Likeliest
from smcinfer.run.runner import as_typed_key
from smcinfer.run.watch import compile_clock
from smcinfer.state_space.parameters.climbs import CLIMBS, Climb, Score, Steps
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
    method: str | Climb = "score",
    learning_rate: float | None = None,
    resampling: str = "systematic",
) -> Likeliest:
    """The parameters of a state-space model that make its data likeliest, with standard errors.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same estimate bit for bit.
        target: made by `parametric`. Of its prior only the names, the supports and a few draws to start from are used.
        num_particles: of each filter. The score has a bias of order 1/N, and a variance that grows with the square of the
            length of the series over N.
        num_steps: of the climb, one pass of a filter through the data each.
        method: how to climb: ``"score"``, ``"iterated_filtering"``, or `Score`, `IteratedFiltering` or `OnlineEM` with
            settings of their own.
        learning_rate: of the score, `Score`'s own where ``None``.
        resampling: name of a scheme.

    Returns:
        `Likeliest`: estimate, standard errors, log likelihood; prints itself.

    Raises:
        ArgumentError: before any work.

    Source: Poyiadjis, Doucet & Singh (2011); Scibior & Wood (2021); Ionides et al. (2015); Cappe (2011).
    """
    if not isinstance(target, Parametric):
        raise ArgumentError(
            "target needs unknown parameters", expected="parametric(prior, build)", got=type(target).__name__
        )
    target = numbers_as_arrays(target)
    num_steps = validate.count("num_steps", num_steps, at_least=4)
    climb = _climb_of(method, learning_rate)
    settings, typed = Settings(num_particles, resampling, history="none"), as_typed_key(key)
    started = time.perf_counter()
    with compile_clock() as compiling:
        positions, values = _climb(typed, target, settings, num_steps, climb)
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
            "method": climb.name,
            "resampling": resampling,
            "key": np.asarray(jax.random.key_data(typed)).tolist(),
        },
        status=Status.ALL_WEIGHTS_ZERO if dead else Status.OK,
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


def _climb_of(method: str | Climb, learning_rate: float | None) -> Climb:
    """The way that a method names; the one that it is."""
    if learning_rate is not None:
        if method != "score":
            raise ArgumentError('learning_rate is of method="score"', expected="learning_rate=None", got=learning_rate)
        return Score(learning_rate)
    if isinstance(method, str):
        return CLIMBS[validate.one_of("method", method, CLIMBS)]()
    return validate.instance("method", method, Climb, "a name, Score(...), IteratedFiltering(...) or OnlineEM(...)")


@compiled
def _climb(key: KeyArray, target: Parametric, settings: Settings, num_steps: int, climb: Climb) -> Steps:
    """Positions and log likelihood estimates of all passes."""
    start_key, key = jax.random.split(key)
    start, _ = likely_position(start_key, target, settings)
    return climb.steps(key, target, settings, start, num_steps)


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
