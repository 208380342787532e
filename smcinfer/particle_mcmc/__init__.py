"""State-space models with unknown parameters: particle Gibbs, particle marginal Metropolis-Hastings, SMC squared."""

from smcinfer.particle_mcmc.gibbs import ParticleGibbs, particle_gibbs
from smcinfer.particle_mcmc.parametric import Parametric, parametric
from smcinfer.particle_mcmc.pmmh import PMMH, pmmh
from smcinfer.particle_mcmc.record import ParticleChains
from smcinfer.particle_mcmc.smc2 import SMC2, smc2

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
