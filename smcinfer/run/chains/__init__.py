"""Markov chain Monte Carlo with the move kernels: many chains in one program, tuned together, kept as a record."""

from smcinfer.results.chains import Chains, load_chains
from smcinfer.run.chains.run import mcmc

__all__ = ["Chains", "load_chains", "mcmc"]
