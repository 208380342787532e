"""Inference on factor graphs: block Gibbs chains, annealed SMC, and graphs of numpyro models."""

from smcinfer.graphs.inference.annealed import AnnealedGraph, annealed
from smcinfer.graphs.inference.chains import block_gibbs
from smcinfer.graphs.inference.curves import Curve, error_curve
from smcinfer.graphs.inference.dependence import dependence
from smcinfer.graphs.inference.numpyro_graph import graph_from_numpyro

__all__ = ["AnnealedGraph", "Curve", "annealed", "block_gibbs", "dependence", "error_curve", "graph_from_numpyro"]
