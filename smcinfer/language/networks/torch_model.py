"""A `transformers` model as it is, in torch, on the engine's host loop."""

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from smcinfer.ground.arrays import Float, Int
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.host import HostLM
from smcinfer.language.networks.loading import all_ends, check_tokens, special_tokens
from smcinfer.language.networks.tokenizer import Tokenizer


class TorchLM(HostLM):
    """A causal language model of `transformers`; its cache is repeated after the prompt and selected by row at a resampling."""

    def __init__(self, model: Any) -> None:
        # torch is no dependency: whoever has such a model has it.
        self._torch = importlib.import_module("torch")
        self._model = model.eval()
        # Newer releases call the cache by its name.
        known = inspect.signature(model.forward).parameters
        self._cache = "cache" if "cache" in known else "past_key_values"
        self.vocab_size = int(model.config.vocab_size)
        self.max_positions = getattr(model.config, "max_position_embeddings", None)

    def _read(self, tokens: Any, kept: Any) -> tuple[Float[np.ndarray, "N V"], Any]:
        with self._torch.no_grad():
            output = self._model(tokens.to(self._model.device), use_cache=True, **{self._cache: kept})
        return output.logits[:, -1].float().cpu().numpy(), output[self._cache]

    def start(self, prompt: Sequence[int], num_sequences: int) -> tuple[Float[np.ndarray, " V"], Any]:
        """The prompt is read once, and its cache repeated."""
        logits, kept = self._read(self._torch.tensor([list(prompt)]), None)
        kept.batch_repeat_interleave(num_sequences)
        return logits[0], kept

    def step(
        self, tokens: Int[np.ndarray, " N"], rows: Int[np.ndarray, " N"] | None, kept: Any
    ) -> tuple[Float[np.ndarray, "N V"], Any]:
        """One token each, after copying what descends from another row."""
        if rows is not None:
            kept.batch_select_indices(self._torch.from_numpy(rows.astype(np.int64)).to(self._model.device))
        return self._read(self._torch.from_numpy(tokens.astype(np.int64))[:, None], kept)


class Hosted:
    """A model on the host with what goes with it, as `smcinfer.language.generation` takes it.

    Attributes:
        lm: the model.
        tokenizer: or ``None``.
        bos_id, eos_id: tokens that begin and end a sequence, or ``None``.
        also_eos: more tokens that end a sequence.
    """

    def __init__(
        self,
        lm: HostLM,
        tokenizer: Tokenizer | None,
        bos_id: int | None,
        eos_id: int | None,
        also_eos: tuple[int, ...] = (),
    ) -> None:
        self.lm, self.tokenizer, self.bos_id, self.eos_id, self.also_eos = lm, tokenizer, bos_id, eos_id, also_eos


def from_transformers(model: Any, tokenizer: Any = None) -> Hosted:
    """A `transformers` causal language model for `smcinfer.language.generation`.

    Args:
        model: as ``AutoModelForCausalLM.from_pretrained`` gives it.
        tokenizer: a fast tokenizer of `transformers`; without it prompts are token ids.

    Raises:
        ArgumentError: where the model is none, or the tokenizer has no fast backend.
    """
    if not hasattr(model, "config") or not hasattr(model, "generate"):
        raise ArgumentError("not a transformers model", expected="an AutoModelForCausalLM", got=type(model).__name__)
    bos_id, _ = special_tokens(getattr(model.config, "bos_token_id", None))
    settings = (model.config, getattr(model, "generation_config", None))
    eos_id, also_eos = all_ends(*(getattr(one, "eos_token_id", None) for one in settings))
    wrapped = None
    if tokenizer is not None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ArgumentError(
                "the tokenizer has no fast backend", expected="a fast tokenizer", got=type(tokenizer).__name__
            )
        wrapped = Tokenizer(backend, bos_id, eos_id)
        check_tokens(wrapped, model.config.vocab_size)
    return Hosted(TorchLM(model), wrapped, bos_id, eos_id, also_eos)
