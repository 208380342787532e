"""The commands, and the way errors reach a person: one message on stderr, never a traceback."""

import difflib
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cyclopts import App, CycloptsError

from smcinfer.cli.output import complain, console
from smcinfer.ground.errors import FileError, Interrupted, SmcinferError
from smcinfer.ground.version import package_version

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all well; the run or the check went wrong; the command was wrong; stopped from the keyboard."""

EXIT_CODES = """\
exit codes:
  0    all well
  1    the run is partial or wrong (its status says so), a check failed, or a file could not be written
  2    the command was wrong
  130  stopped by Ctrl-C"""


class Command(NamedTuple):
    """Where a command's function is, what it does in one line, and how it is called."""

    path: str
    does: str
    examples: tuple[str, ...]


COMMANDS = {
    "sample": Command(
        "sample:sample",
        "Sample a target that a Python file defines.",
        (
            "smcinfer sample model.py:target --out run.nc",
            "smcinfer sample model.py:target --kernel nuts --num-particles 1000 --num-runs 8 --plots figures",
            "smcinfer sample model.py:target --schedule ess --schedule-fraction 0.8 --checkpoint run.safetensors",
        ),
    ),
    "generate": Command(
        "generate:generate",
        "Generate text that must do as asked, weighted for exactly that.",
        (
            'smcinfer generate --prompt "Once upon a time" --contain dragon --out story.json',
            'smcinfer generate --prompt "There was a" --regex " (big|small) (cat|dog)" --stop .',
        ),
    ),
    "tree": Command(
        "tree:tree",
        "Generate sentences with the structure of a tree.",
        ('smcinfer tree "(S (NP (PRP)) (VP (VBD)) (. .))"',),
    ),
    "blocks": Command(
        "blocks:blocks",
        "Run block Gibbs chains on a factor graph, with a learned proposal of the library.",
        ("smcinfer blocks model.py:graph --proposal grid --out run.nc",),
    ),
    "summary": Command("saved:summary", "Print a saved result again.", ("smcinfer summary run.nc",)),
    "plot": Command("saved:plot", "Draw the figures of a saved result.", ("smcinfer plot run.nc --out figures",)),
    "report": Command(
        "report:report", "Write a saved result as one HTML page.", ("smcinfer report run.nc --out run.html",)
    ),
    "compare": Command(
        "report:compare", "Compare saved results by their evidence.", ("smcinfer compare small.nc large.nc",)
    ),
    "check": Command(
        "check:check",
        "Check that a target, kernel, process or proposal keeps the engine's contract.",
        ("smcinfer check model.py:target", "smcinfer check kernels.py:my_kernel --x64"),
    ),
    "demo": Command("demo:demo", "Run the demonstration.", ("smcinfer demo --out output/demo",)),
    "completion": Command(
        "completion:completion",
        "Print the script that completes commands and options in a shell.",
        ('eval "$(smcinfer completion bash)"', "smcinfer completion fish > ~/.config/fish/completions/smcinfer.fish"),
    ),
}


def build() -> App:
    """The whole command line. A command's module is imported when it is asked for: ``--help`` does not wait for JAX."""
    app = App(
        name="smcinfer",
        help="Sequential Monte Carlo: posterior draws and log Z with an error bar.",
        help_format="plaintext",
        help_epilogue=f"{_listed(*(command.examples[0] for command in COMMANDS.values()))}\n\n{EXIT_CODES}",
        console=console(),
        version=lambda: f"smcinfer {package_version()}",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for at, (name, command) in enumerate(COMMANDS.items()):
        epilogue = f"{_listed(*command.examples)}\n\n{EXIT_CODES}"
        app.command(f"smcinfer.cli.{command.path}", name=name, help=command.does, help_epilogue=epilogue, sort_key=at)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; those of the process where ``None``.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = "" if words and words[0].startswith("-") else " ".join(words[:1])
    app, checkpoint, left = build(), None, "nothing was saved"
    if not words:
        app.help_print()
        return USAGE
    if name and name not in COMMANDS:
        # Cyclopts would import every command to find the one that was meant.
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"smcinfer {near[0]}" if near else "smcinfer --help"
        complain("", f"unknown command {name!r}\n  expected: {', '.join(COMMANDS)}\n  to fix:   {meant}")
        return USAGE
    try:
        function, bound, _ = app.parse_args(words)
        checkpoint = bound.arguments.get("checkpoint")
        left = _left_behind(function, checkpoint)
        if "jax" in sys.modules:  # the command's module wants it
            from smcinfer.ground.cache import use_cache

            use_cache()
        return function(*bound.args, **bound.kwargs) or OK
    except CycloptsError as error:
        complain(name, f"{error}\n  to fix:   {f'smcinfer {name}'.strip()} --help says what there is")
        return USAGE
    except FileError as error:
        complain(name, str(error))
        return FAILED
    except SmcinferError as error:
        complain(name, str(error))
        return USAGE
    except Interrupted as error:
        # The run knows whether its checkpoint was written; of none it speaks as Python would.
        stopped, _, kept = str(error).partition("\n")
        complain(name, f"{stopped}\n{kept if checkpoint else f'  {left}'}")
        return INTERRUPTED
    except KeyboardInterrupt:
        complain(name, f"interrupted\n  {left}")
        return INTERRUPTED


def _left_behind(function: Callable[..., Any], checkpoint: object) -> str:
    """What an interruption would leave of a run, and how to go on with it."""
    if "checkpoint" not in inspect.signature(function).parameters:
        return "nothing was saved"
    if checkpoint is None:
        return "nothing was saved: with --checkpoint PATH the same command goes on from where it was stopped"
    return f"the same command goes on from what was saved to {checkpoint}"


def _listed(*examples: str) -> str:
    return "\n  ".join(("examples:", *examples))
