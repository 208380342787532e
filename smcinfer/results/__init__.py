"""Results: what runs leave behind, what follows from it, and how it is shown and kept."""

from smcinfer.results.evidence import Bound, Evidence
from smcinfer.results.result import Result, load

__all__ = ["Bound", "Evidence", "Result", "load"]
