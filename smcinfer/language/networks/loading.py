"""Models from a Hugging Face directory: ``config.json``, one or many ``safetensors``, ``tokenizer.json``.

Everything is checked before the first number is computed: the architecture, every tensor's presence and shape, that no tensor
is left over that the architecture would not use, and that the tokenizer's tokens are the model's.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tokenizers
from safetensors import SafetensorError, safe_open

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks import gpt2, llama
from smcinfer.language.networks.lm import CausalLM
from smcinfer.language.networks.tokenizer import Tokenizer

DTYPES = ("float32", "bfloat16", "float64")
# What checkpoints may hold beside the weights: tables that follow from the configuration.
DERIVED = re.compile(r"rotary_emb\.inv_freq$|\.attn\.(bias|masked_bias)$")
LARGEST_SIZE = 2**31 - 1
"""What an entry of a configuration may count."""
MOST_LAYERS = 10_000


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model as it was published.

    Attributes:
        lm: the model.
        tokenizer: text to tokens and back; ``None`` where the directory has none.
        bos_id, eos_id: tokens that begin and end a sequence, or ``None``.
        name: the directory's.
        config: the content of its ``config.json``.
        also_eos: more tokens that end a sequence: of ``config.json``, and of ``generation_config.json``.
    """

    lm: CausalLM
    tokenizer: Tokenizer | None
    bos_id: int | None
    eos_id: int | None
    name: str
    config: dict[str, Any]
    also_eos: tuple[int, ...] = ()


def load(directory: str | Path, dtype: str = "float32") -> Pretrained:
    """Read a model of the Llama family or a GPT-2, with its tokenizer.

    Args:
        directory: holds ``config.json``, ``model.safetensors`` (or shards with their index) and, for text, ``tokenizer.json``.
        dtype: of the weights and of what is computed with them: ``"float32"``, ``"bfloat16"`` or, under x64, ``"float64"``.

    Raises:
        ArgumentError: for a directory that is no such model, saying what is missing or does not fit.
    """
    folder = validate.path("directory", directory)
    if dtype not in DTYPES:
        raise ArgumentError("unknown dtype", expected=" | ".join(DTYPES), got=dtype)
    if dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ArgumentError(
            "float64 is off", expected="jax_enable_x64", hint='jax.config.update("jax_enable_x64", True)'
        )
    raw = _json(folder / "config.json", "a directory with config.json, as Hugging Face has them")
    family = _family(raw)
    bos_id, _ = special_tokens(raw.get("bos_token_id"))
    eos_id, also_eos = _ends(folder, raw)
    tokenizer = _tokenizer(folder / "tokenizer.json", bos_id, eos_id)
    with ExitStack() as stack:
        tensors = Tensors(folder, stack, jnp.dtype(dtype))
        tied = tensors.tie(family.EMBEDDING, family.HEAD, family.config.tied, raw.get("tie_word_embeddings"))
        lm = family.build(dataclasses.replace(family.config, tied=tied), tensors.take)
        tensors.check_all_used()
    if tokenizer is not None:
        check_tokens(tokenizer, lm.vocab_size)
    return Pretrained(lm, tokenizer, bos_id, eos_id, folder.name, raw, also_eos)


@dataclasses.dataclass(frozen=True)
class _Family:
    """How models of a kind are built.

    Attributes:
        config: sizes and switches.
        build: from those, and a function of a tensor's name and shape.
        EMBEDDING, HEAD: names of the matrices of the vocabulary.
    """

    config: Any
    build: Callable[[Any, Callable[[str, tuple[int, ...]], Array]], CausalLM]
    EMBEDDING: str
    HEAD: str


