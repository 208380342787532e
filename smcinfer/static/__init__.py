"""Static targets: densities on vectors, and the samplers that reach them along a path."""

from smcinfer.static.data_annealing import DataAnnealing, data_annealing
from smcinfer.static.moves import Moves
from smcinfer.static.numpyro_model import from_numpyro
from smcinfer.static.reference import laplace_reference
from smcinfer.static.schedules import ESS, ConditionalESS, Exponents, Schedule
from smcinfer.static.target import StaticTarget, log_density, posterior
from smcinfer.static.tempering import Tempering, tempering

__all__ = [
    "ESS",
    "ConditionalESS",
    "DataAnnealing",
    "Exponents",
    "Moves",
    "Schedule",
    "StaticTarget",
    "Tempering",
    "data_annealing",
    "from_numpyro",
    "laplace_reference",
    "log_density",
    "posterior",
    "tempering",
]
