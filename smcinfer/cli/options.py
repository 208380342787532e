"""The options of the larger commands. Nothing is imported here that is slow to: ``--help`` does not wait for JAX."""

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
EMBEDDED = "stories"
"""Name of the language model inside the package."""


def add(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """A command without options."""
    return commands.add_parser(name, help=text, description=text)  # pyright: ignore[reportAttributeAccessIssue]


def add_sample(commands: Commands) -> None:
    """The options of ``smcinfer sample``."""
    one = add(commands, "sample", "sample a target that a Python file defines")
    one.add_argument(
        "target", metavar="FILE.py:TARGET", help="a target, or a function without arguments that returns it"
    )
    size = one.add_argument_group("size")
    size.add_argument("--num-particles", type=int, default=4096, metavar="N", help="particles of each run (4096)")
    size.add_argument("--num-runs", type=int, default=4, metavar="R", help="independent runs, for error bars (4)")
    size.add_argument("--seed", type=int, default=0, help="random seed (0): the same seed gives the same result")
    size.add_argument("--x64", action="store_true", help="compute in float64")
    how = one.add_argument_group("method")
    how.add_argument("--kernel", metavar="NAME", help="move kernel of a static target (hmc)")
    how.add_argument("--method", metavar="NAME", help="of a static target: tempering, or data_annealing (tempering)")
    how.add_argument("--schedule", metavar="RULE", help="ess, conditional_ess, or exponents like .01,.1,1 (ess)")
    how.add_argument("--ess-threshold", type=float, metavar="F", help="ESS an adaptive step keeps, in (0, 1)")
    how.add_argument("--max-steps", type=int, metavar="T", help="most steps of an adaptive schedule (1000)")
    files = one.add_argument_group("output")
    files.add_argument("--out", type=Path, metavar="run.nc", help="save the result (netCDF)")
    files.add_argument("--plots", type=Path, metavar="DIR", help="draw every figure into a folder")
    files.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="file or folder to save progress to and resume from"
    )
    files.add_argument("--no-progress", action="store_true", help="no progress bar")


def add_generate(commands: Commands) -> None:
    """The options of ``smcinfer generate``."""
    one = add(commands, "generate", "generate text that must do as asked, weighted for exactly that")
    one.add_argument(
        "--model",
        default=EMBEDDED,
        metavar="DIR",
        help="a Hugging Face directory, or stories, the one inside (stories)",
    )
    one.add_argument("--prompt", metavar="TEXT", help="what the text begins with; not with --tree")
    ask = one.add_argument_group("what is asked")
    ask.add_argument("--infill", metavar="TEXT", help="what must follow the generated text")
    ask.add_argument("--contain", action="append", default=[], metavar="WORD", help="must occur; may be repeated")
    ask.add_argument("--avoid", action="append", default=[], metavar="WORD", help="must not occur; may be repeated")
    ask.add_argument("--whole-words", action="store_true", help="no occurrence inside a longer word counts")
    ask.add_argument("--ignore-case", action="store_true", help="capital or small letters alike")
    ask.add_argument("--classifier", choices=("positive", "negative"), help="sentiment, by the classifier inside")
    ask.add_argument(
        "--strength", type=float, default=1.0, metavar="B", help="power of the classifier's probability (1)"
    )
    ask.add_argument(
        "--potential", metavar="FILE.py:FUNCTION", help="a function of the text: log of how much it is wanted, nats"
    )
    ask.add_argument("--regex", metavar="PATTERN", help="the whole generated text must match a regular expression")
    ask.add_argument("--schema", type=Path, metavar="FILE.json", help="it must be JSON that a schema allows")
    ask.add_argument(
        "--grammar", type=Path, metavar="FILE.lark", help="it must be a text of a grammar, in Lark's syntax"
    )
    ask.add_argument("--tree", metavar="TREE", help="a sentence of this structure: '(S (NP (PRP _)) (VP (VBD _)))'")
    ask.add_argument("--stop", metavar="TEXT", help="one token that ends the text, '.' say (the model's own end)")
    how = one.add_argument_group("method")
    how.add_argument("--max-tokens", type=int, default=40, metavar="T", help="tokens that may be generated (40)")
    how.add_argument(
        "--end", default="open", help="force: the text must have ended by then; open: it may be cut (open)"
    )
    how.add_argument("--temperature", type=float, default=1.0, help="of the model, part of what is asked (1)")
    how.add_argument("--num-particles", type=int, default=64, metavar="N", help="texts of each run (64)")
    how.add_argument("--num-runs", type=int, default=4, metavar="R", help="independent runs, for error bars (4)")
    how.add_argument("--twist", metavar="NAME", help="a learned look-ahead of the library smcinfer.proposals")
    how.add_argument(
        "--filter",
        metavar="RULE",
        help="draw through filters of the logits: top_k=40,temperature=0.8 (weights undo it)",
    )
    how.add_argument(
        "--model-share",
        type=float,
        default=0.1,
        metavar="S",
        help="draws past the filter: above 0 nothing is excluded (0.1)",
    )
    how.add_argument("--seed", type=int, default=0, help="random seed (0)")
    how.add_argument(
        "--max-draws",
        type=int,
        default=4096,
        metavar="M",
        help="texts tried for exact draws, for the upper bound (4096)",
    )
    files = one.add_argument_group("output")
    files.add_argument("--out", type=Path, metavar="FILE.json", help="save texts, weights, log Z and bounds")
    files.add_argument("--show", type=int, default=10, metavar="K", help="texts to print (10)")
    files.add_argument("--no-progress", action="store_true", help="no progress bar")


def add_blocks(commands: Commands) -> None:
    """The options of ``smcinfer blocks``."""
    one = add(commands, "blocks", "block Gibbs chains on a factor graph, with a learned proposal of the library")
    one.add_argument(
        "graph", metavar="FILE.py:GRAPH", help="a FactorGraph, or a function without arguments returning one"
    )
    one.add_argument("--proposal", metavar="NAME", help="entry of the library (single-site Gibbs alone)")
    one.add_argument("--num-steps", type=int, default=1000, metavar="N", help="draws of each chain (1000)")
    one.add_argument("--num-warmup", type=int, default=200, metavar="N", help="sweeps before them (200)")
    one.add_argument("--num-chains", type=int, default=32, metavar="C", help="chains side by side (32)")
    one.add_argument("--seed", type=int, default=0, help="random seed (0): the same seed gives the same chains")
    one.add_argument("--x64", action="store_true", help="compute in float64")
    one.add_argument("--out", type=Path, metavar="run.nc", help="save the chains (netCDF)")
    one.add_argument("--no-progress", action="store_true", help="no progress bar")
