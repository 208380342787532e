"""``smcinfer generate``: text of a language model that must do as asked, with weights, log Z and its bounds."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any

import jax

from smcinfer import api, language, proposals
from smcinfer.cli.options import Door, command
from smcinfer.cli.output import check_new, checkpoint_file, console
from smcinfer.cli.wish import Wish
from smcinfer.core.conditional import condition
from smcinfer.core.status import explain
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.files import write_whole
from smcinfer.language import Generation, Pretrained, WeightedText, exact
from smcinfer.language.constraints import Allowed, under_constraint
from smcinfer.language.proposals.filtered import filtered
from smcinfer.language.proposals.filters import by_name
from smcinfer.language.proposals.forced import FREE
from smcinfer.results import Result
from smcinfer.results.evidence import Bound
from smcinfer.results.from_run import bound_of
from smcinfer.run.runner import run
from smcinfer.twists import LearnedTwist, attach

EMBEDDED = "stories"
"""Name of the language model inside the package."""
MODEL_SHARE = 0.1
DRAWS_PER_RUN = 4
"""Exact draws made for every run of the upper bound, so that few runs share one."""
REJECTION_BATCH = 256

WISH = Door(Wish, "What is asked")
GENERATION = Door(
    language.generation,
    "Model",
    only=("max_tokens", "temperature", "power", "end"),
    defaults={"max_tokens": 40},
    help={
        "max_tokens": "how many tokens may be generated.",
        "end": "force: the text must have ended by --max-tokens; open: it may be cut.",
    },
)
SAMPLING = Door(
    api.sample,
    "Sampling",
    only=(
        "num_particles",
        "num_runs",
        "resampling",
        "resample_below",
        "islands",
        "progress",
        "checkpoint",
        "checkpoint_seconds",
    ),
    defaults={"num_particles": 64},
    help={
        "num_particles": "texts of each run.",
        "resample_below": "resample where the ESS falls below this fraction of N.",
        "checkpoint": "file or folder to save progress to and resume from.",
    },
)


@command
def generate(
    *,
    wish: Annotated[dict[str, Any], WISH],
    generation: Annotated[dict[str, Any], GENERATION],
    sampling: Annotated[dict[str, Any], SAMPLING],
    model: str = EMBEDDED,
    twist: str | None = None,
    filter: str | None = None,
    model_share: float | None = None,
    seed: int = 0,
    max_draws: int = 4096,
    out: Path | None = None,
    force: bool = False,
    show: int = 10,
) -> int:
    """Generate, print the weighted texts, log Z and its bounds, and save them; what is wrong is found before any work.

    Args:
        wish: what is asked.
        generation: what `language.generation` is called with.
        sampling: what `api.sample` is called with.
        model: a Hugging Face directory, or stories, the model inside.
        twist: a learned look-ahead of the library smcinfer.proposals.
        filter: draw through filters of the logits, top_k=40,temperature=0.8 say; weights undo it.
        model_share: share of draws past the filter, a tenth if not given; above 0 nothing is excluded.
        seed: the same seed gives the same texts.
        max_draws: texts tried for exact draws, for the upper bound.
        out: save texts, weights, log Z and bounds (JSON).
        force: overwrite what stands at --out.
        show: texts to print.

    Returns:
        The exit code.
    """
    check_new(out, force)
    asked = Wish(**wish)
    if model_share is not None and filter is None:
        raise ArgumentError("--model-share does nothing here", expected="it beside --filter", hint="leave it out")
    share = MODEL_SHARE if model_share is None else model_share
    rule = None if filter is None else filtered(by_name(filter), model_share=share)
    if sampling.get("checkpoint") is not None:
        sampling["checkpoint"] = checkpoint_file(sampling["checkpoint"])
    lm = load_model(model)
    target, bound = asked.target(lm, proposal=rule, **generation)
    if twist is not None:
        target = attach(target, load_twist(twist, target))
    key, upper_key = jax.random.split(jax.random.key(seed))
    result = api.sample(key, target, **sampling)
    if rule is not None and share == 0.0:
        upper, why = None, "the filter excludes texts, and exact draws of the others are not made"
    else:
        upper, why = upper_bound(upper_key, target, bound, result, max_draws, sampling.get("progress", True))
    if upper is not None:
        result = result.with_upper_bound(upper)
    texts = target.decode(result)
    plain = console()
    plain.print(str(result))
    if why:
        plain.print(f"  no upper bound: {why}")
    plain.print(f"\nprompt  {asked.prompt!r}")
    print_texts(texts, show)
    if out is not None:
        own = {"model": model, "twist": twist, "filter": filter, "model_share": model_share, "seed": seed}
        options = own | dataclasses.asdict(asked) | generation | sampling | {"max_draws": max_draws}
        write_whole(out, json.dumps(as_json(options, result, texts, why), indent=1, default=str).encode())
        plain.print(f"\nsaved to {out}")
    return int(result.serious)


def print_texts(texts: list[WeightedText], most: int) -> None:
    """The weighted texts, the heaviest first, and what the rest weighs."""
    plain = console()
    plain.print("weight  text")
    for text in texts[:most]:
        plain.print(str(text))
    if len(texts) > most:
        rest = sum(text.weight for text in texts[most:])
        plain.print(f"{rest:6.3f}  in {len(texts) - most} more")


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


def upper_bound(
    key: Any, target: Generation, bound: float | None, result: Result, max_draws: int, progress: bool
) -> tuple[Bound | None, str]:
    """The mean of log Z_hat over runs through exact draws, which rejection makes; or why there is none.

    Args:
        key: one random key.
        target: what was sampled.
        bound: the largest log phi, nats, where it is known.
        result: of sampling it; its log Z says how many texts rejection would take.
        max_draws: the most texts that may be tried.
        progress: draw a bar on stderr.
    """
    if bound is None:
        return None, "the potential has no known largest value, so rejection has nothing to compare with"
    if result.num_runs < 2:
        return None, "one run does not tell its error"
    if not math.isfinite(result.log_z):
        return None, "no text of any weight was found"
    wanted = DRAWS_PER_RUN * result.num_runs
    needed = wanted * math.exp(bound - result.log_z)
    if needed > max_draws:
        return None, f"{wanted} exact draws by rejection would take about {needed:.2g} texts (--max-draws {max_draws})"
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
        result.num_particles,
        num_runs=result.num_runs,
        progress=progress,
        description="upper bound",
    )
    return bound_of(done), ""


def as_json(options: dict[str, Any], result: Result, texts: list[WeightedText], why: str) -> dict[str, Any]:
    """Everything that was asked and found, as JSON can hold it.

    Args:
        options: the command's own options, with the prompt.
        result: the run, for log Z, its error, the bounds and the status.
        texts: generated texts with their weights.
        why: why there is no upper bound; empty where there is one.
    """
    return {
        "prompt": options["prompt"],
        "asked": options,
        "log_z": finite(result.log_z),
        "log_z_se": finite(result.log_z_se),
        "lower_bound": _bound(result.lower_bound),
        "upper_bound": _bound(result.upper_bound),
        "no_upper_bound_because": why or None,
        "status": explain(result.status),
        "texts": [
            {"text": text.text, "weight": text.weight, "tokens": list(text.tokens), "finished": text.finished}
            for text in texts
        ],
    }


def finite(value: float) -> float | None:
    """A number as JSON has it: infinity and NaN are null."""
    return value if math.isfinite(value) else None


def _bound(bound: Bound | None) -> list[float | None] | None:
    return None if bound is None else [finite(value) for value in bound]
