"""``smcinfer tree``: sentences with the structure of a given tree, by the word model and the tagger inside."""

import json
from pathlib import Path
from typing import Annotated, Any

import jax

from smcinfer import api
from smcinfer.cli.generate import SAMPLING, finite, print_texts
from smcinfer.cli.options import Door, command
from smcinfer.cli.output import check_new, checkpoint_file, console
from smcinfer.ground.files import write_whole
from smcinfer.language.syntax import parse, simplify
from smcinfer.language.syntax.target import syntax_generation
from smcinfer.models import syntactic_control

SYNTAX = Door(syntax_generation, "Tree", without=("lm", "tree", "tagger", "gram", "prompt"))


@command
def tree(
    tree: str,
    /,
    *,
    syntax: Annotated[dict[str, Any], SYNTAX],
    sampling: Annotated[dict[str, Any], SAMPLING],
    seed: int = 0,
    out: Path | None = None,
    force: bool = False,
    show: int = 10,
) -> int:
    """Ask for a tree, print the weighted sentences and log Z, save them; what is wrong is found before any work.

    Args:
        tree: the structure in brackets, words not needed: "(S (NP (PRP)) (VP (VBD)) (. .))".
        syntax: what `syntax_generation` is called with.
        sampling: what `api.sample` is called with.
        seed: the same seed gives the same sentences.
        out: save sentences, weights and log Z (JSON).
        force: overwrite what stands at --out.
        show: sentences to print.

    Returns:
        The exit code.

    Raises:
        ArgumentError: for brackets that are no tree; says where and why.
    """
    check_new(out, force)
    wanted = parse(tree)
    control = syntactic_control.load()
    target = control.target(wanted, **syntax)
    if sampling.get("checkpoint") is not None:
        sampling["checkpoint"] = checkpoint_file(sampling["checkpoint"])
    result = api.sample(jax.random.key(seed), target, **sampling)
    plain = console()
    plain.print(str(result))
    unknown = control.unknown_tags(wanted)
    if unknown:
        plain.print(f"  too rare for the tagger, so not asked for exactly: {', '.join(unknown)}")
    texts = target.decode(result)
    plain.print(f"\ntree    {simplify(wanted)}")
    print_texts(texts, show)
    if out is not None:
        found: dict[str, Any] = {
            "tree": str(simplify(wanted)),
            "log_z": finite(result.log_z),
            "log_z_se": finite(result.log_z_se),
            "unknown_tags": unknown,
            "texts": [{"text": text.text, "weight": text.weight} for text in texts],
        }
        write_whole(out, json.dumps(found, indent=1).encode())
        plain.print(f"\nsaved to {out}")
    return int(result.serious)
