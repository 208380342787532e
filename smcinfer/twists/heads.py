r"""Heads for language models: log chi_t of the whole vocabulary from one hidden state.

.. math:: \log \chi_t(s_{1:t-1}, v) = \mathrm{head}(h_{t-1}, t, o)_v

with :math:`h_{t-1}` the model's last hidden state before the token, and o what is known of the target (the tokens that shall
follow, say), where the twist is learned for many. All start flat: the proposal is then the model itself.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.nouns import Time
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.twists.symbols import Context, HeadTwist


class LinearHead(HeadTwist):
    """A matrix on the hidden state.

    Attributes:
        weight: Float["V D"].
        bias: Float["V"], nats.
        is_bounded: whether the outputs are logits of probabilities, chi_t = sigmoid.
    """

    weight: Float[Array, "vocab dim"]
    bias: Float[Array, " vocab"]
    is_bounded: bool = eqx.field(static=True, default=False)

    @property
    def bounded(self) -> bool:
        """As it was made."""
        return self.is_bounded

    def head(self, t: Time, seen: Context) -> Float[Array, " vocab"]:
        """W h + b."""
        del t
        return self.weight @ seen.hidden + self.bias


class CalibratedHead(HeadTwist):
    r"""The model's own logits at another temperature, and a shift: few numbers, calibrated for one prompt.

    .. math:: \log \chi_t(v) = (\beta - 1) \log p_0(v) + b_v

    Attributes:
        sharpening: Float[""], beta - 1.
        shift: Float["V"], b, nats.
    """

    sharpening: Float[Array, ""]
    shift: Float[Array, " vocab"]

    def head(self, t: Time, seen: Context) -> Float[Array, " vocab"]:
        """Tempered and shifted; what the model excludes stays excluded."""
        del t
        return self.sharpening * jnp.where(seen.log_base == -jnp.inf, 0.0, seen.log_base) + self.shift


class NetworkHead(HeadTwist):
    r"""A small network on the hidden state, on time and on the context where there are any.

    Tokens of the context matter by how far ahead of the next symbol they stand, :math:`d_j = T - t + j`. They are pooled as an
    input of the network, and meet the next symbol directly in a bilinear form for each distance: what is likely so many
    places before that token. At distance one that is a bigram law, which decides whether the context can follow at all.

    .. math:: \log \chi_t(v) = r_v^\top f\Big(h, t, \sum_j g_{d_j} \odot e_{o_j}\Big)
              + a_v^\top \sum_j M_{d_j} e_{o_j} + c_{d_1, v} + b_v

    Attributes:
        layers: f; its last layer gives E numbers.
        readout: Float["V E"], r.
        bias: Float["V"], b.
        times: Float["T+1 width"], what is added to the first layer at each step, or ``None``.
        pairs: what the context adds, or ``None``.
        context: Int["C"], the context's tokens; ``None`` until `given`.
        is_bounded: as for `LinearHead`.
    """

    layers: tuple[eqx.nn.Linear, ...]
    readout: Float[Array, "vocab rank"]
    bias: Float[Array, " vocab"]
    times: Float[Array, "steps width"] | None
    pairs: "Pairs | None"
    context: Int[Array, " context"] | None = None
    is_bounded: bool = eqx.field(static=True, default=False)

    @property
    def bounded(self) -> bool:
        """As it was made."""
        return self.is_bounded

    def given(self, context: PyTree[Any]) -> "NetworkHead":
        """The twist for one context: C tokens, an array or a list."""
        if self.pairs is None:
            return super().given(context)  # pyright: ignore[reportReturnType]
        tokens = jnp.asarray(context, jnp.int32)
        if tokens.shape != (self.pairs.size,):
            raise TargetError("the context has the wrong size", expected=f"{self.pairs.size} tokens", got=tokens.shape)
        return dataclasses.replace(self, context=tokens)

    def log_values(self, t: Time, seen: Context) -> Float[Array, " vocab"]:
        """The head's; zero after the last step that it was made for: tokens that are given need no foresight."""
        values = super().log_values(t, seen)
        return values if self.times is None else jnp.where(t < self.times.shape[0], values, 0.0)

    def head(self, t: Time, seen: Context) -> Float[Array, " vocab"]:
        """log chi_t of every symbol, from the network and the bilinear forms, nats."""
        inputs, direct = seen.hidden, 0.0
        if self.pairs is not None:
            if self.context is None:
                raise TargetError("the twist was learned for many contexts", expected="twist.given(context) first")
            nearest = 0 if self.times is None else jnp.maximum(self.times.shape[0] - 1 - t, 0)
            pooled, direct = self.pairs(self.context, nearest)
            inputs = jnp.concatenate([inputs, pooled])
        signal = self.layers[0](inputs)
        if self.times is not None:
            signal = signal + self.times[t]
        for layer in self.layers[1:]:
            signal = layer(jax.nn.silu(signal))
        return self.readout @ signal + direct + self.bias


