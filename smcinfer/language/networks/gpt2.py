"""GPT-2: learned positions, layer norms with biases, a GELU network, embeddings that are tied as a rule."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.attention import KeysValues, attend_all, attend_one, empty_cache
from smcinfer.language.networks.lm import Output
from smcinfer.language.networks.transformer import Transformer, apply_rows

EMBEDDING, HEAD = "wte.weight", "lm_head.weight"
"""What checkpoints call the two matrices of the vocabulary."""


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Sizes: V, D, of the network inside a block, layers, heads, positions; and whether the embedding is the output matrix."""

    vocab_size: int
    dim: int
    mlp_dim: int
    num_layers: int
    num_heads: int
    max_positions: int
    norm_eps: float = 1e-5
    tied: bool = True

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "GPT2Config":
        """From the content of a ``config.json``.

        Raises:
            ArgumentError: for an activation or a scaling that is not GPT-2's own.
        """
        activation = raw.get("activation_function", "gelu_new")
        if activation not in ("gelu_new", "gelu_pytorch_tanh"):
            raise ArgumentError("unknown activation", expected="gelu_new", got=activation)
        if raw.get("scale_attn_by_inverse_layer_idx", False) or not raw.get("scale_attn_weights", True):
            raise ArgumentError("unknown scaling of attention", expected="1 / sqrt(head_dim)")
        return cls(
            vocab_size=raw["vocab_size"],
            dim=raw["n_embd"],
            mlp_dim=raw.get("n_inner") or 4 * raw["n_embd"],
            num_layers=raw["n_layer"],
            num_heads=raw["n_head"],
            max_positions=raw.get("n_positions", 1024),
            norm_eps=raw.get("layer_norm_epsilon", 1e-5),
            tied=bool(raw.get("tie_word_embeddings", True)),
        )


class Affine(eqx.Module):
    """A matrix (in, out), as GPT-2 stores it, or the diagonal of a norm; and a bias."""

    weight: Array
    bias: Array


class Block(eqx.Module):
    """One layer: attention and a perceptron, each on what a norm leaves and added to its input."""

    attention_norm: Affine
    qkv: Affine
    out: Affine
    mlp_norm: Affine
    up: Affine
    down: Affine


class GPT2(Transformer):
    """A GPT-2 model.

    Attributes:
        embedding: Float["V D"], of tokens.
        positions: Float["P D"], learned.
        blocks: the layers.
        norm: the last norm.
        head: Float["V D"], or ``None`` where the embedding serves.
        config: sizes.
    """

    embedding: Float[Array, "vocab dim"]
    positions: Float[Array, "positions dim"]
    blocks: list[Block]
    norm: Affine
    head: Float[Array, "vocab dim"] | None
    config: GPT2Config = eqx.field(static=True)

    def empty(self, length: int) -> list[KeysValues]:
        """A cache with room for ``length`` tokens."""
        config = self.config
        head_dim = config.dim // config.num_heads
        return empty_cache(config.num_layers, config.num_heads, length, head_dim, self.embedding.dtype)

    def step(
        self, token: Int[Array, ""], slot: Int[Array, ""], cache: list[KeysValues], prefix: list[KeysValues]
    ) -> tuple[Output, list[KeysValues]]:
        """Read one token: every layer writes one slot."""
        x = self.embedding[token] + self.positions[slot + prefix[0].length]
        written = []
        for block, own, prompt in zip(self.blocks, cache, prefix, strict=True):
            query, key, value = self._project(block, x)
            own = own.write(slot, key, value)
            x = self._finish(block, x, attend_one(query, slot, own, prompt, None))
            written.append(own)
        return self._output(x), written

    def _read(self, tokens: Int[Array, " length"]) -> tuple[Float[Array, "length dim"], list[KeysValues]]:
        x, kept = self.embedding[tokens] + self.positions[: tokens.shape[0]], []
        for block in self.blocks:
            query, key, value = self._project(block, x)
            both = KeysValues(jnp.swapaxes(key, 0, 1), jnp.swapaxes(value, 0, 1))
            x = self._finish(block, x, attend_all(query, both, None))
            kept.append(both)
        return x, kept

    def _project(self, block: Block, x: Float[Array, "*tokens dim"]) -> list[Array]:
        """Queries, keys and values, each ``(*tokens, heads, head_dim)``."""
        flat = _affine(block.qkv, self._norm(block.attention_norm, x))
        return [part.reshape(*x.shape[:-1], self.config.num_heads, -1) for part in jnp.split(flat, 3, axis=-1)]

    def _finish(self, block: Block, x: Float[Array, "*tokens dim"], attended: Array) -> Float[Array, "*tokens dim"]:
        x = x + _affine(block.out, attended.reshape(*x.shape))
        return x + _affine(block.down, jax.nn.gelu(_affine(block.up, self._norm(block.mlp_norm, x))))

    def _norm(self, norm: Affine, x: Array) -> Array:
        """Layer norm, in float32 at least."""
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        normed = jax.nn.standardize(wide, epsilon=self.config.norm_eps)
        return normed.astype(x.dtype) * norm.weight + norm.bias

    def _output(self, x: Float[Array, "*tokens dim"]) -> Output:
        hidden = self._norm(self.norm, x)
        logits = apply_rows(self.embedding if self.head is None else self.head, hidden)
        wide = jnp.promote_types(logits.dtype, jnp.float32)
        return Output(logits.astype(wide), hidden.astype(wide))


def _affine(layer: Affine, x: Array) -> Array:
    return x @ layer.weight + layer.bias


def build_gpt2(config: GPT2Config, take: Callable[[str, tuple[int, ...]], Array]) -> GPT2:
    """A model from its tensors (see `smcinfer.language.networks.llama.build_llama`)."""
    dim = config.dim

    def affine(name: str, *shape: int) -> Affine:
        return Affine(take(f"{name}.weight", shape), take(f"{name}.bias", shape[-1:]))

    def block(number: int) -> Block:
        return Block(
            attention_norm=affine(f"h.{number}.ln_1", dim),
            qkv=affine(f"h.{number}.attn.c_attn", dim, 3 * dim),
            out=affine(f"h.{number}.attn.c_proj", dim, dim),
            mlp_norm=affine(f"h.{number}.ln_2", dim),
            up=affine(f"h.{number}.mlp.c_fc", dim, config.mlp_dim),
            down=affine(f"h.{number}.mlp.c_proj", config.mlp_dim, dim),
        )

    return GPT2(
        embedding=take(EMBEDDING, (config.vocab_size, dim)),
        positions=take("wpe.weight", (config.max_positions, dim)),
        blocks=[block(number) for number in range(config.num_layers)],
        norm=affine("ln_f", dim),
        head=None if config.tied else take(HEAD, (config.vocab_size, dim)),
        config=config,
    )
