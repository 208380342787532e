"""Syntactic control: trees as tetra-tags, taggers that read them off words, and the target that asks for a tree."""

from smcinfer.language.syntax.pos_gram import PosGram, pos_gram
from smcinfer.language.syntax.score import BracketScore, bracket_score
from smcinfer.language.syntax.tagger import Tagger
from smcinfer.language.syntax.target import syntax_generation
from smcinfer.language.syntax.tetra import TetraTags, decode, encode
from smcinfer.language.syntax.treebank import simplify
from smcinfer.language.syntax.trees import Tree, parse
from smcinfer.language.syntax.words import join_words, split_words

__all__ = [
    "BracketScore",
    "PosGram",
    "Tagger",
    "TetraTags",
    "Tree",
    "bracket_score",
    "decode",
    "encode",
    "join_words",
    "parse",
    "pos_gram",
    "simplify",
    "split_words",
    "syntax_generation",
]
