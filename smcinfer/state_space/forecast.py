r"""Forecasts: particles of the filter sent on by the transition, and what would be observed of them.

.. math:: x_t^m \sim \sum_i W_t^i \delta_{x_t^i}, \qquad x_{t+h}^m \sim f(\cdot \mid x_{t+h-1}^m), \qquad
    y_{t+h}^m \sim g(\cdot \mid x_{t+h}^m)
"""

import dataclasses
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from smcinfer.core.nouns import Bootstrap
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Particles, PyTree, Time
from smcinfer.ground.names import leaves_by_name
from smcinfer.ground.programs import compiled
from smcinfer.results.forecast import Forecast, observations_by_name
from smcinfer.results.pooling import resample
from smcinfer.run.watch import compile_clock
from smcinfer.state_space.known import Clock, Known, put
from smcinfer.state_space.observed import Observed, fitted


def forecast(
    key: Any,
    model: Any,
    states: PyTree[Any],
    log_weights: Float[np.ndarray, "num_runs num_particles"],
    t: int,
    horizon: int,
    num_draws: int,
    settings: dict[str, Any],
) -> Forecast:
    """Draws of what follows a weighted cloud.

    Args:
        key: one random key.
        model: made by `state_space`; its transition and observation are the laws of the future.
        states: of the particles after step ``t``, every leaf ``(num_runs, num_particles, ...)``.
        log_weights: nats, over all runs together.
        t: the step that the cloud is of.
        horizon: steps ahead.
        num_draws: paths.
        settings: what the record says of how it was made.
    """
    horizon, num_draws = validate.count("horizon", horizon), validate.count("num_draws", num_draws, at_least=2)
    started = time.perf_counter()
    with compile_clock() as compiling:
        choose_key, draw_key = jax.random.split(key)
        chosen = resample(choose_key, np.asarray(log_weights).reshape(-1), num_draws)
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(-1, *leaf.shape[2:])[chosen], states)
        first = jnp.asarray(t + 1, jnp.int32)
        paths, seen = _onwards(draw_key, model, start, first, horizon)
    return Forecast(
        states=leaves_by_name(_paths_first(paths)),
        observations=observations_by_name(_paths_first(seen)),
        first=t + 1,
        log_density=partial(_log_scores, model, paths, first),
        settings=settings | {"weighted_for": Forecast.WEIGHTED_FOR, "num_draws": num_draws},
        status=Status.OK,
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


def onwards(model: Any, first: int, horizon: int, times: Any, inputs: PyTree[Any], clock: Clock | None) -> Any:
    """The model with the times and inputs of steps to come in place of those before.

    Args:
        model: made by `state_space`.
        first: the first step to come.
        horizon: how many steps there are.
        times, inputs: of these steps; ``None`` where the model has none.
        clock: where the steps before begin and end.

    Raises:
        ArgumentError: they are missing, of another shape, or too many.
    """
    if model.known is None:
        validate.not_given("a model without times and inputs", times=times, inputs=inputs)
        return model
    rows = model.known.onwards(validate.count("horizon", horizon), times, inputs, clock)
    return put(model, Known.of(rows, jnp.asarray(first, jnp.int32)))


def _paths_first(tree: PyTree[Any]) -> PyTree[Any]:
    """Every leaf from ``(H, M, ...)`` to ``(M, H, ...)``, on the host."""
    return jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), 0, 1), tree)


@compiled
def _onwards(key: KeyArray, model: Any, states: Particles, first: Time, horizon: int) -> tuple[Particles, PyTree[Any]]:
    """States and observations of ``horizon`` steps from step ``first`` on, every leaf with a leading axis of steps."""
    size = jax.tree.leaves(states)[0].shape[0]
    blind = Bootstrap(model.process)

    def once(states: Particles, part: tuple[KeyArray, Time]) -> tuple[Particles, tuple[Particles, PyTree[Any]]]:
        move_key, look_key = jax.random.split(part[0])
        states, _ = blind.propose(move_key, part[1], states, size)
        look = lambda key, x: model.observation(part[1], x).sample(key)  # noqa: E731
        return states, (states, jax.vmap(look)(jax.random.split(look_key, size), states))

    steps = first + jnp.arange(horizon, dtype=jnp.int32)
    return jax.lax.scan(once, states, (jax.random.split(key, horizon), steps))[1]


def _log_scores(model: Any, paths: Particles, first: Time, outcome: PyTree[Any]) -> Float[np.ndarray, " horizon"]:
    """log of the mean density of what came, over the paths, at every step, nats."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), paths)
    potential = fitted(model.potential.observation, outcome, "skip", one)
    seeing = dataclasses.replace(potential, data=dataclasses.replace(potential.data, first=first))
    return np.asarray(_mean_density(seeing, paths, first))


@compiled
def _mean_density(potential: Observed, paths: Particles, first: Time) -> Float[Array, " horizon"]:
    def once(t: Time, states: Particles) -> tuple[Time, Array]:
        each = jax.vmap(lambda x: potential(t, x))(states)
        return t + 1, logsumexp(each) - jnp.log(each.shape[0])

    return jax.lax.scan(once, first, paths)[1]
