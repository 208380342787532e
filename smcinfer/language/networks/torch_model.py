"""A `transformers` model as it is, in torch, called from the engine's compiled program."""

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from smcinfer.ground.arrays import Float, Int
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.hosts import HostLM
from smcinfer.language.networks.loading import Pretrained, all_ends, check_tokens, special_tokens
from smcinfer.language.networks.tokenizer import Tokenizer


class TorchLM(HostLM):
    """A causal language model of `transformers`.

    Its cache is repeated after the prompt, and selected by row where particles were resampled. Where a cache can do neither, as
    that of a recurrent model, the tokens are kept instead and read again at every step.
    """

    def __init__(self, model: Any) -> None:
        # torch is no dependency: whoever has such a model has it.
        self._torch = importlib.import_module("torch")
        self._model = model.eval()
        # Newer releases call the cache by its name.
        known = inspect.signature(model.forward).parameters
        self._cache = "cache" if "cache" in known else "past_key_values"
        config = text_config(model)
        self.vocab_size = int(config.vocab_size)
        self.max_positions = getattr(config, "max_position_embeddings", None)

    def _read(self, tokens: Any, **options: Any) -> Any:
        with self._torch.no_grad():
            return self._model(tokens.to(self._model.device), **options)

    def start(self, prompt: Sequence[int], num_sequences: int) -> tuple[Float[np.ndarray, " V"], Any]:
        """The prompt is read once, and its cache repeated."""
        tokens = self._torch.tensor([list(prompt)])
        output = self._read(tokens, use_cache=True)
        kept = output.get(self._cache)
        if _movable(kept):
            kept.batch_repeat_interleave(num_sequences)
        else:
            kept = tokens.repeat(num_sequences, 1)
        return _numbers(output.logits[0, -1]), kept

    def step(
        self, tokens: Int[np.ndarray, " N"], rows: Int[np.ndarray, " N"] | None, kept: Any
    ) -> tuple[Float[np.ndarray, "N V"], Any]:
        """One token each, after copying what descends from another row."""
        new = self._torch.from_numpy(tokens.astype(np.int64))[:, None]
        chosen = None if rows is None else self._torch.from_numpy(rows.astype(np.int64))
        if isinstance(kept, self._torch.Tensor):
            kept = self._torch.cat([kept if chosen is None else kept[chosen], new], dim=1)
            return _numbers(self._read(kept, use_cache=False).logits[:, -1]), kept
        if chosen is not None:
            kept.batch_select_indices(chosen.to(self._model.device))
        output = self._read(new, use_cache=True, **{self._cache: kept})
        return _numbers(output.logits[:, -1]), output[self._cache]

    def read(self, tokens: Int[np.ndarray, " L"]) -> Float[np.ndarray, "L V"]:
        """The whole sequence at once."""
        return _numbers(self._read(self._torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0])


def _movable(cache: Any) -> bool:
    """Whether a cache, and each of its layers, can be repeated and selected by row."""
    parts = (cache, *getattr(cache, "layers", ()))
    return all(hasattr(part, name) for part in parts for name in ("batch_repeat_interleave", "batch_select_indices"))


def _numbers(logits: Any) -> np.ndarray:
    return logits.float().cpu().numpy()


def text_config(model: Any) -> Any:
    """The configuration of a model's text: its own, or that of its part for text where it reads more than text."""
    whole = getattr(model.config, "get_text_config", None)
    return model.config if whole is None else whole()


def from_transformers(model: Any, tokenizer: Any = None) -> Pretrained:
    """A `transformers` causal language model for `smcinfer.language.generation`.

    Args:
        model: as ``AutoModelForCausalLM.from_pretrained`` gives it.
        tokenizer: a fast tokenizer of `transformers`; without it prompts are token ids.

    Returns:
        A `Pretrained` whose ``lm`` calls the model. It says logits and no hidden states: filters, constraints, readers, given
        tokens, bounds and checkpoints work; twists that read hidden states and what needs sequences of different lengths do
        not, and say so.

    Raises:
        ArgumentError: where the model is none, or the tokenizer has no fast backend.
    """
    if not hasattr(model, "config") or not hasattr(model, "generate"):
        raise ArgumentError("not a transformers model", expected="an AutoModelForCausalLM", got=type(model).__name__)
    config = text_config(model)
    if getattr(config, "vocab_size", None) is None:
        raise ArgumentError("the model has no vocabulary", expected="a causal language model", got=type(model).__name__)
    bos_id, _ = special_tokens(getattr(config, "bos_token_id", None))
    settings = (config, getattr(model, "generation_config", None))
    eos_id, also_eos = all_ends(*(getattr(one, "eos_token_id", None) for one in settings))
    wrapped = None
    if tokenizer is not None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ArgumentError(
                "the tokenizer has no fast backend", expected="a fast tokenizer", got=type(tokenizer).__name__
            )
        wrapped = Tokenizer(backend, bos_id, eos_id)
        check_tokens(wrapped, config.vocab_size)
    name = str(getattr(model.config, "name_or_path", ""))
    return Pretrained(TorchLM(model).lm, wrapped, bos_id, eos_id, name, config.to_dict(), also_eos)
