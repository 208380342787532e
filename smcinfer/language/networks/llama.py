r"""The Llama family: Llama 2 and 3, Mistral, Qwen 2 and 3, SmolLM.

.. math::
    x \leftarrow x + W_o\, \mathrm{attend}(\mathrm{rope}(W_{qkv}\, \mathrm{norm}(x))), \qquad
    x \leftarrow x + W_{\downarrow}\,(\mathrm{silu}(W_g\, \mathrm{norm}(x)) \odot W_{\uparrow}\, \mathrm{norm}(x))

Layers are unrolled, with one K and one V array each: under a scan over layers the whole cache would be copied at every step.
Norms, softmax and logits are computed in float32 whatever the weights are.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.attention import KeysValues, attend_all, attend_one, empty_cache
from smcinfer.language.networks.lm import Output
from smcinfer.language.networks.rope import frequencies, rotate
from smcinfer.language.networks.transformer import Transformer, apply_rows

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
"""``model_type`` of the configurations that this file reads (SmolLM says ``llama``)."""

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
"""What checkpoints call the two matrices of the vocabulary."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_pytorch_tanh": jax.nn.gelu,
    "gelu_new": jax.nn.gelu,
    "relu": jax.nn.relu,
}


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes and switches of a model.

    Attributes:
        vocab_size, dim, mlp_dim, num_layers, num_heads, num_kv_heads, head_dim, max_positions: sizes.
        windows: how far back each layer's attention reaches, ``None`` for everywhere.
        norm_eps: of the RMS norms.
        activation: name in `ACTIVATIONS`.
        tied: whether the embedding is also the output matrix.
        qkv_bias, out_bias, mlp_bias, qk_norm: which parts there are.
        rope: as in `smcinfer.language.networks.rope.frequencies`, sorted pairs.
    """

    vocab_size: int
    dim: int
    mlp_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    windows: tuple[int | None, ...]
    norm_eps: float = 1e-6
    activation: str = "silu"
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    rope: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "LlamaConfig":
        """From the content of a ``config.json``.

        Raises:
            ArgumentError: for something that the model would need and this file does not do.
        """
        kind, heads, layers = raw["model_type"], raw["num_attention_heads"], raw["num_hidden_layers"]
        activation = raw.get("hidden_act", "silu")
        if activation not in ACTIVATIONS:
            raise ArgumentError("unknown activation", expected=" | ".join(ACTIVATIONS), got=activation)
        nested = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        rope = {"rope_theta": raw.get("rope_theta") or 10000.0} | {
            name: value for name, value in nested.items() if value is not None
        }
        if rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0)) != 1.0:
            raise ArgumentError("partial rotary positions are not supported", expected=1.0, got=rope)
        head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
        max_positions = raw.get("max_position_embeddings", 2048)
        frequencies(rope, head_dim, max_positions)  # raises where it cannot be had
        return cls(
            vocab_size=raw["vocab_size"],
            dim=raw["hidden_size"],
            mlp_dim=raw["intermediate_size"],
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=raw.get("num_key_value_heads") or heads,
            head_dim=head_dim,
            max_positions=max_positions,
            windows=_windows(raw, kind, layers),
            norm_eps=raw.get("rms_norm_eps", 1e-6),
            activation=activation,
            tied=bool(raw.get("tie_word_embeddings", False)),
            qkv_bias=raw.get("attention_bias", False) or kind == "qwen2",
            out_bias=raw.get("attention_bias", False) and kind != "qwen2",
            mlp_bias=raw.get("mlp_bias", False),
            qk_norm=kind == "qwen3",
            rope=tuple(sorted(rope.items())),
        )


def _windows(raw: Mapping[str, Any], kind: str, layers: int) -> tuple[int | None, ...]:
    """The window of each layer: Mistral's is everywhere, Qwen's begins at a layer and only where it is switched on."""
    window = raw.get("sliding_window")
    if window is None or (kind.startswith("qwen") and not raw.get("use_sliding_window", False)) or kind == "llama":
        return (None,) * layers
    types = raw.get("layer_types")
    if types is not None:
        return tuple(window if one == "sliding_attention" else None for one in types)
    first = raw.get("max_window_layers", 28) if kind.startswith("qwen") else 0
    return tuple(window if layer >= first else None for layer in range(layers))


class Layer(eqx.Module):
    """One block; matrices are (out, in), those that read the same input are stacked."""

    attention_norm: Float[Array, " dim"]
    qkv: Float[Array, "heads_and_kv dim"]
    qkv_bias: Float[Array, " heads_and_kv"] | None
    query_norm: Float[Array, " head_dim"] | None
    key_norm: Float[Array, " head_dim"] | None
    out: Float[Array, "dim heads"]
    out_bias: Float[Array, " dim"] | None
    mlp_norm: Float[Array, " dim"]
    gate_up: Float[Array, "two_mlp dim"]
    gate_up_bias: Float[Array, " two_mlp"] | None
    down: Float[Array, "dim mlp"]
    down_bias: Float[Array, " dim"] | None


class Llama(Transformer):
    """A model of the family.

    Attributes:
        embedding: Float["V D"].
        layers: the blocks.
        norm: Float["D"], the last norm.
        head: Float["V D"], or ``None`` where the embedding serves.
        config: sizes and switches.
    """

    embedding: Float[Array, "vocab dim"]
    layers: list[Layer]
    norm: Float[Array, " dim"]
    head: Float[Array, "vocab dim"] | None
    config: LlamaConfig = eqx.field(static=True)

    def empty(self, length: int) -> list[KeysValues]:
        """A cache with room for ``length`` tokens."""
        config = self.config
        return empty_cache(config.num_layers, config.num_kv_heads, length, config.head_dim, self.embedding.dtype)

    def step(
        self, token: Int[Array, ""], slot: Int[Array, ""], cache: list[KeysValues], prefix: list[KeysValues]
    ) -> tuple[Output, list[KeysValues]]:
        """Read one token: every layer writes one slot."""
        x = self.embedding[token]
        position = slot + prefix[0].length
        written = []
        for layer, own, prompt, window in zip(self.layers, cache, prefix, self.config.windows, strict=True):
            query, key, value = self._project(layer, x, position)
            own = own.write(slot, key, value)
            x = self._finish(layer, x, attend_one(query, slot, own, prompt, window))
            written.append(own)
        return self._output(x), written

    def _read(self, tokens: Int[Array, " length"]) -> tuple[Float[Array, "length dim"], list[KeysValues]]:
        x, positions, kept = self.embedding[tokens], jnp.arange(tokens.shape[0]), []
        for layer, window in zip(self.layers, self.config.windows, strict=True):
            query, key, value = self._project(layer, x, positions)
            both = KeysValues(jnp.swapaxes(key, 0, 1), jnp.swapaxes(value, 0, 1))
            x = self._finish(layer, x, attend_all(query, both, window))
            kept.append(both)
        return x, kept

    def _project(self, layer: Layer, x: Float[Array, "*tokens dim"], positions: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values, each ``(*tokens, heads, head_dim)``."""
        config = self.config
        flat = _linear(_rms(x, layer.attention_norm, config.norm_eps), layer.qkv, layer.qkv_bias)
        heads = flat.reshape(*flat.shape[:-1], -1, config.head_dim)
        query, key, value = jnp.split(heads, [config.num_heads, config.num_heads + config.num_kv_heads], axis=-2)
        if layer.query_norm is not None and layer.key_norm is not None:
            query, key = _rms(query, layer.query_norm, config.norm_eps), _rms(key, layer.key_norm, config.norm_eps)
        inverse, scale = frequencies(dict(config.rope), config.head_dim, config.max_positions)
        angles = jnp.asarray(inverse, jnp.float32)
        return rotate(query, positions, angles, scale), rotate(key, positions, angles, scale), value

    def _finish(self, layer: Layer, x: Float[Array, "*tokens dim"], attended: Array) -> Float[Array, "*tokens dim"]:
        """The rest of a block after attention."""
        config = self.config
        x = x + _linear(attended.reshape(*x.shape[:-1], -1), layer.out, layer.out_bias)
        wide = _linear(_rms(x, layer.mlp_norm, config.norm_eps), layer.gate_up, layer.gate_up_bias)
        gate, up = jnp.split(wide, 2, axis=-1)
        return x + _linear(ACTIVATIONS[config.activation](gate) * up, layer.down, layer.down_bias)

    def _output(self, x: Float[Array, "*tokens dim"]) -> Output:
        hidden = _rms(x, self.norm, self.config.norm_eps)
        logits = _linear(hidden, self.embedding if self.head is None else self.head, None)
        wide = jnp.promote_types(logits.dtype, jnp.float32)
        return Output(logits.astype(wide), hidden.astype(wide))


