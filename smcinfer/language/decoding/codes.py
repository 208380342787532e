r"""Texts from evenly spread codes: each is a draw of the model, and together they repeat each other less than chance would.

Text i of N has the code :math:`u_i = (\pi(i) + b) / N` with one shared uniform b. A token is the one whose interval of the
cumulative law, tokens in the vocabulary's order, holds the code; what is left of the code is stretched to the unit interval,

.. math:: s_t = \min\{v : F(v) > u\}, \qquad u \leftarrow \frac{u - F(s_t - 1)}{p(s_t)} .

A token of probability p uses up :math:`-\log_2 p` bits of the code. They are drawn anew at its other end, where the code knows
nothing: given the text so far these bits are uniform, so that a text of any length is a draw of the model.

Source: Vilnis, Zemlyanskiy, Murray, Passos & Sanghai (2023), *Arithmetic sampling*; the new bits are ours.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import Mutation
from smcinfer.core.nouns import Bootstrap
from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Particles, PyTree, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.generation import Generation
from smcinfer.language.proposals.forced import FREE, Forced


class Numbered(eqx.Module):
    """What particles carry: that of the generation, and Float["num_particles"], what is left of each code, in [0, 1)."""

    inner: PyTree[Any]
    code: Array


class Coded(Generation):
    """A generation whose tokens are read from evenly spread codes (made by `coded`)."""

    @property
    def plan(self) -> Plan:
        """That of the generation; texts of one run are not independent."""
        return dataclasses.replace(super().plan, tells_variance=False)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Everything at the prompt, with fresh codes."""
        code_key, inner_key = jax.random.split(key)
        begun = super().init(inner_key, num_particles)
        return dataclasses.replace(begun, particles=Numbered(begun.particles, spread(code_key, num_particles)))

    def look_ahead(self, t: Time, particles: Particles, shared: PyTree[Any]) -> LogWeights | None:
        """That of the generation."""
        return super().look_ahead(t, particles.inner, shared)  # pyright: ignore[reportAttributeAccessIssue]

    def mutate(self, key: KeyArray, t: Time, particles: Particles, shared: PyTree[Any], resampled: Flag) -> Mutation:
        """The token that each code says; copies of one particle get codes of their own."""
        del shared
        code_key, bits_key = jax.random.split(key)
        held: Any = particles
        states, size = held.inner.state, held.code.shape[0]
        codes = jnp.where(resampled, spread(code_key, size), held.code)
        drawn, left, log2_p = jax.vmap(read)(codes, states.logits)
        wanted = jax.vmap(lambda state: self.potential.given.token(t, state))(states)  # pyright: ignore
        free = wanted == FREE
        x = jnp.where(free, drawn, wanted)
        bits = jax.random.uniform(bits_key, (size,), codes.dtype)
        codes = jnp.where(free, jax.vmap(refilled)(left, log2_p, bits), codes)
        log_w = jax.vmap(lambda state, x: self.proposal.log_weight(t, state, x))(states, x)
        moved = self.advance(t, held.inner, x, log_w)
        return dataclasses.replace(moved, particles=Numbered(moved.particles, codes))

    def exported(self, particles: Particles) -> PyTree[Any]:
        """The sequences of the generation; what is left of the codes is nobody's."""
        return super().exported(particles.inner)  # pyright: ignore[reportAttributeAccessIssue]


def spread(key: KeyArray, num: int) -> Float[Array, " num"]:
    """Codes that are evenly spread and in any order, each of them uniform on [0, 1).

    Args:
        key: one key.
        num: N.
    """
    shift_key, order_key = jax.random.split(key)
    dtype = jnp.result_type(float)
    codes = (jnp.arange(num, dtype=dtype) + jax.random.uniform(shift_key, (), dtype)) / num
    return jax.random.permutation(order_key, jnp.minimum(codes, _below_one(dtype)))


def read(code: Float[Array, ""], logits: Float[Array, " vocab"]) -> tuple[Int[Array, ""], Array, Array]:
    """The token whose interval holds a code, what is left of the code, and log2 of the token's probability.

    Args:
        code: in [0, 1).
        logits: of the next token, nats, unnormalised; minus infinity is never drawn.
    """
    p = jax.nn.softmax(logits.astype(code.dtype))
    ends = jnp.cumsum(p)
    # The sum of all is one but for rounding, and the last token of any probability must be found below it.
    ends = ends / ends[-1]
    token = jnp.argmax((ends > code) & (p > 0)).astype(jnp.int32)
    start = jnp.where(token > 0, ends[token - 1], 0.0)
    width = jnp.maximum(ends[token] - start, jnp.finfo(code.dtype).tiny)
    return token, jnp.clip((code - start) / width, 0.0, _below_one(code.dtype)), jnp.log2(width)


def refilled(left: Float[Array, ""], log2_p: Array, bits: Array) -> Float[Array, ""]:
    """What is left of a code, with the bits that were used up drawn anew.

    Args:
        left: of the code, in [0, 1).
        log2_p: log2 of the probability of the token that was read.
        bits: uniform, in [0, 1).
    """
    known = jnp.exp2(jnp.floor(jnp.maximum(jnp.finfo(left.dtype).nmant + log2_p, 0.0)))
    return jnp.minimum((jnp.floor(left * known) + bits) / known, _below_one(left.dtype))


def coded(target: Generation) -> Coded:
    """The same target, drawn from evenly spread codes: what `smcinfer.sample` takes in place of it.

    Args:
        target: a `Generation` whose tokens are drawn from the model itself.

    Raises:
        ArgumentError: for one that has a proposal or a twist of its own.

    Properly weighted for: the target as it was. Particles of one run are not independent: its error is told by the spread
        between runs alone.
    """
    target = validate.instance("target", target, Generation, "smcinfer.language.generation(...)")
    mover = target.proposal.inner if isinstance(target.proposal, Forced) else target.proposal
    if not isinstance(mover, Bootstrap):
        raise ArgumentError(
            "codes read tokens from the model itself",
            expected="a generation without proposal and without twist",
            got=type(mover).__name__,
        )
    return Coded(**{field.name: getattr(target, field.name) for field in dataclasses.fields(target)})


def _below_one(dtype: Any) -> float:
    return 1.0 - float(jnp.finfo(dtype).epsneg)
