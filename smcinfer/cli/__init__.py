"""The command line: sample a target from a file, look at a saved result, check a part, run the demonstration."""

from smcinfer.cli.app import main

__all__ = ["main"]