def _linear(x: Array, matrix: Array, bias: Array | None) -> Array:
    y = apply_rows(matrix, x)
    return y if bias is None else y + bias


def _rms(x: Array, weight: Array, eps: float) -> Array:
    """x over its root mean square, in float32 at least."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    normed = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + eps)
    return weight * normed.astype(x.dtype)


def build_llama(config: LlamaConfig, take: Callable[[str, tuple[int, ...]], Array]) -> Llama:
    """A model from its tensors.

    Args:
        config: sizes and switches.
        take: ``(name, shape) -> array``, by the names that Hugging Face checkpoints use.
    """
    c = config
    query, both = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim

    def layer(number: int) -> Layer:
        def part(name: str, *shape: int) -> Array:
            return take(f"model.layers.{number}.{name}", shape)

        def parts(names: dict[str, int], kind: str, *rest: int) -> Array:
            return jnp.concatenate([part(f"{name}.{kind}", rows, *rest) for name, rows in names.items()])

        qkv = {"self_attn.q_proj": query, "self_attn.k_proj": both, "self_attn.v_proj": both}
        gate_up = {"mlp.gate_proj": c.mlp_dim, "mlp.up_proj": c.mlp_dim}
        return Layer(
            attention_norm=part("input_layernorm.weight", c.dim),
            qkv=parts(qkv, "weight", c.dim),
            qkv_bias=parts(qkv, "bias") if c.qkv_bias else None,
            query_norm=part("self_attn.q_norm.weight", c.head_dim) if c.qk_norm else None,
            key_norm=part("self_attn.k_norm.weight", c.head_dim) if c.qk_norm else None,
            out=part("self_attn.o_proj.weight", c.dim, query),
            out_bias=part("self_attn.o_proj.bias", c.dim) if c.out_bias else None,
            mlp_norm=part("post_attention_layernorm.weight", c.dim),
            gate_up=parts(gate_up, "weight", c.dim),
            gate_up_bias=parts(gate_up, "bias") if c.mlp_bias else None,
            down=part("mlp.down_proj.weight", c.dim, c.mlp_dim),
            down_bias=part("mlp.down_proj.bias", c.dim) if c.mlp_bias else None,
        )

    return Llama(
        embedding=take(EMBEDDING, (c.vocab_size, c.dim)),
        layers=[layer(number) for number in range(c.num_layers)],
        norm=take("model.norm.weight", (c.dim,)),
        head=None if c.tied else take(HEAD, (c.vocab_size, c.dim)),
        config=c,
    )


def random_llama(seed: int, config: LlamaConfig, scale: float = 0.02) -> Llama:
    """A model with normal weights and norms of one: for benchmarks, tests and as a start for training.

    Args:
        seed: of the weights.
        config: sizes and switches.
        scale: standard deviation of a weight.
    """
    generator = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> Array:
        if name.endswith("norm.weight"):
            return jnp.ones(shape, jnp.float32)
        return jnp.asarray(scale * generator.standard_normal(shape), jnp.float32)

    return build_llama(config, draw)
