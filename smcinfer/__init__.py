"""smcinfer: sequential Monte Carlo on JAX. A target is a Python function; a result carries log Z with an error bar.

>>> import jax, smcinfer
>>> result = smcinfer.sample(jax.random.key(0), smcinfer.posterior(prior=..., log_likelihood=...))
>>> print(result)
>>> result.to_arviz()
"""

from smcinfer import bounds, checks, diffusion, graphs, kernels, language, models, plots, proposals, resampling, twists
from smcinfer.api import sample
from smcinfer.chains import Chains, load_chains, mcmc
from smcinfer.compose import Bootstrap, Guided, Process, Proposal, Twist, TwistInduced, compose, process, twisted
from smcinfer.conditional import condition
from smcinfer.errors import ArgumentError, CheckpointError, SmcinferError, TargetError
from smcinfer.feynman_kac import FeynmanKac, Mutation, Population
from smcinfer.graph_inference import annealed, block_gibbs, graph_from_numpyro
from smcinfer.io import package_version
from smcinfer.particle_mcmc import parametric, particle_gibbs, pmmh, smc2
from smcinfer.result import Result, load
from smcinfer.runner import Run, run
from smcinfer.smoothing import Smoothed, smooth
from smcinfer.state_space import StateSpace, state_space
from smcinfer.static import (
    ESS,
    ConditionalESS,
    Exponents,
    StaticTarget,
    from_numpyro,
    log_density,
    posterior,
)
from smcinfer.status import Status

__version__ = package_version()

__all__ = [
    "ESS",
    "ArgumentError",
    "Bootstrap",
    "Chains",
    "CheckpointError",
    "ConditionalESS",
    "Exponents",
    "FeynmanKac",
    "Guided",
    "Mutation",
    "Population",
    "Process",
    "Proposal",
    "Result",
    "Run",
    "SmcinferError",
    "Smoothed",
    "StateSpace",
    "StaticTarget",
    "Status",
    "TargetError",
    "Twist",
    "TwistInduced",
    "annealed",
    "block_gibbs",
    "bounds",
    "checks",
    "compose",
    "condition",
    "diffusion",
    "from_numpyro",
    "graph_from_numpyro",
    "graphs",
    "kernels",
    "language",
    "load",
    "load_chains",
    "log_density",
    "mcmc",
    "models",
    "parametric",
    "particle_gibbs",
    "plots",
    "pmmh",
    "posterior",
    "process",
    "proposals",
    "resampling",
    "run",
    "sample",
    "smc2",
    "smooth",
    "state_space",
    "twisted",
    "twists",
]
