r"""A filtered model as proposal.

.. math:: q(v) = \mathrm{softmax}(f(\ell))_v, \qquad w = p(v) / q(v)

A filter that removes tokens (top-k, nucleus) leaves the weighted sample proper for the model *restricted* to sequences of
tokens that were kept, each with the probability that the model gives it: nothing is renormalised token by token. With a share
of the model itself mixed in, nothing is removed and the sample is proper for the model.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Proposal
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.symbols import draw_symbols
from smcinfer.language.process import LanguageProcess
from smcinfer.language.proposals.filters import Filter


class LogitProposal(Proposal):
    """A proposal given by logits of its own: draws from them and weighs p / q.

    Subclasses say which logits. Properly weighted for the transition restricted to tokens that they do not remove.
    """

    process: eqx.AbstractVar[LanguageProcess]

    @abc.abstractmethod
    def logits(self, t: Time, state: PyTree[Any]) -> Float[Array, " vocab"]:
        """What is drawn from, nats, unnormalised."""

    def _laws(self, t: Time, state: PyTree[Any]) -> tuple[Float[Array, " vocab"], Float[Array, " vocab"]]:
        """log p and log q."""
        log_p = jax.nn.log_softmax(state.logits)
        logits = self.logits(t, state)
        # Where everything was removed there is nothing to renormalise: the model itself is drawn from.
        return log_p, jax.nn.log_softmax(jnp.where(jnp.all(logits == -jnp.inf), log_p, logits))

    def __call__(self, key: KeyArray, t: Time, state: PyTree[Any]) -> tuple[Int[Array, ""], Scalar]:
        """A token and log p - log q."""
        log_p, log_q = self._laws(t, state)
        token = draw_symbols(key, log_q)
        return token, log_p[token] - log_q[token]

    def log_weight(self, t: Time, state: PyTree[Any], x: PyTree[Any]) -> Scalar:
        """log p - log q of a given token; minus infinity for one that is never drawn."""
        log_p, log_q = self._laws(t, state)
        return jnp.where(log_q[x] == -jnp.inf, -jnp.inf, log_p[x] - log_q[x])

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """One batched draw for all particles, and the log weights."""
        log_p, log_q = jax.vmap(lambda state: self._laws(t, state))(states)
        tokens = draw_symbols(key, log_q)
        log_w = jnp.take_along_axis(log_p - log_q, tokens[:, None], axis=1)[:, 0]
        return tokens, log_w


class FilteredProposal(LogitProposal):
    """The model through a filter (made by `filtered`).

    Attributes:
        process: the base law.
        filter: ``Float["V"] -> Float["V"]``.
        model_share: share of draws from the model itself.
    """

    process: LanguageProcess
    filter: Filter
    model_share: float = eqx.field(static=True, default=0.0)
    includes_potential: bool = eqx.field(static=True, default=False)

    def logits(self, t: Time, state: PyTree[Any]) -> Float[Array, " vocab"]:
        """The filtered logits, mixed with the model where asked."""
        del t
        kept = self.filter(state.logits)
        if self.model_share == 0.0:
            return kept
        log_q, log_p = jax.nn.log_softmax(kept), jax.nn.log_softmax(state.logits)
        return jnp.logaddexp(jnp.log1p(-self.model_share) + log_q, jnp.log(self.model_share) + log_p)


def filtered(filter: Filter, *, model_share: float = 0.0) -> Callable[[LanguageProcess], FilteredProposal]:
    """What `generation` takes for ``proposal``: draw through a filter of the logits.

    Args:
        filter: of `smcinfer.language.proposals.filters`, or any JAX function of one row of logits.
        model_share: share of draws from the unfiltered model, in [0, 1). Above zero nothing is removed, and the sample is
            properly weighted for the model itself; weights are at most 1 / model_share.

    Raises:
        ArgumentError: for a share out of range; when the generation is made, for a filter that does not return logits.
    """
    validate.number("model_share", model_share, at_least=0.0, below=1.0)

    def make(process: LanguageProcess) -> FilteredProposal:
        row = jax.ShapeDtypeStruct(process.first.logits.shape, process.first.logits.dtype)
        found = eqx.filter_eval_shape(filter, row)
        if getattr(found, "shape", None) != row.shape or not jnp.issubdtype(found.dtype, jnp.floating):
            raise ArgumentError("the filter does not return logits", expected=f"Float{list(row.shape)}", got=found)
        return FilteredProposal(process, filter, model_share)

    return make
