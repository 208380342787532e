"""Factor graphs: blocks of variables, what touches them, motifs to find them by, classes that may move at once."""

from smcinfer.graphs.blocks import Blocks, blocks_of
from smcinfer.graphs.classes import colour_classes
from smcinfer.graphs.factors import Factors, Functions, Tables, functions, tables
from smcinfer.graphs.graph import REAL, FactorGraph, factor_graph, uniform_states
from smcinfer.graphs.motif import Motif, Slot

__all__ = [
    "REAL",
    "Blocks",
    "FactorGraph",
    "Factors",
    "Functions",
    "Motif",
    "Slot",
    "Tables",
    "blocks_of",
    "colour_classes",
    "factor_graph",
    "functions",
    "tables",
    "uniform_states",
]
