"""The compiled step of an online filter: the driver's own, on a model that holds one observation.

What a step costs on the host is taking trees apart and putting them together. So trees are taken apart once, and the compiled
step takes and gives flat lists of arrays.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core import smc
from smcinfer.core.feynman_kac import RUNS, Mutation
from smcinfer.core.resampling import by_name
from smcinfer.core.settings import Settings
from smcinfer.core.state import over_runs
from smcinfer.core.weights import normalise
from smcinfer.ground.arrays import Array, Float, Int, Key, KeyArray, PyTree, Time
from smcinfer.state_space.model import StateSpace
from smcinfer.state_space.online.rows import Row, through


class Recent(eqx.Module):
    """Where each particle's ancestors were in the last steps, the latest first.

    Attributes:
        states: every leaf ``(num_runs, L + 1, N, ...)``; entries before step 0 repeat it.
        chosen: Int["num_runs L+1 N"], which particle of its step each of them is.
    """

    states: PyTree[Any]
    chosen: Int[Array, "num_runs rows n"]


class Filter(eqx.Module):
    """Where an online filter stands after a step.

    Attributes:
        state: of the driver.
        record: what the step left: moments, ESS, increment of log Z.
        recent: where a lag is kept, else ``None``.
    """

    state: smc.SMCState
    record: dict[str, Any]
    recent: Recent | None


@eqx.filter_jit
def begin(keys: Key[Array, " num_runs"], model: StateSpace, row: Row, settings: Settings, lag: int) -> Filter:
    """The filter after y_0.

    Args:
        keys: one a run.
        model: made by `state_space`.
        row: y_0.
        settings: of the driver.
        lag: steps to keep for the smoother; 0 for none.
    """
    state, record = smc.init(keys, through(model, jnp.zeros((), jnp.int32), row), settings)
    return Filter(state, _kept(record), _founders(state, lag) if lag else None)


@eqx.filter_jit
def begin_from(
    keys: Key[Array, " num_runs"],
    model: StateSpace,
    states: PyTree[Any],
    log_weights: Float[Array, "num_runs m"],
    settings: Settings,
    lag: int,
) -> Filter:
    """The filter of a weighted cloud, at the step that the cloud is of.

    Args:
        keys: one a run.
        model: made by `state_space`.
        states: every leaf ``(num_runs, M, ...)``; resampled where M is not the number of particles.
        log_weights: nats; the log of a run's sum is where its log Z starts.
        settings, lag: as in `begin`.
    """
    state, record = smc.init(keys, _Begun.extending(model, states=states, given=log_weights), settings)
    return Filter(state, _kept(record), _founders(state, lag) if lag else None)


class _Begun(StateSpace):
    """A model whose runs begin at states of their own."""

    states: PyTree[Any] = None
    given: Any = None

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """The run's own states, weighted as they are, and as many as are wanted."""
        run = jax.lax.axis_index(RUNS)
        states, given = jax.tree.map(lambda leaf: leaf[run], (self.states, self.given))
        if given.shape[0] != num_particles:
            chosen = by_name("systematic")(key, given, num_particles)
            states = jax.tree.map(lambda leaf: leaf[chosen], states)
            given = jnp.broadcast_to(normalise(given)[1] - jnp.log(num_particles), (num_particles,))
        # The driver weighs by the mean, and the weights here are to be summed.
        log_weights = given + jnp.log(num_particles).astype(given.dtype)
        return Mutation(self.carry(jnp.zeros((), jnp.int32), states), log_weights)


def advance(t: Time, before: Filter, model: StateSpace, row: Row, settings: Settings) -> Filter:
    """The filter after y_t.

    Args:
        t: Int[""], the step.
        before: after step t - 1.
        model, settings: as in `begin`.
        row: y_t.
    """
    seeing = through(model, t, row)
    state, record = smc.step(t, looking_ahead(t, before.state, seeing), seeing, settings)
    recent = None if before.recent is None else _handed_down(before.recent, state, record["ancestors"])
    return Filter(state, _kept(record), recent)


class Stepper:
    """The compiled step with all that does not change from one observation to the next taken apart beforehand.

    Args:
        model, settings: as in `begin`.
        structure: of the trees of a `Filter`.
    """

    def __init__(self, model: StateSpace, settings: Settings, structure: Any) -> None:
        arrays, still = eqx.partition(model, eqx.is_array)
        self._arrays, model_structure = jax.tree.flatten(arrays)
        functions, still_structure = jax.tree.flatten(still)
        self._still = _Still((tuple(functions), still_structure, model_structure, structure, settings))

    def __call__(self, t: int, leaves: list[Array], row: Row) -> list[Array]:
        """The arrays of a filter after y_t, from those before it."""
        return _flat_advance(self._still, np.int32(t), leaves, self._arrays, row)


class _Still:
    """All of a step that is no array, hashed once."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Still) and self.parts == other.parts)


@partial(jax.jit, static_argnums=0)
def _flat_advance(still: _Still, t: Time, leaves: list[Array], arrays: list[Array], row: Row) -> list[Array]:
    functions, still_structure, model_structure, structure, settings = still.parts
    parts = jax.tree.unflatten(model_structure, arrays), jax.tree.unflatten(still_structure, functions)
    after = advance(t, jax.tree.unflatten(structure, leaves), eqx.combine(*parts), row, settings)
    assert jax.tree.structure(after) == structure, "a step keeps the structure of what it starts from"
    return jax.tree.leaves(after)


def looking_ahead(t: Time, state: smc.SMCState, model: StateSpace) -> smc.SMCState:
    """The particles of step t - 1 with what is now known of step t's weight: an observation comes after the step before it.

    Args:
        t: Int[""], the step.
        state: after step t - 1.
        model: with the observation of step t.
    """
    particles: Any = state.population.particles
    if particles.log_ahead is None:
        return state
    ready = over_runs(model, lambda states: model.carry(t - 1, states))(particles.state)
    return eqx.tree_at(lambda tree: tree.population.particles, state, ready)


def _kept(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "ancestors"}


def _founders(state: smc.SMCState, lag: int) -> Recent:
    particles: Any = state.population.particles
    runs, size = state.population.log_weights.shape
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], lag + 1, axis=1), particles.state)
    return Recent(repeated, jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (runs, lag + 1, size)))


def _handed_down(recent: Recent, state: smc.SMCState, ancestors: Int[Array, "num_runs n"]) -> Recent:
    """The window one step on: rows follow the particles' ancestors, the oldest is dropped."""
    particles: Any = state.population.particles
    runs, size = ancestors.shape
    everyone = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (runs, size))
    now = (particles.state, everyone)

    def shifted(rows: Array, latest: Array) -> Array:
        older = jax.vmap(lambda rows, parents: rows[:-1, parents])(rows, ancestors)
        return jnp.concatenate([latest[:, None], older], axis=1)

    return Recent(*jax.tree.map(shifted, (recent.states, recent.chosen), now))
