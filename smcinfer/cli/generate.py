"""``smcinfer generate``: text of a language model that must do as asked, with weights, log Z and its bounds."""

import argparse
import functools
import json
import math
import operator
from pathlib import Path
from types import FunctionType
from typing import Any

import jax
import numpy as np
from rich.console import Console

from smcinfer import api, language, proposals
from smcinfer.cli.loading import load_object
from smcinfer.cli.options import EMBEDDED
from smcinfer.core.conditional import condition
from smcinfer.core.status import explain
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import check_writable, write_atomically
from smcinfer.language import Generation, Pretrained, WeightedText, exact
from smcinfer.language.constraints import Allowed, Constraint, constrained, json_schema, lark, regex, under_constraint
from smcinfer.language.potentials import Factor, avoids, contains, on_text
from smcinfer.language.proposals.filtered import filtered
from smcinfer.language.proposals.filters import by_name
from smcinfer.language.proposals.forced import FREE
from smcinfer.results import Result
from smcinfer.results.evidence import Bound
from smcinfer.run.runner import run
from smcinfer.twists import LearnedTwist, attach

OK, FAILED = 0, 1
DRAWS_PER_RUN = 4
"""Exact draws made for every run of the upper bound, so that few runs share one."""
REJECTION_BATCH = 256


def generate(args: argparse.Namespace) -> int:
    """Generate, print the weighted texts, log Z and its bounds, and save them; what is wrong is found before any work."""
    if args.tree is not None:
        from smcinfer.cli.tree import generate_tree

        return generate_tree(args)
    if args.out is not None:
        check_writable(args.out)
    if not args.prompt:
        raise ArgumentError("the prompt is empty", expected="--prompt TEXT", got="nothing")
    rule = None if args.filter is None else filtered(by_name(args.filter), model_share=args.model_share)
    model = load_model(args.model)
    target, bound = make_target(args, model, rule)
    key, upper_key = jax.random.split(jax.random.key(args.seed))
    progress = not args.no_progress
    result = api.sample(key, target, num_particles=args.num_particles, num_runs=args.num_runs, progress=progress)
    upper, why = upper_bound(upper_key, args, target, bound, result)
    if upper is not None:
        result.settings["upper_bound"] = list(upper)
    texts = target.decode(result)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(str(result))
    if why:
        console.print(f"  no upper bound: {why}")
    console.print(f"\nprompt  {args.prompt!r}\nweight  text")
    for text in texts[: args.show]:
        console.print(str(text))
    if len(texts) > args.show:
        rest = sum(text.weight for text in texts[args.show :])
        console.print(f"{rest:6.3f}  in {len(texts) - args.show} more")
    if args.out is not None:
        write_atomically(args.out, json.dumps(as_json(args, result, texts, why), indent=1, default=str).encode())
        console.print(f"\nsaved to {args.out}")
    return FAILED if result.serious else OK


def load_model(name: str) -> Pretrained:
    """The embedded model, or one from a directory, with a tokenizer."""
    if name == EMBEDDED:
        from smcinfer.models import stories

        return stories.load()
    if not Path(name).is_dir():
        raise ArgumentError("no such model", expected=f"a Hugging Face directory, or {EMBEDDED}", got=name)
    model = language.load(name)
    if model.tokenizer is None:
        raise ArgumentError("the model has no tokenizer", expected="tokenizer.json in the directory", got=name)
    return model


def make_target(args: argparse.Namespace, model: Pretrained, rule: Any) -> tuple[Generation, float | None]:
    """What is asked, as a generation, and the largest log phi where it is known."""
    factors = asked(args, model)
    potential = None
    for factor in factors:
        potential = factor if potential is None else potential * factor
    shared = {"max_tokens": args.max_tokens, "proposal": rule, "temperature": args.temperature, "end": args.end}
    stop = stop_token(args, model)
    if stop is not None:
        shared["eos_id"] = stop
    constraint = constraint_of(args, model, stop)
    target: Any
    if constraint is None:
        target = language.generation(model, args.prompt, potential, continuation=args.infill, **shared)
    elif args.infill is not None:
        raise ArgumentError("a constraint is on the whole text", expected="--infill left out", got=args.infill)
    else:
        target = constrained(model, args.prompt, constraint, potential, **shared)
    if args.twist is not None:
        target = attach(target, load_twist(args.twist, target))
    return target, 0.0 if potential is None else potential.log_bound


