"""Commands and options, and the way errors reach a person: one message on stderr, never a traceback."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from smcinfer.errors import SmcinferError
from smcinfer.io import package_version

USAGE, INTERRUPTED = 2, 130
"""Exit codes: the command was wrong (argparse uses the same); stopped from the keyboard."""

_EXAMPLES = """\
examples:
  smcinfer demo --out output/demo                  see it work
  smcinfer sample model.py:target --out run.nc     a target, or a function that returns one, defined in model.py
  smcinfer sample model.py:target --kernel nuts --num-particles 1000 --num-runs 8 --plots figures
  smcinfer summary run.nc                          print a saved result again
  smcinfer plot run.nc --out figures               draw it
  smcinfer check model.py:target                   is the target what the engine needs?

exit codes: 0 all well; 1 the run is partial or wrong (see its status), or a check failed; 2 the command was wrong
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="smcinfer",
        description="Sequential Monte Carlo: posterior draws and log Z with an error bar.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"smcinfer {package_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_sample(commands)
    one = _add(commands, "summary", "print a saved result")
    one.add_argument("file", type=Path, metavar="run.nc", help="a file that sample --out wrote")
    one = _add(commands, "plot", "draw the figures of a saved result")
    one.add_argument("file", type=Path, metavar="run.nc", help="a file that sample --out wrote")
    one.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("figures"), help="folder for the PNG files (figures)"
    )
    one = _add(commands, "check", "check that a target, kernel, process or proposal keeps the engine's contract")
    one.add_argument("part", metavar="FILE.py:PART", help="the part, or a function without arguments that returns it")
    one.add_argument("--seed", type=int, default=0, help="random seed (0)")
    one.add_argument("--x64", action="store_true", help="check in float64")
    one = _add(commands, "demo", "run the demonstration")
    one.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("output/demo"), help="folder for its files (output/demo)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; those of the process where ``None``.

    Returns:
        The exit code.
    """
    args = build_parser().parse_args(arguments)
    try:
        return _command(args.command)(args)
    except SmcinferError as error:
        print(f"smcinfer {args.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        kept = (
            " (the checkpoint is kept: the same command goes on from it)" if getattr(args, "checkpoint", None) else ""
        )
        print(f"smcinfer {args.command}: interrupted{kept}", file=sys.stderr)
        return INTERRUPTED


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """The function behind a command; imported only now, so that ``--help`` does not wait for JAX."""
    from smcinfer.cli import commands

    return getattr(commands, name)


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=text)


def _add_sample(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    one = _add(commands, "sample", "sample a target that a Python file defines")
    one.add_argument(
        "target", metavar="FILE.py:TARGET", help="a target, or a function without arguments that returns it"
    )
    size = one.add_argument_group("size")
    size.add_argument("--num-particles", type=int, default=4096, metavar="N", help="particles of each run (4096)")
    size.add_argument("--num-runs", type=int, default=4, metavar="R", help="independent runs, for error bars (4)")
    size.add_argument("--seed", type=int, default=0, help="random seed (0): the same seed gives the same result")
    size.add_argument("--x64", action="store_true", help="compute in float64")
    how = one.add_argument_group("method")
    how.add_argument("--kernel", default="hmc", help="move kernel by name (hmc)")
    how.add_argument("--path", default="tempering", help="tempering, or data_annealing (tempering)")
    how.add_argument("--schedule", metavar="RULE", help="ess, conditional_ess, or exponents like .01,.1,1 (ess)")
    how.add_argument("--ess-threshold", type=float, metavar="F", help="ESS an adaptive step keeps, in (0, 1)")
    how.add_argument("--max-steps", type=int, default=1000, metavar="T", help="most steps of an adaptive path (1000)")
    files = one.add_argument_group("output")
    files.add_argument("--out", type=Path, metavar="run.nc", help="save the result (netCDF)")
    files.add_argument("--plots", type=Path, metavar="DIR", help="draw every figure into a folder")
    files.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="file or folder to save progress to and resume from"
    )
    files.add_argument("--no-progress", action="store_true", help="no progress bar")
