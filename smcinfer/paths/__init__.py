"""Ways from a base that can be drawn to a target: the path itself, schedules of exponents, and lengths of moves."""

from smcinfer.paths.moves import Moves
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place, Rising
from smcinfer.paths.schedules import ESS, ConditionalESS, Exponents, Schedule

__all__ = ["ESS", "ConditionalESS", "Exponents", "Moves", "Path", "Place", "Rising", "Schedule"]
