"""Where runs stand between two steps of the driver, and what a step leaves for the history."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import RUNS, FeynmanKac, Population
from smcinfer.core.lineage import Lineage
from smcinfer.core.settings import Settings, shard
from smcinfer.ground.arrays import Array, Bool, Float, Int, Key, PyTree

Record = dict[str, Any]
"""What the history keeps of one step, by name."""


class SMCState(eqx.Module):
    """Where runs stand after step t; every leaf has a leading axis of ``num_runs``.

    Attributes:
        key: one key a run, never drawn from directly.
        population: particles with their normalised log weights.
        ess: effective sample size of the population, particles.
        log_z, log_z_error: log of Z_hat so far and its rounding error; their sum is the estimate, nats.
        shared: what the model's ``adapt`` keeps.
        lineage: family names for the error bar, with an axis of islands.
        line: Int["num_runs islands n"], the seats of particles that are moved in place (`in_place`), in the
            order that schemes see; ``None`` where particles are small and lie in that order.
        status: Int["num_runs"], bits of `Status`.
        num_steps: Int["num_runs"], steps taken.
        done: Bool["num_runs"], whether an adaptive model has ended.
    """

    key: Key[Array, "*num_runs"]
    population: Population
    ess: Float[Array, "*num_runs"]
    log_z: Float[Array, "*num_runs"]
    log_z_error: Float[Array, "*num_runs"]
    shared: PyTree[Any]
    lineage: Lineage
    line: Int[Array, "*num_runs islands n"] | None
    status: Int[Array, "*num_runs"]
    num_steps: Int[Array, "*num_runs"]
    done: Bool[Array, "*num_runs"]


def over_runs(model: FeynmanKac, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of one run, applied to all: mapped on the device, or one by one for a model that lives on the host."""
    if not model.on_host:
        return jax.vmap(function, axis_name=RUNS)

    def one_by_one(*trees: PyTree[Any]) -> PyTree[Any]:
        num_runs = jax.tree.leaves(trees)[0].shape[0]
        done = [function(*jax.tree.map(lambda leaf, run=run: leaf[run], trees)) for run in range(num_runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)

    return one_by_one


def pick(condition: Array, new: Array, old: Array) -> Array:
    """The new value where the condition holds along its (leading) axes, else the old one.

    Args:
        condition: Bool["*leading"].
        new, old: of one shape, ``(*leading, ...)``.
    """
    return jnp.where(condition.reshape(condition.shape + (1,) * (new.ndim - condition.ndim)), new, old)


def freeze(done: Bool[Array, " num_runs"], old: SMCState, new: SMCState) -> SMCState:
    """The new state of runs that go on, the old one of runs that are done.

    Args:
        done: Bool["num_runs"].
        old, new: before and after a step; random keys never change.
    """

    def choose(before: Array, after: Array) -> Array:
        if jnp.issubdtype(after.dtype, jax.dtypes.prng_key):
            return before
        return pick(done, before, after)

    return jax.tree.map(choose, old, new)


def shard_state(state: SMCState, settings: Settings) -> SMCState:
    """Particles, weights and family names laid over the devices, where there are several."""
    if settings.mesh is None:
        return state
    family = state.lineage
    at = 1 if settings.islands > 1 else 2
    family = eqx.tree_at(
        lambda tree: (tree.eve, tree.recent),
        family,
        (shard(family.eve, settings.mesh, at), shard(family.recent, settings.mesh, 1 if at == 1 else 3)),
    )
    population = shard(state.population, settings.mesh, 1)
    return eqx.tree_at(lambda tree: (tree.population, tree.lineage), state, (population, family))


def record(
    settings: Settings, info: Record, population: Population, ancestors: Array | None, scalars: Record
) -> Record:
    """What the history keeps of one step, by level.

    Args:
        settings: their ``history`` is the level.
        info: what the model says of the step.
        population: after the step.
        ancestors: parents of the particles; asked for only by the levels that keep them.
        scalars: what the driver says of the step.
    """
    if settings.history == "none":
        return {}
    kept = scalars | info
    if settings.history in ("ancestors", "full"):
        kept["ancestors"] = ancestors
    if settings.history == "full":
        kept["particles"] = population.particles
        kept["log_weights"] = population.log_weights
    return kept