def load_twist(name: str, target: Generation) -> LearnedTwist:
    """A twist of the library; one that was learned for many endings is given the one that is asked for."""
    twist = proposals.load(name)
    if not isinstance(twist, LearnedTwist):
        raise ArgumentError(
            "the entry is no twist", expected="a learned twist of language", got=f"{name}: {type(twist).__name__}"
        )
    if getattr(twist, "context_size", 0) == 0:
        return under_constraint(target, twist) if isinstance(target.twist, Allowed) else twist  # pyright: ignore
    potential: Any = target.potential
    given = potential.given.tokens
    if given is None:
        raise ArgumentError("the twist looks for an ending", expected="--infill TEXT", got=None)
    return twist.given(given[given != FREE])


def stop_token(args: argparse.Namespace, model: Pretrained) -> int | None:
    """The token that ``--stop`` names."""
    if args.stop is None:
        return None
    tokens = model.tokenizer.encode_plain(args.stop)  # pyright: ignore[reportOptionalMemberAccess]
    if not tokens or model.tokenizer.decode(tokens[-1:]).strip() != args.stop.strip():  # pyright: ignore
        raise ArgumentError("--stop is no single token of the model", expected="a token, '.' say", got=repr(args.stop))
    return tokens[-1]


def constraint_of(args: argparse.Namespace, model: Pretrained, stop: int | None) -> Constraint | None:
    """What the whole text must keep to: all of ``--regex``, ``--schema`` and ``--grammar`` that are given."""
    parts: list[Constraint] = [] if args.regex is None else [regex(args.regex, model, stop)]
    for path, build in ((args.schema, json_schema), (args.grammar, lark)):
        if path is None:
            continue
        if not path.is_file():
            raise ArgumentError("no such file", expected="a file with the schema or grammar", got=path)
        parts.append(build(path.read_text(encoding="utf8"), model, stop))
    return functools.reduce(operator.and_, parts) if parts else None


def asked(args: argparse.Namespace, model: Pretrained) -> list[Factor]:
    """The potentials of the command line."""
    options = {"ignore_case": args.ignore_case, "whole_words": args.whole_words}
    factors: list[Factor] = [contains(word, model, **options) for word in args.contain]
    if args.avoid:
        factors.append(avoids(list(args.avoid), model, **options))
    if args.classifier is not None:
        from smcinfer.models import sentiment

        factors.append(sentiment.load().potential(model, args.classifier) ** args.strength)
    if args.potential is not None:
        factors.append(on_text(load_object(args.potential, (FunctionType,)), model))
    return factors


def upper_bound(
    key: Any, args: argparse.Namespace, target: Generation, bound: float | None, result: Result
) -> tuple[Bound | None, str]:
    """The mean of log Z_hat over runs through exact draws, which rejection makes; or why there is none."""
    if bound is None:
        return None, "the potential has no known largest value, so rejection has nothing to compare with"
    if args.filter is not None and args.model_share == 0.0:
        return None, "the filter excludes texts, and exact draws of the others are not made"
    if args.num_runs < 2:
        return None, "one run does not tell its error"
    if not math.isfinite(result.log_z):
        return None, "no text of any weight was found"
    wanted = DRAWS_PER_RUN * args.num_runs
    needed = wanted * math.exp(bound - result.log_z)
    if needed > args.max_draws:
        return (
            None,
            f"{wanted} exact draws by rejection would take about {needed:.2g} texts (--max-draws {args.max_draws})",
        )
    draw_key, run_key = jax.random.split(key)
    # The estimate of log Z may be off: eight times what it says is more than enough.
    pool = exact.rejected(
        draw_key,
        target,
        bound,
        num_draws=wanted,
        batch=REJECTION_BATCH,
        max_batches=8 * math.ceil(needed / REJECTION_BATCH),
    )
    done = run(
        run_key,
        condition(target, pool),
        args.num_particles,
        num_runs=args.num_runs,
        progress=not args.no_progress,
        description="upper bound",
    )
    values = np.asarray(done.log_z, np.float64)
    return Bound(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))), ""


def as_json(args: argparse.Namespace, result: Result, texts: list[WeightedText], why: str) -> dict[str, Any]:
    """Everything that was found, as JSON can hold it."""
    upper = result.upper_bound
    asked_for = {
        name: value for name, value in vars(args).items() if name not in ("command", "out", "show", "no_progress")
    }
    numbers = {"log_z": result.log_z, "log_z_se": result.log_z_se}
    return {
        "prompt": args.prompt,
        "asked": asked_for,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        "lower_bound": _bound(result.lower_bound),
        "upper_bound": _bound(upper),
        "no_upper_bound_because": why or None,
        "status": explain(result.status),
        "texts": [
            {"text": text.text, "weight": text.weight, "tokens": list(text.tokens), "finished": text.finished}
            for text in texts
        ],
    }


def _bound(bound: Bound | None) -> list[float | None] | None:
    return None if bound is None else [value if math.isfinite(value) else None for value in bound]
