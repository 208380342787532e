"""Markov chains on an open mixture, side by side, and what they passed through."""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture
from smcinfer.models.open_mixture.moves import Move
from smcinfer.results.chains import Chains
from smcinfer.results.record import not_kept
from smcinfer.run.chains.finish import chains_of
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.plan import checked, doubling
from smcinfer.run.chains.sampler import Info, Sampler
from smcinfer.run.runner import as_typed_key


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MixtureChains(Chains):
    """Draws ``log_likelihood`` (Float, of the data with labels summed out, nats) and ``num_occupied`` (Int, components that own
    data), each (chains, draws).

    Attributes:
        state: the states at the end, leading axis chains; not saved with the rest.
    """

    state: MixtureState | None = not_kept(None)


def run_chains(
    key: Any,
    model: OpenMixture,
    move: Move,
    *,
    num_chains: int = 16,
    num_draws: int = 100,
    num_warmup: int = 0,
    thin: int = 1,
    initial: MixtureState | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> MixtureChains:
    """Run a move on many chains.

    Args:
        key: one random key; the same key gives the same chains, resumed or not.
        model: the mixture and its data.
        move: what moves.
        num_chains: chains, side by side.
        num_draws: draws kept of each chain.
        num_warmup: steps before them.
        thin: steps a draw.
        initial: where chains start, leading axis chains; those of `start` where ``None``.
        progress, checkpoint, checkpoint_seconds: as in `smcinfer.mcmc`.

    Returns:
        `MixtureChains`.

    Raises:
        ArgumentError: a setting out of range, or other starts than there are chains.
        CheckpointError: a checkpoint that is damaged or belongs to another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the step under way.
    """
    num_chains, num_draws, num_warmup, thin = checked(num_chains, num_draws, num_warmup, thin)
    start_key, chain_key = jax.random.split(as_typed_key(key))
    states = start(start_key, model, num_chains) if initial is None else initial
    if states.labels.shape[0] != num_chains:
        raise ArgumentError("initial does not fit the chains", expected=num_chains, got=states.labels.shape[0])
    driven = drive(
        chain_key,
        MixtureChain(model, move, states),
        doubling(num_draws, num_warmup, thin),
        num_chains=num_chains,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        description="open mixture",
    )
    draws = {name: driven.records[name] for name in ("log_likelihood", "num_occupied")}
    settings = {"kernel": type(move).__name__, "thin": thin, "num_warmup": num_warmup, "pace": "in step"}
    chains = chains_of(MixtureChains, key, driven, draws, settings)
    return dataclasses.replace(chains, state=driven.progress.lanes.states.state)


class Looked(eqx.Module):
    """A state of the mixture, and the key by which its likelihood is looked at."""

    state: MixtureState
    key: KeyArray


class MixtureChain(Sampler):
    """A move on one mixture.

    Attributes:
        model, move: the law, and what leaves it invariant.
        starts: where chains start, leading axis chains.
    """

    model: OpenMixture
    move: Move
    starts: MixtureState

    def begin(self, key: KeyArray, chain: Count) -> Looked:
        """The chain's starting state, with a key to look at its likelihood."""
        return Looked(jax.tree.map(lambda leaf: leaf[chain], self.starts), key)

    def step(self, key: KeyArray, state: Looked, params: None) -> tuple[Looked, Info]:
        """One move at exponent one, and its acceptance."""
        move_key, look_key = jax.random.split(key)
        moved, acceptance = self.move(move_key, state.state, self.model, jnp.ones((), self.model.data.dtype))
        info = {"acceptance": acceptance.astype(jnp.result_type(float)), "num_evals": jnp.ones((), jnp.int32)}
        return Looked(moved, look_key), info

    def record(self, state: Looked, info: Info) -> dict[str, Array]:
        """How well the state fits, and how many components own data."""
        return {
            "log_likelihood": self.model.log_marginal_likelihood(state.key, state.state),
            "num_occupied": jnp.sum(self.model.counts(state.state.labels) > 0).astype(jnp.int32),
        }


def start(key: KeyArray, model: OpenMixture, num_chains: int) -> MixtureState:
    """Starting states: one component that owns everything, its mean from the prior, the other slots inactive.

    Args:
        key: one random key, for the means.
        model: the mixture and its data.
        num_chains: the leading axis of every leaf.
    """
    means = model.spread * jax.random.normal(key, (num_chains, model.num_slots, model.data.shape[1]), model.data.dtype)
    active = jnp.arange(model.num_slots) == 0
    labels = jnp.zeros((model.data.shape[0],), jnp.int32)
    return jax.vmap(lambda means: MixtureState(active, means, labels))(means)
