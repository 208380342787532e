"""``smcinfer generate --tree``: sentences with the structure of a given tree, by the word model and the tagger inside."""

import argparse
import json
import math
from typing import Any

import jax
from rich.console import Console

from smcinfer import api
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable, write_atomically
from smcinfer.language.syntax import parse, simplify
from smcinfer.models import syntactic_control

RESAMPLE_BELOW = 0.25
NOT_WITH_TREE = ("prompt", "infill", "contain", "avoid", "classifier", "potential", "filter", "twist") + (
    "regex",
    "schema",
    "grammar",
    "stop",
)
"""Options of ``generate`` that ask for something else, or of another model."""


def generate_tree(args: argparse.Namespace) -> int:
    """Ask for ``args.tree``, print the weighted sentences and log Z, save them; what is wrong is found before any work.

    Raises:
        ArgumentError: for brackets that are no tree (says where and why), or options that do not go with a tree.
    """
    if args.out is not None:
        check_writable(args.out)
    others = [name for name in NOT_WITH_TREE if getattr(args, name, None)]
    if others:
        raise ArgumentError(f"--tree does not go with --{others[0]}", expected="--tree alone", got=f"both, {others}")
    tree = parse(args.tree)
    control = syntactic_control.load()
    target = control.target(tree, temperature=args.temperature)
    result = api.sample(
        jax.random.key(args.seed),
        target,
        num_particles=args.num_particles,
        num_runs=args.num_runs,
        resample_below=RESAMPLE_BELOW,
        progress=not args.no_progress,
    )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(str(result))
    unknown = control.unknown_tags(tree)
    if unknown:
        console.print(f"  too rare for the tagger, so not asked for exactly: {', '.join(unknown)}")
    texts = target.decode(result)
    console.print(f"\ntree    {simplify(tree)}\nweight  text")
    for text in texts[: args.show]:
        console.print(str(text))
    if args.out is not None:
        found: dict[str, Any] = {
            "tree": str(simplify(tree)),
            "log_z": result.log_z if math.isfinite(result.log_z) else None,
            "log_z_se": result.log_z_se if math.isfinite(result.log_z_se) else None,
            "unknown_tags": unknown,
            "texts": [{"text": text.text, "weight": text.weight} for text in texts],
        }
        write_atomically(args.out, json.dumps(found, indent=1).encode())
        console.print(f"\nsaved to {args.out}")
    return 1 if result.serious else 0
