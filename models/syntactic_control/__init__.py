"""Syntactic control, ready to use: a language model of words, a tagger and parts of speech; give it a tree."""

import dataclasses
from typing import Any

from smcinfer.language.generation import Generation
from smcinfer.language.syntax.pos_gram import PosGram
from smcinfer.language.syntax.tagger import Tagger
from smcinfer.language.syntax.target import syntax_generation
from smcinfer.language.syntax.tetra import encode
from smcinfer.language.syntax.treebank import simplify
from smcinfer.language.syntax.trees import Tree, parse
from smcinfer.models import tagger as taggers
from smcinfer.models import word_lm


@dataclasses.dataclass(frozen=True)
class SyntacticControl:
    """What it takes to ask for a tree (made by `load`).

    Attributes:
        lm: the model of words.
        tagger: reads trees off words.
        gram: parts of speech of the model's words.
    """

    lm: word_lm.WordModel
    tagger: Tagger
    gram: PosGram

    def target(self, tree: str | Tree, **options: Any) -> Generation:
        """Sentences with the structure of a tree; ready for `smcinfer.sample`.

        Args:
            tree: ``"(S (NP (PRP)) (VP (VBD) (NP (DT) (NN))) (. .))"``, words not needed. Function tags, traces and the root are
                taken off.
            **options: of `smcinfer.language.syntax.syntax_generation`.

        Raises:
            ArgumentError: if the brackets are malformed (says where and why), or an option is out of range.
        """
        wanted = parse(tree) if isinstance(tree, str) else tree
        return syntax_generation(self.lm, simplify(wanted) or wanted, self.tagger, gram=self.gram, **options)

    def unknown_tags(self, tree: Tree) -> list[str]:
        """Tags of a tree that the tagger was not taught, and so cannot ask for."""
        return self.tagger.tags.unknown(encode(simplify(tree) or tree))


def load() -> SyntacticControl:
    """The parts, trained by the recipes of `smcinfer.models.word_lm` and `smcinfer.models.tagger`.

    Raises:
        CheckpointError: if weights are damaged or of another version.
    """
    return SyntacticControl(word_lm.load(), taggers.load(), word_lm.load_gram())
