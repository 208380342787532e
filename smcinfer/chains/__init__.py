"""Markov chain Monte Carlo with the move kernels: many chains in one program, tuned together, kept as a record."""

from smcinfer.chains.record import Chains, load_chains
from smcinfer.chains.run import mcmc

__all__ = ["Chains", "load_chains", "mcmc"]