def _family(raw: dict[str, Any]) -> _Family:
    kind = raw.get("model_type")
    layers = raw.get("num_hidden_layers", raw.get("n_layer"))
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise ArgumentError("config.json: num_layers is no size", expected=f"1 .. {MOST_LAYERS}", got=layers)
    try:
        if kind in llama.ARCHITECTURES:
            found = _Family(llama.LlamaConfig.read(raw), llama.build_llama, llama.EMBEDDING, llama.HEAD)
        elif kind == "gpt2":
            found = _Family(gpt2.GPT2Config.read(raw), gpt2.build_gpt2, gpt2.EMBEDDING, gpt2.HEAD)
        else:
            expected = " | ".join((*llama.ARCHITECTURES, "gpt2"))
            raise ArgumentError("unknown architecture", expected=expected, got=kind)
    except KeyError as error:
        raise ArgumentError(f"config.json of a {kind} model lacks an entry", expected=error.args[0]) from error
    except (TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ArgumentError(
            f"config.json of a {kind} model has an entry of the wrong kind",
            expected="numbers for sizes",
            got=str(error),
        ) from error
    for field in dataclasses.fields(found.config):
        value = getattr(found.config, field.name)
        if field.type is int and not (type(value) is int and 0 < value <= LARGEST_SIZE):
            raise ArgumentError(f"config.json: {field.name} is no size", expected=f"1 .. {LARGEST_SIZE}", got=value)
    return found


def _ends(folder: Path, raw: dict[str, Any]) -> tuple[int | None, tuple[int, ...]]:
    """All tokens that end a sequence: those of the configuration, and those that generation is configured with."""
    path = folder / "generation_config.json"
    more = _json(path, "the configuration of generation") if path.is_file() else {}
    return all_ends(raw.get("eos_token_id"), more.get("eos_token_id"))


class Tensors:
    """The tensors of a directory by name, in one file or many, each read when it is asked for.

    Args:
        folder: the directory.
        stack: closes the files.
        dtype: what tensors are turned into.
    """

    def __init__(self, folder: Path, stack: ExitStack, dtype: Any) -> None:
        index = folder / "model.safetensors.index.json"
        shards = _shards(index) if index.exists() else ["model.safetensors"]
        self._folder, self._dtype = folder, dtype
        self._files: dict[str, Any] = {}
        self._used: set[str] = set()
        self._other_names: dict[str, str] = {}
        for shard in shards:
            path = folder / shard
            if not path.is_file():
                raise ArgumentError(
                    f"{folder} has no weights",
                    expected="model.safetensors, or all shards of its index",
                    got=f"no {shard}",
                )
            try:
                file = stack.enter_context(safe_open(path, framework="flax"))
            except SafetensorError as error:
                raise ArgumentError(f"{path} is damaged", expected="a safetensors file", got=str(error)) from error
            self._files |= dict.fromkeys(file.keys(), file)

    def tie(self, embedding: str, head: str, tied: bool, said: Any) -> bool:
        """Whether one matrix is both the embedding and the output, from what is configured and what is there.

        Args:
            embedding, head: names of the two.
            tied: what the configuration comes to.
            said: what it says, ``None`` where it says nothing.

        A matrix that is stored is used: a head that differs from the embedding is a head whatever the configuration says.
        """
        first, last = self._find(embedding), self._find(head)
        if first is None and last is not None and (tied or said is None):
            self._other_names[embedding] = last
            return True
        if first is None or last is None:
            return tied or said is None
        stored = [self._files[name].get_tensor(name) for name in (first, last)]
        same = stored[0].shape == stored[1].shape and bool(jnp.array_equal(stored[0], stored[1]))
        if tied and same:
            self._used.add(last)
        return tied and same

    def _find(self, name: str) -> str | None:
        """A tensor's name in the files, which may leave out or add the base model's prefix."""
        name = self._other_names.get(name, name)
        bare = name.removeprefix("model.")
        return next((found for found in (name, bare, f"transformer.{name}") if found in self._files), None)

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """One tensor, which must be there and have this shape."""
        found = self._find(name)
        if found is None:
            raise ArgumentError(
                f"the weights in {self._folder} lack a tensor",
                expected=f"{name} of shape {shape}",
                got=f"{len(self._files)} others",
            )
        got = tuple(self._files[found].get_slice(found).get_shape())
        if got != shape:
            raise ArgumentError(f"the tensor {found} has the wrong shape", expected=shape, got=got)
        self._used.add(found)
        return jnp.asarray(self._files[found].get_tensor(found), self._dtype)

    def check_all_used(self) -> None:
        """Raise where a tensor is left over: the model computes something that is not done here."""
        strange = sorted(name for name in self._files.keys() - self._used if not DERIVED.search(name))
        if strange:
            raise ArgumentError(
                f"the weights in {self._folder} have tensors that the architecture does not use",
                expected="only those that config.json asks for",
                got=f"also {', '.join(strange[:3])}" + (f" and {len(strange) - 3} more" if len(strange) > 3 else ""),
            )


def _shards(index: Path) -> list[str]:
    """Files that an index names: only such as lie in its own directory."""
    names = _json(index, "the index of the shards").get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ArgumentError(
            f"{index} names no files", expected='"weight_map": {tensor: file}', got=type(names).__name__
        )
    shards = sorted(set(names.values()))
    for shard in shards:
        if shard in ("", ".", "..") or "/" in shard or "\\" in shard or "\0" in shard:
            raise ArgumentError(
                f"{index} names a file outside of its directory", expected="names of files beside it", got=repr(shard)
            )
    return shards


def _tokenizer(path: Path, bos_id: int | None, eos_id: int | None) -> Tokenizer | None:
    if not path.exists():
        return None
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ArgumentError(f"{path} cannot be read", expected="a tokenizer.json", got=str(error)) from error
    return Tokenizer(inner, bos_id, eos_id)


def _json(path: Path, expected: str) -> dict[str, Any]:
    if not path.is_file():
        raise ArgumentError(f"{path.parent} has no {path.name}", expected=expected)
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read", expected="JSON", got=str(error)) from error
    if not isinstance(content, dict):
        raise ArgumentError(f"{path} cannot be read", expected="a JSON object", got=type(content).__name__)
    return content


def special_tokens(entry: Any) -> tuple[int | None, tuple[int, ...]]:
    """The first id of a configuration's entry, which may hold one, several or none, and the others."""
    if not isinstance(entry, list | tuple):
        return entry, ()
    return (entry[0], tuple(entry[1:])) if entry else (None, ())


def all_ends(*entries: Any) -> tuple[int | None, tuple[int, ...]]:
    """The first id of some entries that hold one, several or none, and the others, each once."""
    ids = [id for first, others in map(special_tokens, entries) if first is not None for id in (first, *others)]
    return special_tokens(list(dict.fromkeys(ids)))


def check_tokens(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise where a tokenizer has tokens that its model has no row for.

    Special ones that were added and never learned are no tokens of the model: a text that has one is refused as a prompt.
    """
    beyond = tokenizer.ids_from(vocab_size)
    if not tokenizer.special_ids() >= set(beyond):
        raise ArgumentError(
            "the tokenizer does not match the model",
            expected=f"tokens 0 .. {vocab_size - 1}, and special ones beyond",
            got=f"tokens up to {tokenizer.largest_id}",
            hint="put the model's own tokenizer.json into the directory",
        )


def ends_of(lm: Any, eos_id: Any) -> tuple[Any, tuple[Any, ...]]:
    """The token that ends a sequence, and those that count as it: ``eos_id`` as `generation` takes it."""
    if isinstance(eos_id, str) and eos_id == "model":
        return getattr(lm, "eos_id", None), tuple(getattr(lm, "also_eos", ()))
    if isinstance(eos_id, Sequence) and not isinstance(eos_id, str) and eos_id:
        first, *others = dict.fromkeys(eos_id)
        return first, tuple(others)
    return eos_id, ()
