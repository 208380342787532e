"""What parts of a target must know of the model that generates: that its tokens are theirs, and what the text goes on from."""

import abc
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Int, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.networks.tokenizer import Tokenizer


class TextReader(eqx.Module):
    """A part that reads text: it is told what the text goes on from, and what ends it."""

    @abc.abstractmethod
    def after(self, prompt: Int[Array, " prompt"], eos_id: int | None) -> "TextReader":
        """The same part for the sequences that follow a prompt."""


def told[Part: PyTree[Any]](part: Part, prompt: Int[Array, " prompt"], eos_id: int | None) -> Part:
    """A potential whose parts that read text know the prompt, and which token is no text but the end.

    Args:
        part: the potential, or any pytree with `TextReader` parts.
        prompt: Int["prompt"], tokens before the text.
        eos_id: the token that ends it; ``None`` where there is none.
    """

    def tell(node: Any) -> Any:
        return node.after(jnp.asarray(prompt, jnp.int32), eos_id) if isinstance(node, TextReader) else node

    return jax.tree.map(tell, part, is_leaf=lambda node: isinstance(node, TextReader))


def check_vocabularies(tokenizer: Tokenizer | None, parts: Mapping[str, PyTree[Any]]) -> None:
    """Raise where a part of a target was made with another vocabulary than its model's, or two with different ones.

    Args:
        tokenizer: the model's own, ``None`` where it came without one.
        parts: by name: readers, potential, twist, proposal. What is made from token ids alone is not compared.

    Raises:
        ArgumentError: that names the part.
    """
    known = None if tokenizer is None else tokenizer.fingerprint
    for name, part in parts.items():
        for node in jax.tree.leaves(part, is_leaf=_is_marked):
            mark = getattr(node, "vocabulary", None)
            if not isinstance(mark, str):
                continue
            known = known or mark
            if mark != known:
                raise ArgumentError(
                    f"the {name} was made with another vocabulary than the model's",
                    expected="the tokens of the model that generates",
                    got=f"those of another tokenizer, in {type(node).__name__}",
                    hint="give contains, on_text, regex, on_host and their kin the same model that generation is given",
                )


def _is_marked(node: Any) -> bool:
    return isinstance(getattr(node, "vocabulary", None), str)
