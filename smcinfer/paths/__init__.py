"""Ways from a base that can be drawn to a target: exponents or data, schedules, and lengths of moves."""

from smcinfer.paths.data_annealing import DataAnnealing, data_annealing
from smcinfer.paths.moves import Moves
from smcinfer.paths.schedules import ESS, ConditionalESS, Exponents, Schedule
from smcinfer.paths.tempering import Tempering, tempering

__all__ = [
    "ESS",
    "ConditionalESS",
    "DataAnnealing",
    "Exponents",
    "Moves",
    "Schedule",
    "Tempering",
    "data_annealing",
    "tempering",
]
