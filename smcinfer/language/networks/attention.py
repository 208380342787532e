r"""Attention with a cache of static shape, for one sequence.

A layer keeps one K and one V array, ``(kv_heads, T, head_dim)``, and a step writes one slot of each. What the prompt left
behind has the same shape, but belongs to all particles: scores against it and against the own tokens are computed apart and
normalised together,

.. math:: o = \sum_j \mathrm{softmax}_j(q^\top k_j / \sqrt{d})\, v_j, \qquad j \text{ over the prompt and the slots written}.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Float, Int


class KeysValues(eqx.Module):
    """Keys and values of one layer.

    Attributes:
        keys, values: Float["kv_heads T head_dim"].
    """

    keys: Float[Array, "kv_heads T head_dim"]
    values: Float[Array, "kv_heads T head_dim"]

    @property
    def length(self) -> int:
        """T, the number of slots."""
        return self.keys.shape[1]

    def write(
        self, slot: Int[Array, ""], key: Float[Array, "kv_heads head_dim"], value: Float[Array, "kv_heads head_dim"]
    ) -> "KeysValues":
        """The same with one slot written."""
        return KeysValues(write_slot(self.keys, key, slot, 1), write_slot(self.values, value, slot, 1))


def write_slot(array: Array, row: Array, slot: Int[Array, ""], axis: int) -> Array:
    """``array`` with ``row`` at index ``slot`` of one axis, in place where XLA can.

    Mapped over particles it stays one slice of one array as long as they share the slot: by itself `jax.vmap` would make it
    a scatter, which XLA guards, copies and writes twice.

    Args:
        array: what is written to.
        row: what is written, of the array's shape without the axis.
        slot: Int[""], where.
        axis: the axis that ``slot`` counts along.
    """

    @jax.custom_batching.custom_vmap
    def write(array: Array, row: Array, slot: Array) -> Array:
        return jax.lax.optimization_barrier(jax.lax.dynamic_update_index_in_dim(array, row, slot, axis))

    @write.def_vmap
    def _(size: int, batched: list[bool], array: Array, row: Array, slot: Array) -> tuple[Array, bool]:
        if batched[2]:
            plain = lambda *of: jax.lax.dynamic_update_index_in_dim(*of, axis)  # noqa: E731
            return jax.vmap(plain, [0 if here else None for here in batched])(array, row, slot), True
        array, row = (
            leaf if here else jnp.broadcast_to(leaf, (size, *leaf.shape))
            for leaf, here in zip((array, row), batched, strict=False)
        )
        return write_slot(array, row, slot, axis + 1), True

    return write(array, row, slot)


def empty_cache(num_layers: int, num_kv_heads: int, length: int, head_dim: int, dtype: jnp.dtype) -> list[KeysValues]:
    """One particle's cache before any token is written: keys and values of every layer.

    Args:
        num_layers: entries of the list.
        num_kv_heads: heads that have keys and values.
        length: tokens there is room for.
        head_dim: numbers a head.
        dtype: of the keys and values.
    """
    zeros = jnp.zeros((num_kv_heads, length, head_dim), dtype)
    return [KeysValues(zeros, zeros) for _ in range(num_layers)]


def attend_one(
    query: Float[Array, "heads head_dim"],
    slot: Int[Array, ""],
    own: KeysValues,
    prompt: KeysValues,
    window: int | None,
) -> Float[Array, "heads head_dim"]:
    """What the token in ``slot`` takes from the prompt and from the slots up to its own.

    Args:
        query: Float["heads head_dim"].
        slot: Int[""], where ``own`` was written last.
        own, prompt: keys and values; each of their heads serves ``heads / kv_heads`` queries.
        window: how many tokens back attention reaches, the token itself included; ``None`` for all.
    """
    num_kv_heads, head_dim = own.keys.shape[0], own.keys.shape[2]
    grouped = query.reshape(num_kv_heads, -1, head_dim) * head_dim**-0.5
    scores = jnp.concatenate(
        [
            jnp.einsum("kgd,kpd->kgp", grouped, prompt.keys),
            jnp.einsum("kgd,ktd->kgt", grouped, own.keys),
        ],
        axis=-1,
    )
    distance = prompt.length + slot - jnp.arange(prompt.length + own.length)
    shares = _softmax(scores, _visible(distance, window)).astype(query.dtype)
    taken = jnp.einsum("kgp,kpd->kgd", shares[..., : prompt.length], prompt.values)
    taken = taken + jnp.einsum("kgt,ktd->kgd", shares[..., prompt.length :], own.values)
    return taken.reshape(-1, head_dim)


def attend_all(
    queries: Float[Array, "L heads head_dim"], tokens: KeysValues, window: int | None
) -> Float[Array, "L heads head_dim"]:
    """What every token of a sequence takes from those before it and from itself.

    Args:
        queries: Float["L heads head_dim"].
        tokens: keys and values of the same tokens; each of their heads serves ``heads / kv_heads`` queries.
        window: how many tokens back attention reaches, the token itself included; ``None`` for all.
    """
    num_kv_heads, length, head_dim = tokens.keys.shape
    grouped = queries.reshape(length, num_kv_heads, -1, head_dim) * head_dim**-0.5
    scores = jnp.einsum("lkgd,ktd->kglt", grouped, tokens.keys)
    distance = jnp.arange(length)[:, None] - jnp.arange(length)
    shares = _softmax(scores, _visible(distance, window)).astype(queries.dtype)
    return jnp.einsum("kglt,ktd->lkgd", shares, tokens.values).reshape(length, -1, head_dim)


def _visible(distance: Int[Array, "*shape"], window: int | None) -> Bool[Array, "*shape"]:
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def _softmax(scores: Float[Array, "*heads tokens"], visible: Bool[Array, "*queries tokens"]) -> Array:
    """Softmax over visible tokens, in float32 at least."""
    wide = jnp.promote_types(scores.dtype, jnp.float32)
    return jax.nn.softmax(jnp.where(visible, scores.astype(wide), -jnp.inf), axis=-1)