class Pairs(eqx.Module):
    """What a context says of the next symbol by distance.

    Attributes:
        tokens: Float["V E"], e, of the context's tokens.
        before: Float["V E"], a, of the next symbol.
        gates: Float["distances E"], g.
        matrices: Float["distances E E"], M.
        offsets: Float["distances V"], c.
        size: C, tokens of the context.
    """

    tokens: Float[Array, "vocab rank"]
    before: Float[Array, "vocab rank"]
    gates: Float[Array, "distances rank"]
    matrices: Float[Array, "distances rank rank"]
    offsets: Float[Array, "distances vocab"]
    size: int = eqx.field(static=True)

    def __call__(self, context: Int[Array, " C"], nearest: Array | int) -> tuple[Array, Array]:
        """Input of the network, Float["E"], and what goes straight into the output, Float["V"].

        Args:
            context: the tokens.
            nearest: places between the next symbol and the first of them.
        """
        gates, matrices = (
            jax.lax.dynamic_slice_in_dim(leaf, nearest, self.size) for leaf in (self.gates, self.matrices)
        )
        embedded = self.tokens[context]
        # Scaled, so that a step of Adam moves an output by as much through a matrix as through a vector.
        met = jnp.einsum("cij,cj->i", matrices, embedded) / self.tokens.shape[1] ** 0.5
        return jnp.sum(gates * embedded, axis=0), self.before @ met + self.offsets[nearest]

    def starting(self, before: Float[Array, "vocab rank"], tokens: Float[Array, "vocab rank"]) -> "Pairs":
        """The same, with a bigram law at distance one: the softmax of inner products of a symbol and the token after it."""
        rank = tokens.shape[1]
        size = jnp.sqrt(jnp.mean(tokens**2))
        # Both sides have the magnitudes that they have in a flat head, and the matrix makes up for it.
        first = jnp.eye(rank, dtype=tokens.dtype) * size * rank
        return dataclasses.replace(
            self,
            tokens=tokens / size,
            before=before / rank**0.5,
            matrices=self.matrices.at[0].set(first),
            offsets=self.offsets.at[0].set(-jax.nn.logsumexp(before @ tokens.T, axis=1)),
        )


def linear_head(dim: int, vocab_size: int, *, level: float = 0.0, bounded: bool = False) -> LinearHead:
    """A flat `LinearHead`.

    Args:
        dim: D, size of the hidden state.
        vocab_size: V.
        level: where log chi_t starts, nats: a guess of log Z, for the objectives that learn values and not only their
            differences (``"rl"``, ``"pcl"``, ``"subtb"``, ``"fudge"``).
        bounded: whether chi_t is at most one (objective ``"fudge"``).
    """
    _check_hidden(dim)
    dtype = jnp.result_type(float)
    return LinearHead(jnp.zeros((vocab_size, dim), dtype), jnp.full((vocab_size,), level, dtype), bounded)


def _check_hidden(dim: int) -> None:
    if dim < 1:
        raise ArgumentError(
            "there is no hidden state to read",
            expected="dim at least 1, the model's lm.dim",
            got=dim,
            hint="a model on the host, or given as a function, shows its logits alone: calibrated_head reads those",
        )


def calibrated_head(vocab_size: int) -> CalibratedHead:
    """A `CalibratedHead` before training, with the same value for every symbol."""
    dtype = jnp.result_type(float)
    return CalibratedHead(jnp.zeros((), dtype), jnp.zeros((vocab_size,), dtype))


def network_head(
    key: KeyArray,
    dim: int,
    vocab_size: int,
    *,
    width: int = 128,
    depth: int = 1,
    num_steps: int | None = None,
    context_size: int = 0,
    context_dim: int = 16,
    embedding: Float[Array, "vocab embedding"] | None = None,
    level: float = 0.0,
    bounded: bool = False,
) -> NetworkHead:
    """A flat `NetworkHead`.

    Args:
        key: of the first weights.
        dim: D, size of the hidden state.
        vocab_size: V.
        width, depth: of the hidden layers.
        num_steps: T, where the head shall know the time; ``None`` where it shall not.
        context_size: C, tokens of the context, 0 for none.
        context_dim: numbers each of them is embedded in, and that the last layer gives.
        embedding: Float["V E"], of the symbols, the language model's own say: context and outputs then start from it, in
            place of ``context_dim`` random numbers.
        level: as for `linear_head`.
        bounded: whether chi_t is at most one (objective ``"fudge"``).
    """
    _check_hidden(dim)
    if width < 1 or depth < 1 or context_size < 0:
        raise ArgumentError("no such network", expected="width, depth >= 1", got=(width, depth))
    keys = jax.random.split(key, depth + 2)
    if embedding is None:
        embedding = jax.random.normal(keys[-1], (vocab_size, context_dim), jnp.result_type(float))
    # A model in half precision, or a program in double, has a head of the program's own.
    embedding = embedding.astype(jnp.result_type(float))
    embedding = embedding / jnp.sqrt(jnp.mean(embedding**2))
    rank, dtype = embedding.shape[1], embedding.dtype
    sizes = [dim + (rank if context_size else 0), *[width] * depth, rank]
    layers = [
        eqx.nn.Linear(*pair, key=key) for pair, key in zip(zip(sizes, sizes[1:], strict=False), keys, strict=False)
    ]
    distances = context_size + (num_steps or 0)
    layers[-1] = jax.tree.map(jnp.zeros_like, layers[-1])
    pairs = None
    if context_size:
        gates = jnp.full((distances, rank), context_size**-0.5, dtype)
        # Nothing goes straight into the output at the start: the head is flat.
        matrices = jnp.zeros((distances, rank, rank), dtype)
        pairs = Pairs(
            embedding,
            embedding / rank**0.5,
            gates,
            matrices,
            jnp.zeros((distances, vocab_size), dtype),
            context_size,
        )
    return NetworkHead(
        tuple(layers),
        embedding / rank**0.5,
        jnp.full((vocab_size,), level, dtype),
        None if num_steps is None else jnp.zeros((num_steps + 1, width), dtype),
        pairs,
        None,
        bounded,
    )
