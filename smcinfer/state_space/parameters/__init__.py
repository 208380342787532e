"""State-space models with unknown parameters: particle Gibbs, particle marginal Metropolis-Hastings, SMC squared."""

from smcinfer.results.particle_chains import ParticleChains
from smcinfer.state_space.parameters.gibbs import ParticleGibbs, particle_gibbs
from smcinfer.state_space.parameters.parametric import Parametric, parametric
from smcinfer.state_space.parameters.pmmh import PMMH, pmmh
from smcinfer.state_space.parameters.smc2 import SMC2, smc2

__all__ = [
    "PMMH",
    "SMC2",
    "Parametric",
    "ParticleChains",
    "ParticleGibbs",
    "parametric",
    "particle_gibbs",
    "pmmh",
    "smc2",
]
