"""Weighted texts: what a run over sequences says, in words."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from smcinfer.ground.arrays import Float, Int
from smcinfer.language.networks.tokenizer import Tokenizer

TEXTS = "texts after the prompt, the model's law times what is asked; log Z is the log of the mean of what is asked"
"""What the particles of a run over sequences stand for, in words."""


def powered(power: float) -> str:
    """The same where whole sequences count by a power of their probability."""
    return f"texts after the prompt, the model's law to the power {power:g} times what is asked; log Z is of its total mass"


@dataclasses.dataclass(frozen=True)
class WeightedText:
    """One sequence and its share of the weight.

    Attributes:
        text: what was generated, without the prompt; token numbers where there is no tokenizer.
        weight: share of the target, in [0, 1].
        tokens: generated, EOS included.
        finished: whether the sequence ended by EOS.
    """

    text: str
    weight: float
    tokens: tuple[int, ...]
    finished: bool

    def __str__(self) -> str:
        return f"{self.weight:6.3f}  {self.text!r}"


def weighted_texts(
    shown: Mapping[str, Any], result: Any, prompt: list[int], tokenizer: Tokenizer | None, eos_id: int | None
) -> list[WeightedText]:
    """The different sequences of a result, the heaviest first (see `Generation.decode`).

    Args:
        shown: its particles by name, ``tokens``, ``length`` and ``finished``.
        result: a `Result` or a `Run`, for the weights.
        prompt, tokenizer, eos_id: the target's.
    """
    tokens, lengths, finished, weights = _arrays(shown, result)
    totals: dict[tuple[tuple[int, ...], bool], float] = {}
    for row, length, ended, weight in zip(tokens, lengths, finished, weights, strict=True):
        if weight > 0:
            name = (tuple(row[:length].tolist()), bool(ended))
            totals[name] = totals.get(name, 0.0) + float(weight)

    def words(ids: tuple[int, ...], ended: bool) -> str:
        shown = list(ids[:-1]) if ended and ids and ids[-1] == eos_id else list(ids)
        return " ".join(map(str, shown)) if tokenizer is None else tokenizer.decode_after(prompt, shown)

    found = [WeightedText(words(ids, ended), weight, ids, ended) for (ids, ended), weight in totals.items()]
    return sorted(found, key=lambda entry: -entry.weight)


def _arrays(
    shown: Mapping[str, Any], result: Any
) -> tuple[Int[np.ndarray, "all max_tokens"], Int[np.ndarray, " all"], np.ndarray, Float[np.ndarray, " all"]]:
    """Tokens, lengths, ends and pooled weights of all particles of all runs."""
    log_z = np.asarray(result.log_z if np.ndim(result.log_z) else result.log_z_runs, np.float64)
    log_weights = np.asarray(result.log_weights, np.float64) + log_z[:, None]
    total = np.logaddexp.reduce(log_weights.ravel())
    weights = np.exp(log_weights - total) if np.isfinite(total) else np.zeros(log_weights.shape)
    tokens = np.asarray(shown["tokens"])
    flat = [np.asarray(shown[name]).reshape(-1) for name in ("length", "finished")]
    return tokens.reshape(-1, tokens.shape[-1]), flat[0], flat[1], weights.reshape(-1)
