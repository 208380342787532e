r"""Rotary positions: pairs of coordinates turned by angles in proportion to the position.

.. math:: \theta_i = b^{-2i/d}, \qquad (x_i, x_{i+d/2}) \mapsto R(p\,\theta_i)\,(x_i, x_{i+d/2})

Models that read further than they were first trained to scale the frequencies: all of them (linear), the slow ones
(llama3, smoothly between two wavelengths), or by a ramp with a change of temperature (YaRN, Peng et al. 2023).
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import ArgumentError

KINDS = ("default", "linear", "dynamic", "llama3", "yarn")


def frequencies(rope: Mapping[str, Any], head_dim: int, max_positions: int) -> tuple[Float[np.ndarray, " half"], float]:
    """Angles a position turns each pair by, and what cosines and sines are multiplied by.

    Args:
        rope: ``rope_theta``, ``rope_type`` (one of `KINDS`) and what that type needs, as in a ``config.json``.
        head_dim: d, even.
        max_positions: of the model. Up to it a "dynamic" scaling changes nothing, and no sequence here is longer.

    Raises:
        ArgumentError: for a type that is not known.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in KINDS:
        raise ArgumentError("unknown rope scaling", expected=" | ".join(KINDS), got=kind)
    base = float(rope.get("rope_theta", 10000.0))
    plain = base ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    match kind:
        case "linear":
            return plain / rope["factor"], 1.0
        case "llama3":
            return _llama3(plain, rope), 1.0
        case "yarn":
            return _yarn(plain, rope, base, head_dim, max_positions)
    return plain, 1.0


def _llama3(plain: np.ndarray, rope: Mapping[str, Any]) -> np.ndarray:
    """Slow frequencies divided by the factor, fast ones kept, a linear mixture between."""
    turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - share) * plain / rope["factor"] + share * plain


def _yarn(
    plain: np.ndarray, rope: Mapping[str, Any], base: float, head_dim: int, max_positions: int
) -> tuple[np.ndarray, float]:
    """A ramp over the pairs, and the temperature that goes with it."""
    factor = float(rope["factor"])
    original = rope.get("original_max_position_embeddings") or max_positions

    def pair_of(turns: float) -> float:
        return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = pair_of(float(rope.get("beta_fast") or 32)), pair_of(float(rope.get("beta_slow") or 1))
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp = np.clip((np.arange(head_dim // 2) - low) / max(high - low, 1e-3), 0.0, 1.0)
    scale = float(rope.get("attention_factor") or _temperature(factor, rope))
    return plain / factor * ramp + plain * (1 - ramp), scale


def _temperature(factor: float, rope: Mapping[str, Any]) -> float:
    """What makes up for attention over more tokens than before."""

    def one(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    weights = rope.get("mscale"), rope.get("mscale_all_dim")
    return one(float(weights[0])) / one(float(weights[1])) if all(weights) else one(1.0)


def rotate(
    x: Float[Array, "*tokens heads head_dim"],
    positions: Int[Array, "*tokens"],
    inverse: Float[Array, " half"],
    scale: float,
) -> Float[Array, "*tokens heads head_dim"]:
    """Heads turned by their token's position, so that scores depend on distances.

    Args:
        x: Float["*tokens heads head_dim"], queries or keys.
        positions: Int["*tokens"], of each token in its sequence.
        inverse: Float["head_dim/2"], radians a position, of each pair of coordinates (i, i + head_dim/2).
        scale: what the result is multiplied by; one but where a longer context is made up for.

    Source: Su et al. (2021).
    """
    angles = positions[..., None, None] * inverse
    cosine, sine = (jnp.cos(angles) * scale).astype(x.dtype), (jnp.sin(angles) * scale).astype(x.dtype)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
