"""The public names of smcinfer and where each lives: type checkers read them here, and `smcinfer.ground.lazy` imports them."""

from smcinfer import bounds, checks, diffusion, graphs, kernels, language, models, plots, proposals, twists
from smcinfer.api import certify, sample
from smcinfer.core import resampling
from smcinfer.core.compose import Bootstrap, Guided, Process, Proposal, Twist, TwistInduced, compose, process
from smcinfer.core.conditional import condition
from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population
from smcinfer.core.plan import Plan
from smcinfer.core.recursions import DEER, GaussSeidelJacobi, Picard
from smcinfer.core.status import Status
from smcinfer.graphs.inference.annealed import annealed
from smcinfer.graphs.inference.chains import block_gibbs
from smcinfer.graphs.inference.numpyro_graph import graph_from_numpyro
from smcinfer.ground.cache import cache_dir
from smcinfer.ground.errors import ArgumentError, CheckpointError, FileError, SmcinferError, TargetError
from smcinfer.paths import ESS, ConditionalESS, Exponents, Moves, Path, Schedule
from smcinfer.results import Bound, Record, Result, load
from smcinfer.results.chains import Chains
from smcinfer.results.finished import Run
from smcinfer.results.forecast import Forecast
from smcinfer.results.gaussian import GaussianMoments
from smcinfer.results.smoothed import Smoothed
from smcinfer.run.chains.run import mcmc
from smcinfer.run.chains.tempered import parallel_tempering
from smcinfer.run.runner import run
from smcinfer.state_space import StateSpace, state_space
from smcinfer.state_space.gaussian.doors import ensemble_filter, gaussian_filter
from smcinfer.state_space.online.cloud import Cloud
from smcinfer.state_space.online.door import Online, OnlineParameters, online
from smcinfer.state_space.online.families import NestedFilters
from smcinfer.state_space.panel import Panel, panel
from smcinfer.state_space.parameters.climbs import IteratedFiltering, OnlineEM, Score
from smcinfer.state_space.parameters.gibbs import particle_gibbs
from smcinfer.state_space.parameters.likeliest import maximum_likelihood
from smcinfer.state_space.parameters.parametric import parametric
from smcinfer.state_space.parameters.pmmh import pmmh
from smcinfer.state_space.parameters.smc2 import smc2
from smcinfer.state_space.smoothing.smooth import smooth
from smcinfer.static import StaticTarget, from_numpyro, log_density, posterior
from smcinfer.static.draws import reference_from
from smcinfer.static.methods import DataAnnealing, Nested, Tempering
from smcinfer.static.mixed import MixedPath
from smcinfer.static.numpyro_mixed import mixed_from_numpyro
from smcinfer.static.on_host import HostFunction, on_host
from smcinfer.static.pymc_mixed import mixed_from_pymc
from smcinfer.static.pymc_model import from_pymc
from smcinfer.static.simulator import SimulatorPath, simulator
from smcinfer.static.stan_model import from_stan
from smcinfer.static.synthetic import SyntheticPath, synthetic_likelihood

__version__: str

__all__ = [
    "DEER",
    "ESS",
    "ArgumentError",
    "Bootstrap",
    "Bound",
    "Chains",
    "CheckpointError",
    "Cloud",
    "ConditionalESS",
    "DataAnnealing",
    "Exponents",
    "FeynmanKac",
    "FileError",
    "Forecast",
    "GaussSeidelJacobi",
    "GaussianMoments",
    "Guided",
    "HostFunction",
    "IteratedFiltering",
    "MixedPath",
    "Moves",
    "Mutation",
    "Nested",
    "NestedFilters",
    "Online",
    "OnlineEM",
    "OnlineParameters",
    "Panel",
    "Path",
    "Picard",
    "Plan",
    "Population",
    "Process",
    "Proposal",
    "Record",
    "Result",
    "Run",
    "Schedule",
    "Score",
    "SimulatorPath",
    "SmcinferError",
    "Smoothed",
    "StateSpace",
    "StaticTarget",
    "Status",
    "SyntheticPath",
    "TargetError",
    "Tempering",
    "Twist",
    "TwistInduced",
    "annealed",
    "block_gibbs",
    "bounds",
    "cache_dir",
    "certify",
    "checks",
    "compose",
    "condition",
    "diffusion",
    "ensemble_filter",
    "from_numpyro",
    "from_pymc",
    "from_stan",
    "gaussian_filter",
    "graph_from_numpyro",
    "graphs",
    "kernels",
    "language",
    "load",
    "log_density",
    "maximum_likelihood",
    "mcmc",
    "mixed_from_numpyro",
    "mixed_from_pymc",
    "models",
    "on_host",
    "online",
    "panel",
    "parallel_tempering",
    "parametric",
    "particle_gibbs",
    "plots",
    "pmmh",
    "posterior",
    "process",
    "proposals",
    "reference_from",
    "resampling",
    "run",
    "sample",
    "simulator",
    "smc2",
    "smooth",
    "state_space",
    "synthetic_likelihood",
    "twists",
]
