"""What a Markov chain is to the loop that runs many of them: where it begins, how it moves, what is kept, how it learns."""

import abc
from typing import Any, ClassVar

import equinox as eqx

from smcinfer.ground.arrays import Array, Count, KeyArray, PyTree

LOCKSTEP = 2**31 - 1
"""A pace that waits for all chains after every transition: so many evaluations never pass before the last one has ended."""

Info = dict[str, Array]
"""What one transition did. ``acceptance`` (Float[""], in [0, 1]) and ``num_evals`` (Int[""]) are always there; all that is
there is summed over the transitions of a draw (``acceptance`` averaged), and kept beside it."""


class Sampler(eqx.Module):
    """A Markov chain, written for one chain; the loop (`drive`) maps it over all of them.

    A random walk on a density is

    >>> class Walk(Sampler):
    ...     def begin(self, key, chain):
    ...         return jax.random.normal(key)
    ...
    ...     def step(self, key, state, params):
    ...         walk_key, accept_key = jax.random.split(key)
    ...         proposed = state + jax.random.normal(walk_key)
    ...         accepted = jnp.log(jax.random.uniform(accept_key)) < log_density(proposed) - log_density(state)
    ...         info = {"acceptance": accepted.astype(float), "num_evals": jnp.asarray(2)}
    ...         return jnp.where(accepted, proposed, state), info
    ...
    ...     def record(self, state, info):
    ...         return {"x": state}

    A chain whose transitions take varying numbers of evaluations can be written as a `Paced` one.
    """

    first: ClassVar[int] = 1
    """Number of the first transition, whose key is ``fold_in(chain's key, number)``; `begin` draws from number 0."""

    own_pace: ClassVar[bool] = False
    """Whether a chain can start its next transition while others are still in theirs (`Paced`)."""

    @abc.abstractmethod
    def begin(self, key: KeyArray, chain: Count) -> PyTree[Any]:
        """Where one chain starts.

        Args:
            key: one key, of this chain alone.
            chain: Int[""], its number, for a sampler that was given its starts.
        """

    def prepare(self, states: PyTree[Any]) -> PyTree[Any]:
        """Parameters of the first transitions, from where all chains start (leading axis chains); none by default."""
        del states

    def share(self, key: KeyArray, params: PyTree[Any]) -> PyTree[Any]:
        """Parameters of one transition with what all chains draw together; it must not depend on where any chain is."""
        del key
        return params

    @abc.abstractmethod
    def step(self, key: KeyArray, state: PyTree[Any], params: PyTree[Any]) -> tuple[PyTree[Any], Info]:
        """One transition of one chain, and what it did."""

    @abc.abstractmethod
    def record(self, state: PyTree[Any], info: Info) -> dict[str, PyTree[Any]]:
        """What is kept of a state, from the last transition that led to it."""

    def tune(self, params: PyTree[Any], rows: dict[str, Any]) -> PyTree[Any]:
        """Parameters after a round of the warm-up; the last ones are frozen for the draws.

        Args:
            params: those of the round; what comes back has their structure, shapes and dtypes.
            rows: records of the round, leading axes (records, chains), with the infos.
        """
        del rows
        return params

    def pace(self, params: PyTree[Any], tuning: bool) -> int:
        """Evaluations between two looks for chains that have ended a transition; `LOCKSTEP` waits for all of them.

        Decided on the host; it changes no draw, and is asked for only where ``own_pace``.
        """
        del params, tuning
        return LOCKSTEP


class Paced(Sampler):
    """A chain whose transition is a machine that takes one evaluation a tick (`smcinfer.kernels.ticks`)."""

    own_pace: ClassVar[bool] = True

    @abc.abstractmethod
    def open(self, key: KeyArray, state: PyTree[Any], params: PyTree[Any]) -> PyTree[Any]:
        """A machine at the start of a transition; its ``finished`` (Bool[""]) says when it is through."""

    @abc.abstractmethod
    def tick(self, machine: PyTree[Any], params: PyTree[Any]) -> PyTree[Any]:
        """The machine after one more evaluation."""

    @abc.abstractmethod
    def close(self, machine: PyTree[Any]) -> tuple[PyTree[Any], Info]:
        """Where a finished machine ended, and what its transition did."""
