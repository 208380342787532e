"""Inference on factor graphs: block Gibbs chains, annealed SMC, and graphs of numpyro models."""

from smcinfer.graph_inference.annealed import AnnealedGraph, annealed
from smcinfer.graph_inference.chains import block_gibbs
from smcinfer.graph_inference.curves import Curve, error_curve
from smcinfer.graph_inference.dependence import dependence
from smcinfer.graph_inference.numpyro_graph import graph_from_numpyro

__all__ = ["AnnealedGraph", "Curve", "annealed", "block_gibbs", "dependence", "error_curve", "graph_from_numpyro"]
