"""Commands and options, and the way errors reach a person: one message on stderr, never a traceback."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from smcinfer.cli.options import add, add_blocks, add_generate, add_sample
from smcinfer.ground.errors import SmcinferError
from smcinfer.ground.io import package_version

USAGE, INTERRUPTED = 2, 130
"""Exit codes: the command was wrong (argparse uses the same); stopped from the keyboard."""

OWN_MODULE = ("generate", "blocks")
"""Commands that have a module to themselves."""

_EXAMPLES = """\
examples:
  smcinfer demo --out output/demo                  see it work
  smcinfer sample model.py:target --out run.nc     a target, or a function that returns one, defined in model.py
  smcinfer sample model.py:target --kernel nuts --num-particles 1000 --num-runs 8 --plots figures
  smcinfer summary run.nc                          print a saved result again
  smcinfer plot run.nc --out figures               draw it
  smcinfer check model.py:target                   is the target what the engine needs?
  smcinfer generate --prompt "Once upon a time" --contain dragon     text that must do as asked
  smcinfer blocks model.py:graph --proposal grid   learned block proposals on a factor graph

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
    add_sample(commands)
    add_generate(commands)
    add_blocks(commands)
    one = add(commands, "summary", "print a saved result")
    one.add_argument("file", type=Path, metavar="run.nc", help="a file that sample --out wrote")
    one = add(commands, "plot", "draw the figures of a saved result")
    one.add_argument("file", type=Path, metavar="run.nc", help="a file that sample --out wrote")
    one.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("figures"), help="folder for the PNG files (figures)"
    )
    one = add(commands, "check", "check that a target, kernel, process or proposal keeps the engine's contract")
    one.add_argument("part", metavar="FILE.py:PART", help="the part, or a function without arguments that returns it")
    one.add_argument("--seed", type=int, default=0, help="random seed (0)")
    one.add_argument("--x64", action="store_true", help="check in float64")
    one = add(commands, "demo", "run the demonstration")
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
    module = importlib.import_module(f"smcinfer.cli.{name if name in OWN_MODULE else 'commands'}")
    return getattr(module, name)
