"""Markov chain Monte Carlo with the move kernels: many chains in one program, tuned together, kept as a record."""

from smcinfer.results.chains import Chains
from smcinfer.run.chains.run import mcmc

__all__ = ["Chains", "mcmc"]
