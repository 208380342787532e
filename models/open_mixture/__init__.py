"""Gaussian mixtures with an unknown number of components: exact densities, moves, chains, and SMC over all sizes at once."""

from smcinfer.models.open_mixture.annealing import AnnealedMixture, annealed
from smcinfer.models.open_mixture.chains import MixtureChains, run_chains, start
from smcinfer.models.open_mixture.exact import Enumeration, enumerate_labellings
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture, open_mixture, simulate
from smcinfer.models.open_mixture.moves import Gibbs, InTurn, Move
from smcinfer.models.open_mixture.split_merge import SplitMerge

__all__ = [
    "AnnealedMixture",
    "Enumeration",
    "Gibbs",
    "InTurn",
    "MixtureChains",
    "MixtureState",
    "Move",
    "OpenMixture",
    "SplitMerge",
    "annealed",
    "enumerate_labellings",
    "open_mixture",
    "run_chains",
    "simulate",
    "start",
]
