r"""Mixture density networks: a law over a few variables, discrete, real or both, given what surrounds them.

.. math:: q(b \mid c) = \sum_k w_k(c) \prod_i q_{k,i}(b_i \mid c)

Variables are independent within a component; probabilities and scales have floors, so that nothing possible is left out.
What is fixed for a whole run (the parameters of factors) enters through an embedding that is computed once; what changes
at every step (the values around the block) enters the trunk.

Sources: Bishop (1994); Wang, Wu, Moore & Russell (2018), section 3.2.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, ndtri

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray
from smcinfer.ground.errors import ArgumentError

_LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Mixture(eqx.Module):
    """A mixture over vectors of variables, batched over any leading axes.

    Attributes:
        log_weights: Float["*batch components"], normalised, nats.
        log_probs: Float["*batch components discrete categories"], normalised, nats; minus infinity past a variable's own.
        means: Float["*batch components real"].
        log_scales: Float["*batch components real"].
        cardinalities: categories of each variable in order, zero for a real one.
    """

    log_weights: Float[Array, "*batch components"]
    log_probs: Float[Array, "*batch components discrete categories"]
    means: Float[Array, "*batch components real"]
    log_scales: Float[Array, "*batch components real"]
    cardinalities: tuple[int, ...] = eqx.field(static=True)

    def component_log_probs(self, values: Array) -> Float[Array, "*batch components"]:
        """log of each component's density at values (*batch, variables), nats, without its weight."""
        discrete, real = _kinds(self.cardinalities)
        total = jnp.zeros_like(self.log_weights)
        if discrete:
            index = values[..., None, discrete, None].astype(jnp.int32)
            shape = (*self.log_probs.shape[:-1], 1)
            total += jnp.take_along_axis(self.log_probs, jnp.broadcast_to(index, shape), axis=-1)[..., 0].sum(-1)
        if real:
            z = (values[..., None, real] - self.means) * jnp.exp(-self.log_scales)
            total += jnp.sum(-0.5 * z * z - self.log_scales - _LOG_ROOT_TWO_PI, axis=-1)
        return total

    def log_prob(self, values: Array) -> Float[Array, "*batch"]:
        """log density of the mixture at values (*batch, variables), all components summed, nats."""
        return logsumexp(self.log_weights + self.component_log_probs(values), axis=-1)

    def sample(self, key: KeyArray) -> Array:
        """One draw of every law of the batch, (*batch, variables), by inverting distribution functions."""
        discrete, real = _kinds(self.cardinalities)
        batch = self.log_weights.shape[:-1]
        dtype = self.log_weights.dtype
        noise = jax.random.uniform(key, (*batch, 1 + len(self.cardinalities)), dtype, jnp.finfo(dtype).tiny)
        component = invert(jnp.exp(self.log_weights), noise[..., 0])

        def chosen(leaf: Array) -> Array:
            index = component.reshape(*component.shape, *(1,) * (leaf.ndim - component.ndim))
            return jnp.take_along_axis(leaf, index, axis=len(batch)).squeeze(len(batch))

        values = [jnp.zeros(())] * len(self.cardinalities)
        if discrete:
            probs = jnp.exp(chosen(self.log_probs))
            for at, place in enumerate(discrete):
                values[place] = invert(probs[..., at, : self.cardinalities[place]], noise[..., 1 + place])
        if real:
            means, scales = chosen(self.means), jnp.exp(chosen(self.log_scales))
            for at, place in enumerate(real):
                quantile = ndtri(jnp.minimum(noise[..., 1 + place], 1.0 - jnp.finfo(dtype).epsneg))
                values[place] = means[..., at] + scales[..., at] * quantile
        return jnp.stack(values, axis=-1)


