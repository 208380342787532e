"""Markov chains on an open mixture, side by side, and what they passed through."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, Float, Int, KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture
from smcinfer.models.open_mixture.moves import Move


class MixtureChains(NamedTuple):
    """What the chains passed through.

    Attributes:
        state: the states at the end, leading axis chains.
        log_likelihood: Float["steps chains"], of the data with labels summed out, nats.
        num_occupied: Int["steps chains"], components that own data.
        acceptance: Float["steps chains"], share of accepted Metropolis proposals.
    """

    state: MixtureState
    log_likelihood: Float[Array, "steps chains"]
    num_occupied: Int[Array, "steps chains"]
    acceptance: Float[Array, "steps chains"]


def run_chains(
    key: KeyArray, model: OpenMixture, move: Move, states: MixtureState, num_steps: int, *, thin: int = 1
) -> MixtureChains:
    """Run a move on many chains; a record is kept after every ``thin`` steps.

    Args:
        key: one key.
        model: the mixture and its data.
        move: what moves.
        states: where chains start, leading axis chains (`start` makes them).
        num_steps: records.
        thin: steps a record.
    """
    if num_steps < 1 or thin < 1:
        raise ArgumentError("num_steps and thin are out of range", expected="at least 1", got=(num_steps, thin))
    return _run(key, model, move, states, num_steps, jnp.asarray(thin, jnp.int32))


@eqx.filter_jit
def _run(key: Any, model: OpenMixture, move: Move, states: MixtureState, num_steps: int, thin: Count) -> MixtureChains:
    num_chains = states.labels.shape[0]
    one = jnp.ones((), model.data.dtype)

    def chain(key: Array, state: MixtureState) -> tuple[MixtureState, tuple[Array, ...]]:
        def once(number: Array, carry: tuple[MixtureState, Array]) -> tuple[MixtureState, Array]:
            state, total = carry
            state, acceptance = move(jax.random.fold_in(key, number), state, model, one)
            return state, total + acceptance / thin

        state, acceptance = jax.lax.fori_loop(0, thin, once, (state, jnp.zeros_like(one)))
        log_likelihood = model.log_marginal_likelihood(jax.random.fold_in(key, thin), state)
        occupied = jnp.sum(model.counts(state.labels) > 0).astype(jnp.int32)
        return state, (log_likelihood, occupied, acceptance)

    def record(states: MixtureState, number: Array) -> tuple[MixtureState, tuple[Array, ...]]:
        return jax.vmap(chain)(jax.random.split(jax.random.fold_in(key, number), num_chains), states)

    states, (log_likelihood, occupied, acceptance) = jax.lax.scan(record, states, jnp.arange(num_steps))
    return MixtureChains(states, log_likelihood, occupied, acceptance)


def start(key: KeyArray, model: OpenMixture, num_chains: int) -> MixtureState:
    """Starting states: one component that owns everything, its mean from the prior, the other slots inactive."""
    means = model.spread * jax.random.normal(key, (num_chains, model.num_slots, model.data.shape[1]), model.data.dtype)
    active = jnp.arange(model.num_slots) == 0
    labels = jnp.zeros((model.data.shape[0],), jnp.int32)
    return jax.vmap(lambda means: MixtureState(active, means, labels))(means)
