"""Masked models: a network's conditionals, alone, sharpened, or several multiplied."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import ArgumentError, TargetError, calling

Denoiser = Callable[[Int[Array, " length"]], Float[Array, "length vocab"]]
"""``Int["length"] -> Float["length vocab"]``: token logits of every position given the known ones; V is the mask."""


class MaskedModel(eqx.Module):
    r"""Conditionals of every position given the known tokens (made by `masked_model` and `product`).

    .. math:: \log g_i(v \mid x) = \sum_k b_k \log p^k_i(v \mid x), \qquad p_i = g_i / C_i

    One network with power one is the plain model, and :math:`C_i = 1`.

    Attributes:
        denoisers: one or more networks of the same tokens.
        powers: Float["models"], b.
        plain: whether it is one network with power one.
        length, vocab_size: L and V.
    """

    denoisers: tuple[Denoiser, ...]
    powers: Float[Array, " models"]
    plain: bool = eqx.field(static=True)
    length: int = eqx.field(static=True)
    vocab_size: int = eqx.field(static=True)

    def conditionals(
        self, tokens: Int[Array, " length"]
    ) -> tuple[Float[Array, "length vocab"], Float[Array, " length"]]:
        """Log of p and of C at every position, nats: each network is run once."""
        logs = [jax.nn.log_softmax(denoiser(tokens)) for denoiser in self.denoisers]
        if self.plain:
            return logs[0], jnp.zeros((self.length,), logs[0].dtype)
        joint = sum(_to_power(log, power) for log, power in zip(logs, self.powers, strict=True))
        log_scale = jax.nn.logsumexp(joint, axis=-1)
        # Models that agree on no token leave weight zero, and something finite to draw from.
        normaliser = jnp.where(log_scale > -jnp.inf, log_scale, 0.0)[:, None]
        return jnp.where(log_scale[:, None] > -jnp.inf, joint - normaliser, 0.0), log_scale


def masked_model(denoiser: Denoiser, length: int, vocab_size: int) -> MaskedModel:
    """A masked diffusion's network, checked on shapes before any work.

    Args:
        denoiser: ``Int["length"] -> Float["length vocab"]``, token logits; a Python function or an equinox module. It
            reads ``vocab_size`` as the mask.
        length: L, positions.
        vocab_size: V, tokens without the mask.

    Raises:
        ArgumentError: a length or a vocabulary that is too small.
        TargetError: the network raises, or returns another shape.
    """
    validate.count("length", length)
    validate.count("vocab_size", vocab_size, at_least=2)
    got = _shape(denoiser, length)
    if got != (length, vocab_size):
        raise TargetError(
            "the denoiser's output has the wrong shape",
            expected=f"logits {(length, vocab_size)}, a row a position",
            got=got,
            hint="write it for one sequence; the mask needs no logit",
        )
    return MaskedModel((denoiser,), jnp.ones((1,)), True, length, vocab_size)


def as_masked(model: Any) -> MaskedModel:
    """The model, where it is one; a network alone does not say how many tokens it knows."""
    return validate.instance(
        "model", model, MaskedModel, "a model made by discrete.masked_model(denoiser, length, vocab_size)"
    )


def product(models: list[MaskedModel] | tuple[MaskedModel, ...], powers: Any) -> MaskedModel:
    r"""Models of the same tokens multiplied, position by position, each to a power.

    Powers ``(b,)`` anneal one model; ``(1 - s, s)`` of an unconditional and a conditional one is guidance of scale s.

    Raises:
        ArgumentError: models of different tokens, or not one power a model.
    """
    exponents = jnp.asarray(powers, jnp.result_type(float))
    if not models or exponents.shape != (len(models),):
        raise ArgumentError("one power a model is wanted", expected=(len(models),), got=exponents.shape)
    for model in models:
        as_masked(model)
    sizes = {(model.length, model.vocab_size) for model in models}
    if len(sizes) > 1:
        raise ArgumentError("the models have different tokens", expected="one (length, vocab_size)", got=sizes)
    if not all(model.plain for model in models):
        raise ArgumentError("a product is of plain models", expected="made by masked_model", got="a product")
    return MaskedModel(tuple(model.denoisers[0] for model in models), exponents, False, *sizes.pop())


def _to_power(log_p: Array, power: Array) -> Array:
    """Log of p to a power; what p excludes stays excluded, unless the power is zero."""
    excluded = log_p == -jnp.inf
    scaled = jnp.where(excluded, -jnp.inf, power * jnp.where(excluded, 0.0, log_p))
    return jnp.where(power == 0, 0.0, scaled)


def _shape(denoiser: Denoiser, length: int) -> Any:
    with calling("the denoiser", hint=f"it gets Int[{length}] and must be a JAX function"):
        value = eqx.filter_eval_shape(denoiser, jax.ShapeDtypeStruct((length,), jnp.int32))
    return getattr(value, "shape", type(value).__name__)
