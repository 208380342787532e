r"""Targets over what a masked diffusion writes: aligned to a reward, raised to a power, multiplied.

With :math:`V_t` the log twist after step t, :math:`p` the base law and :math:`q` the proposal's, the weight of a step
is

.. math:: \log w_t = V_t - V_{t-1} + \sum_{i \text{ unmasked at } t} \Bigl[ \log \frac{p_i(x_i)}{q_i(x_i)} + \log C_i \Bigr]
    + \log \frac{\pi(\text{positions})}{\pi_q(\text{positions})},

the corrector of the jump process, and :math:`V_T = r / \alpha`. The engine makes it of the four nouns: the last two
terms are the proposal's weight, the twists telescope, :math:`\log C_i` is a potential (`product`), zero for a plain
model.
"""

from collections.abc import Callable, Sequence
from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed, compose
from smcinfer.core.nouns import Guided, Time
from smcinfer.core.plan import Plan
from smcinfer.diffusion.discrete.model import MaskedModel, as_masked, product
from smcinfer.diffusion.discrete.orders import Order, order_by_name
from smcinfer.diffusion.discrete.process import (
    FirstHitting,
    Guide,
    MaskedState,
    ParallelUnmasking,
    Tilt,
    Unmasking,
    evenly,
    unmasking_log_odds,
)
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Int, Particles, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError, calling

Reward = Callable[[Int[Array, " length"]], Scalar]


class Correction(eqx.Module):
    """The potential: log scales of what was just unmasked, and the reward over the temperature after the last step."""

    reward: Reward | None
    temperature: Scalar
    num_steps: int = eqx.field(static=True)

    def __call__(self, t: Time, state: MaskedState) -> Scalar:
        """log phi_t of the state after step t, nats."""
        if self.reward is None:
            return state.log_factor
        reward, dtype = self.reward, state.log_factor.dtype
        # t is the same for all particles: before the end no reward is computed.
        earned = jax.lax.cond(
            t >= self.num_steps,
            lambda tokens: jnp.asarray(reward(tokens), dtype) / self.temperature.astype(dtype),
            lambda _: jnp.zeros((), dtype),
            state.tokens,
        )
        return state.log_factor + earned


class MaskedTarget(Composed):
    """A masked diffusion under a target (made by `alignment`, `power` and `multiplied`)."""

    @property
    def model(self) -> MaskedModel:
        """The masked model whose conditionals are drawn from."""
        process: Any = self.process
        return process.model

    @property
    def plan(self) -> Plan:
        """Particles at the end stand for the tokens that the target asks for."""
        words = "tokens of the masked diffusions, times exp(reward / temperature); log Z is of the total mass"
        return Plan(words, label="unmasking")

    @override
    def exported(self, particles: Particles) -> dict[str, Array]:
        return {"tokens": particles.state.tokens}  # pyright: ignore[reportAttributeAccessIssue]


def alignment(
    model: MaskedModel,
    reward: Reward | None,
    temperature: float = 1.0,
    *,
    num_steps: int | None = None,
    unmasked: Callable[[Array], Array] = evenly,
    order: str | Order = "uniform",
    guide_order: str | Order | None = None,
    tilt: Tilt | None = None,
    twist: Callable[[Time, MaskedState], Scalar] | None = None,
    start: Any = None,
) -> MaskedTarget:
    r"""A masked diffusion aligned to a reward: :math:`\pi(x) \propto p(x)\, e^{r(x) / \alpha}`.

    Args:
        model: made by `masked_model`, or by `product` for a product or a power of models.
        reward: ``Int["length"] -> Float[""]`` of the finished tokens, a JAX function; ``None`` for none.
        temperature: alpha; smaller asks more. Negative looks for low rewards.
        num_steps: ``None`` unmasks one position a step (`FirstHitting`), a number as many as it takes in that many steps
            (`ParallelUnmasking`).
        unmasked: with ``num_steps``, the share of the positions unmasked at a time from 1 to 0.
        order: of the base law: ``"uniform"``, ``"left_to_right"``, ``"confidence"``, ``"most_confident"``, or a
            function ``(tokens, log_p) -> Float["length"]`` of log odds.
        guide_order: of the proposal; the base's own where ``None``. Every position that the base may choose must have a
            chance.
        tilt: ``(t, state) -> Float["length vocab"]``, added to the proposal's token logits; a guess of what each token
            is worth, nats.
        twist: ``(t, state) -> Float[""]``, log psi_t; a guess of log E[exp(r / alpha)] given the known tokens.
        start: Int["length"], tokens to begin with: what is not the mask is given and stays (infilling); all masked
            where ``None``.

    Returns:
        A `Composed` model for `smcinfer.sample`; its particles' ``tokens`` are the sequences.

    Raises:
        ArgumentError, TargetError: before any work.

    Properly weighted for: the law of the base process (its order included) times ``exp(r / alpha)``, whatever the
    proposal and the twist. Where the model's conditionals are those of one joint law, the order does not matter to it
    and `FirstHitting` samples that law.
    """
    as_masked(model)
    if validate.number("temperature", temperature) == 0:
        raise ArgumentError(
            "temperature is out of range",
            expected="a finite number other than zero; negative looks for low rewards",
            got=temperature,
        )
    if reward is not None:
        _check_reward(model, reward)
    begin = _start(model, start)
    num_masked = int(np.sum(begin == model.vocab_size))
    base_order = order_by_name(order)
    other_order = None if guide_order is None else order_by_name(guide_order)
    if num_steps is not None:
        validate.count("num_steps", num_steps)
        _check_order(model, begin, base_order, "order")
    if other_order is not None and other_order is not base_order:
        _check_order(model, begin, other_order, "guide_order")
    tokens = jnp.asarray(begin, jnp.int32)
    process: Unmasking
    if num_steps is None:
        process, num_steps = FirstHitting(model, tokens, base_order), num_masked
    else:
        process = ParallelUnmasking(model, tokens, base_order, _log_odds(num_steps, unmasked))
    proposal = None
    if other_order is not None or tilt is not None:
        guide = Guide(process, other_order or base_order, tilt)
        proposal = Guided(process, guide)
    potential = Correction(reward, jnp.asarray(temperature, jnp.result_type(float)), num_steps)
    made = compose(process, potential, twist, proposal, num_steps=num_steps)
    return MaskedTarget.extending(made)


