"""Results: what runs leave behind, what follows from it, and how it is shown and kept."""

from smcinfer.results.evidence import Bound, Evidence
from smcinfer.results.record import Record, load
from smcinfer.results.result import Result

__all__ = ["Bound", "Evidence", "Record", "Result", "load"]
