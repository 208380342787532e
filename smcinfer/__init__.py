"""smcinfer: sequential Monte Carlo on JAX. A target is a Python function; a result carries log Z with an error bar.

>>> import jax, smcinfer
>>> result = smcinfer.sample(jax.random.key(0), smcinfer.posterior(prior=..., log_likelihood=...))
>>> print(result)
>>> result.to_arviz()
"""

from smcinfer import bounds, checks, kernels, models, plots, resampling
from smcinfer.api import sample
from smcinfer.compose import Bootstrap, Guided, Process, Proposal, Twist, TwistInduced, compose, process, twisted
from smcinfer.errors import ArgumentError, CheckpointError, SmcinferError, TargetError
from smcinfer.feynman_kac import FeynmanKac, Mutation, Population
from smcinfer.io import package_version
from smcinfer.result import Result, load
from smcinfer.runner import Run, run
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
    "StaticTarget",
    "Status",
    "TargetError",
    "Twist",
    "TwistInduced",
    "bounds",
    "checks",
    "compose",
    "from_numpyro",
    "kernels",
    "load",
    "log_density",
    "models",
    "plots",
    "posterior",
    "process",
    "resampling",
    "run",
    "sample",
    "twisted",
]