class Dense(eqx.Module):
    """An affine map of the last axis."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, x: Array) -> Array:
        """x W + b."""
        return x @ self.weight + self.bias


class MixtureDensity(eqx.Module):
    """The network (made by `mixture_density`).

    Attributes:
        encoder: of what is fixed, ending in one bias for every layer of the trunk.
        trunk: of what changes.
        head: parameters of the mixture.
        cardinalities: categories of each variable of the block, zero for a real one.
        num_components: of the mixture.
        probability_floor: what every category of every component has at least, shared equally.
        scale_floor: the least standard deviation of a real variable.
    """

    encoder: tuple[Dense, ...]
    trunk: tuple[Dense, ...]
    head: Dense
    cardinalities: tuple[int, ...] = eqx.field(static=True)
    num_components: int = eqx.field(static=True)
    probability_floor: float = eqx.field(static=True)
    scale_floor: float = eqx.field(static=True)

    def embed(self, fixed: Float[Array, "*batch num_fixed"]) -> Float[Array, "*batch layers width"]:
        """What is fixed, as a bias for every layer of the trunk."""
        for layer in self.encoder[:-1]:
            fixed = jax.nn.silu(layer(fixed))
        biases = self.encoder[-1](fixed)
        return biases.reshape(*biases.shape[:-1], len(self.trunk), -1)

    def __call__(self, embedding: Array, changing: Array) -> Mixture:
        """The mixture given an embedding (*batch, layers, width) and what changes (*batch, num_changing)."""
        hidden = changing
        for at, layer in enumerate(self.trunk):
            hidden = jax.nn.relu(layer(hidden) + embedding[..., at, :])
        raw = self.head(hidden)
        discrete, real = _kinds(self.cardinalities)
        batch, num, most = raw.shape[:-1], self.num_components, max(self.cardinalities, default=0)
        sizes = _head_sizes(self.cardinalities, num)
        weights, logits, means, scales = jnp.split(raw, (sizes[0], sum(sizes[:2]), sum(sizes[:3])), axis=-1)
        logits = logits.reshape(*batch, num, len(discrete), max(most - 1, 0))
        # Only differences of logits count: those of the first category are zero.
        logits = jnp.concatenate([jnp.zeros((*batch, num, len(discrete), min(most, 1)), raw.dtype), logits], axis=-1)
        cards = jnp.array([self.cardinalities[place] for place in discrete], jnp.int32)[:, None]
        there = jnp.arange(most) < cards
        probs = jax.nn.softmax(jnp.where(there, logits, -jnp.inf), axis=-1) if discrete else logits
        floored = (1.0 - self.probability_floor) * probs + self.probability_floor / cards
        return Mixture(
            jax.nn.log_softmax(weights, axis=-1),
            jnp.where(there, jnp.log(floored), -jnp.inf),
            means.reshape(*batch, num, len(real)),
            jnp.log(self.scale_floor + jax.nn.softplus(scales.reshape(*batch, num, len(real)))),
            self.cardinalities,
        )


def mixture_density(
    key: KeyArray,
    cardinalities: Sequence[int],
    num_fixed: int,
    num_changing: int,
    *,
    num_components: int = 8,
    width: int = 128,
    depth: int = 2,
    encoder_width: int = 256,
    encoder_depth: int = 1,
    probability_floor: float = 1e-3,
    scale_floor: float = 1e-3,
) -> MixtureDensity:
    """A mixture density network with random weights.

    Args:
        key: consumed here.
        cardinalities: categories of each block variable, zero for a real one.
        num_fixed: numbers that are fixed during a run (may be zero).
        num_changing: numbers that change at every step (may be zero).
        num_components: of the mixture.
        width, depth: of the trunk, computed at every step.
        encoder_width, encoder_depth: of the encoder, computed once a run.
        probability_floor: in (0, 1).
        scale_floor: the least standard deviation, above zero.

    Raises:
        ArgumentError: a size or a floor out of range.
    """
    for name, value in {"num_components": num_components, "width": width, "depth": depth}.items():
        validate.count(name, value)
    if not 0.0 < probability_floor < 1.0 or not scale_floor > 0.0:
        raise ArgumentError(
            "without floors the proposal could leave something possible out",
            expected="probability_floor in (0, 1) and scale_floor above 0",
            got=(probability_floor, scale_floor),
        )
    cards = tuple(int(card) for card in cardinalities)
    encoder_sizes = [num_fixed, *[encoder_width] * encoder_depth, depth * width]
    trunk_sizes = [num_changing, *[width] * depth]
    keys = iter(jax.random.split(key, len(encoder_sizes) + len(trunk_sizes)))
    encoder = [dense(next(keys), *sizes) for sizes in zip(encoder_sizes, encoder_sizes[1:], strict=False)]
    trunk = [dense(next(keys), *sizes) for sizes in zip(trunk_sizes, trunk_sizes[1:], strict=False)]
    head = dense(next(keys), width, sum(_head_sizes(cards, num_components)))
    # Components that start alike would stay alike.
    spread = jax.random.normal(next(keys), head.bias.shape, head.bias.dtype)
    head = eqx.tree_at(lambda dense: dense.bias, head, spread)
    return MixtureDensity(
        tuple(encoder), tuple(trunk), head, cards, num_components, float(probability_floor), float(scale_floor)
    )


def one_hot(values: Array, cardinalities: Sequence[int]) -> Float[Array, "*batch features"]:
    """Values (*batch, variables) as numbers: one-hot where finite, as they are where real."""
    dtype = jnp.result_type(float)
    parts: list[Any] = [jnp.zeros((*values.shape[:-1], 0), dtype)]
    for place, card in enumerate(cardinalities):
        value = values[..., place]
        parts.append(jax.nn.one_hot(value.astype(jnp.int32), card, dtype=dtype) if card else value[..., None])
    return jnp.concatenate(parts, axis=-1)


def num_features(cardinalities: Sequence[int]) -> int:
    """How many numbers `one_hot` makes of them."""
    return sum(card or 1 for card in cardinalities)


def dense(key: KeyArray, inputs: int, outputs: int) -> Dense:
    """An affine map with Gaussian weights of variance one over ``inputs``, its bias zero.

    Args:
        key: one random key, for the weights.
        inputs, outputs: lengths of the vectors it maps from and to.
    """
    dtype = jnp.result_type(float)
    weight = jax.random.normal(key, (inputs, outputs), dtype) / math.sqrt(max(inputs, 1))
    return Dense(weight, jnp.zeros((outputs,), dtype))


def _kinds(cardinalities: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places of the finite variables and of the real ones."""
    return [at for at, card in enumerate(cardinalities) if card], [
        at for at, card in enumerate(cardinalities) if not card
    ]


def _head_sizes(cardinalities: Sequence[int], num_components: int) -> tuple[int, int, int, int]:
    """Numbers of the head: weights, logits, means, scales."""
    discrete, real = _kinds(cardinalities)
    logits = num_components * len(discrete) * max(max(cardinalities, default=0) - 1, 0)
    return num_components, logits, num_components * len(real), num_components * len(real)


def invert(probs: Float[Array, "*batch categories"], uniform: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
    """The category where the distribution function passes a uniform; never one past the last.

    Args:
        probs: weights of the categories, of any sum.
        uniform: in (0, 1).
    """
    cumulative = jnp.cumsum(probs, axis=-1)
    below = uniform[..., None] * cumulative[..., -1:] > cumulative
    return jnp.minimum(jnp.sum(below, axis=-1, dtype=jnp.int32), probs.shape[-1] - 1)