def power(model: MaskedModel, power: float, reward: Reward | None = None, **settings: Any) -> MaskedTarget:
    r"""A power of a masked model: :math:`\pi(x) \propto \prod_i p_{i}(x_i \mid x_{\text{before}})^\beta\, e^{r(x) / \alpha}`.

    Drawing every token from its own sharpened conditional is not a draw of this: the normalisers :math:`C_i` of what
    was drawn are its weights. Where the conditionals are those of a joint law, the product is :math:`p(x)^\beta` in any
    order.

    Args:
        model: a plain model.
        power: beta.
        reward: as in `alignment`, or ``None``.
        settings: those of `alignment`.
    """
    return alignment(product([model], [power]), reward, **settings)


def multiplied(
    models: Sequence[MaskedModel], powers: Any, reward: Reward | None = None, **settings: Any
) -> MaskedTarget:
    r"""Masked models multiplied: :math:`\pi(x) \propto \prod_k p^k(x)^{b_k}\, e^{r(x) / \alpha}`, in the sense of `power`.

    Args:
        models: plain models of the same tokens.
        powers: b, one a model; ``(1 - s, s)`` is guidance of scale s.
        reward: as in `alignment`, or ``None``.
        settings: those of `alignment`.
    """
    return alignment(product(tuple(models), powers), reward, **settings)


def _start(model: MaskedModel, start: Any) -> np.ndarray:
    """The tokens to begin with, checked."""
    if start is None:
        return np.full(model.length, model.vocab_size)
    begin = np.asarray(start)
    if begin.shape != (model.length,) or not np.issubdtype(begin.dtype, np.integer):
        raise ArgumentError(
            "start is no sequence of the model", expected=f"Int[{model.length}]", got=f"{begin.dtype}{begin.shape}"
        )
    if begin.min() < 0 or begin.max() > model.vocab_size:
        raise ArgumentError(
            "start has a token that the model does not know",
            expected=f"0 to {model.vocab_size - 1}, or {model.vocab_size} for the mask",
            got=(int(begin.min()), int(begin.max())),
        )
    return begin


def _check_reward(model: MaskedModel, reward: Reward) -> None:
    """The reward is tried on one sequence before any work; minus infinity forbids, and is allowed."""
    with calling("the reward", hint=f"it gets Int[{model.length}], tokens without masks, and must be a JAX function"):
        value = np.asarray(reward(jnp.zeros(model.length, jnp.int32)))
    if value.shape != ():
        raise TargetError("the reward did not return a scalar", expected="Float['']", got=value.shape)
    if np.isnan(value) or np.isposinf(value):
        raise TargetError("the reward is not finite", expected="a number, or minus infinity", got=float(value))


def _check_order(model: MaskedModel, begin: np.ndarray, order: Order, name: str) -> None:
    """An order that leaves positions no chance cannot propose for one that does, nor unmask many at once."""
    log_p = jnp.full((model.length, model.vocab_size), -np.log(model.vocab_size))
    log_odds = np.asarray(order(jnp.asarray(begin, jnp.int32), log_p))
    if log_odds.shape != begin.shape or not np.isfinite(log_odds[begin == model.vocab_size]).all():
        raise ArgumentError(
            f"{name} leaves some masked position no chance",
            expected="finite log odds of every masked position",
            got=log_odds.tolist(),
            hint="an order that is certain can be the base's own, one position a step: order=..., num_steps=None",
        )


def _log_odds(num_steps: int, unmasked: Callable[[Array], Array]) -> Array:
    """The grid's log odds, checked."""
    shares = np.asarray(unmasked(jnp.linspace(1.0, 0.0, num_steps + 1)), np.float64)
    sound = shares.shape == (num_steps + 1,) and abs(shares[0]) < 1e-6 and abs(shares[-1] - 1) < 1e-6
    if not sound or not (np.diff(shares) >= 0).all():
        raise ArgumentError(
            "unmasked is no share of the positions",
            expected="a function of times that grows from 0 at time 1 to 1 at time 0",
            got=shares.tolist() if shares.size <= 6 else f"{shares.ravel()[:3].tolist()} ...",
        )
    return unmasking_log_odds(num_steps, unmasked)
