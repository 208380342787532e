r"""Masked diffusion as a process: tokens are unmasked, one by one or many at a time, and never change again.

The forward process masks every token at an independent time; the reverse process unmasks position i at its time and
draws its token from :math:`p_i(\cdot \mid x)`, which a network has learned. Only what is known matters to it, not the
time, and two processes follow:

- `FirstHitting` jumps from one unmasking to the next: the continuous-time process exactly, one evaluation of the
  network a token;
- `ParallelUnmasking` takes a grid of times, fewer steps than tokens perhaps; tokens of one step are drawn as if
  independent, an error of the model that no weight corrects, for it is in the base law.

Sources: Austin et al. (2021); Sahoo et al. (2024); Zheng et al. (2024), first-hitting sampling.
"""

import abc
from collections.abc import Callable
from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.core.nouns import Process, Time
from smcinfer.diffusion.discrete.laws import AllAtOnce, OneByOne, masked
from smcinfer.diffusion.discrete.model import MaskedModel
from smcinfer.diffusion.discrete.orders import Order
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar

Tilt = Callable[[Time, Any], Float[Array, "length vocab"]]


class MaskedState(eqx.Module):
    """What a particle carries.

    Attributes:
        tokens: Int["length"], the mask where not known yet.
        log_p: Float["length vocab"], log conditionals of the base law given the known tokens.
        log_scale: Float["length"], log sum of what `log_p` was normalised from: zero for a plain model (`Product`).
        log_factor: Float[""], what the tokens of the last step owe the target: the sum of their log scales.
    """

    tokens: Int[Array, " length"]
    log_p: Float[Array, "length vocab"]
    log_scale: Float[Array, " length"]
    log_factor: Scalar


class Unmasking(Process):
    """A masked diffusion from ``start`` on; subclasses say how many positions a step unmasks."""

    model: eqx.AbstractVar[MaskedModel]
    start: eqx.AbstractVar[Int[Array, " length"]]
    order: eqx.AbstractVar[Order]

    @abc.abstractmethod
    def law(
        self, t: Time, state: MaskedState, order: Order, token_logits: Float[Array, "length vocab"]
    ) -> Distribution:
        """Law of the tokens after step t under an order and token logits that need not be the process's.

        Args:
            t: Int[""], the step.
            state: before it.
            order: which positions first.
            token_logits: Float["length vocab"], of every position's token.
        """

    @override
    def initial(self) -> None:
        """Every particle starts from the same tokens."""

    @override
    def transition(self, t: Time, state: MaskedState) -> Distribution:
        """The process's own order and conditionals."""
        return self.law(t, state, self.order, state.log_p)

    @override
    def advance(self, t: Time, state: MaskedState | None, x: Int[Array, " length"] | None) -> MaskedState:
        """The network is run once on the new tokens."""
        del t
        tokens = self.start if x is None else x
        log_p, log_scale = self.model.conditionals(tokens)
        log_factor = jnp.zeros((), log_p.dtype)
        if state is not None:
            fresh = masked(state.tokens, self.model.vocab_size) & ~masked(tokens, self.model.vocab_size)
            log_factor = jnp.sum(jnp.where(fresh, state.log_scale, 0.0))
        return MaskedState(tokens, log_p, log_scale, log_factor)


class FirstHitting(Unmasking):
    """One position a step, chosen by the order: as many steps as ``start`` has masks.

    Under the uniform order this is the diffusion in continuous time seen at its jumps. The times of the jumps
    (`hitting_times`) depend on nothing else, and nothing depends on them.
    """

    model: MaskedModel
    start: Int[Array, " length"]
    order: Order

    @override
    def law(self, t: Time, state: MaskedState, order: Order, token_logits: Float[Array, "length vocab"]) -> OneByOne:
        """One masked position, then its token."""
        del t
        return OneByOne(state.tokens, order(state.tokens, state.log_p), token_logits)


class ParallelUnmasking(Unmasking):
    r"""Every masked position is unmasked with a probability of the step, independently.

    Between times u and s < u that is :math:`(\kappa_s - \kappa_u) / (1 - \kappa_u)`, with :math:`\kappa` the share
    unmasked by then. An order shifts the log odds of the positions about their mean over the masked ones.

    Attributes:
        log_odds: Float["steps+1"], of unmasking at step t, in place t; infinite at the last.
    """

    model: MaskedModel
    start: Int[Array, " length"]
    order: Order
    log_odds: Float[Array, " steps"]

    @override
    def law(self, t: Time, state: MaskedState, order: Order, token_logits: Float[Array, "length vocab"]) -> AllAtOnce:
        """Each masked position for itself."""
        open_ = masked(state.tokens, self.model.vocab_size)
        shift = order(state.tokens, state.log_p)
        centre = jnp.sum(jnp.where(open_, shift, 0.0)) / jnp.maximum(jnp.sum(open_), 1)
        log_odds = self.log_odds[jnp.clip(t, 0, self.log_odds.shape[0] - 1)]
        certain = jnp.isposinf(log_odds)
        # At the last step all are unmasked, whatever the order says.
        shifted = jnp.where(certain, jnp.inf, jnp.where(certain, 0.0, log_odds) + shift - centre)
        return AllAtOnce(state.tokens, shifted, token_logits)


class Guide(eqx.Module):
    """A proposal's law: the process's, with an order and a tilt of the token logits of one's own.

    Attributes:
        process: the base process.
        order: which positions first.
        tilt: ``(t, state) -> Float["length vocab"]``, added to the log conditionals, nats; or ``None``.
    """

    process: Unmasking
    order: Order
    tilt: Tilt | None

    def __call__(self, t: Time, state: MaskedState) -> Distribution:
        """Law of the tokens after step t."""
        logits = state.log_p if self.tilt is None else state.log_p + self.tilt(t, state)
        return self.process.law(t, state, self.order, logits)


def evenly(time: Float[Array, "*times"]) -> Float[Array, "*times"]:
    """Share of the positions unmasked at a time from 1 (none) to 0 (all): evenly."""
    return 1.0 - time


def unmasking_log_odds(num_steps: int, unmasked: Callable[[Array], Array] = evenly) -> Float[Array, " steps"]:
    """Log odds of unmasking at the steps of an even grid of times from 1 to 0, in places 1 .. num_steps.

    Args:
        num_steps: steps of the grid.
        unmasked: share of the positions unmasked at a time; 0 at time 1, 1 at time 0, and never falling on the way.
    """
    shares = unmasked(jnp.linspace(1.0, 0.0, num_steps + 1))
    left = 1.0 - shares[:-1]
    # Where nothing is left to unmask, every rate will do.
    rates = jnp.where(left > 0, (shares[1:] - shares[:-1]) / jnp.where(left > 0, left, 1.0), 1.0)
    log_odds = jnp.log(rates) - jnp.log1p(-jnp.minimum(rates, 1.0))
    return jnp.concatenate([jnp.full((1,), -jnp.inf), log_odds.at[-1].set(jnp.inf)])


def hitting_times(key: KeyArray, num_masked: int) -> Float[Array, " num_masked"]:
    r"""Times of the unmaskings under an even schedule, from the noisy end on.

    .. math:: \tau_k = \tau_{k-1}\, u_k^{1/(n - k + 1)}, \quad \tau_0 = 1, \quad u_k \sim U(0, 1)

    the decreasing order statistics of n uniforms. Another schedule's times are where its share equals ``1 - tau``.

    Source: Zheng et al. (2024), proposition 4.1.
    """
    left = jnp.arange(num_masked, 0, -1)
    return jnp.exp(jnp.cumsum(-jax.random.exponential(key, (num_masked,)) / left))
