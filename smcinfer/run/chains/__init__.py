"""Markov chains: one loop for every sampler, and `mcmc` for move kernels on densities."""

from smcinfer.results.chains import Chains
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.run import mcmc
from smcinfer.run.chains.sampler import Sampler

__all__ = ["Chains", "Sampler", "drive", "mcmc"]
