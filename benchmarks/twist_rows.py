"""Infilling by twists learned with every objective, at one training budget: how far each is from the target."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer import twists
from smcinfer.language.infilling import infilling, infilling_head
from smcinfer.proposals.infilling_stories import FREE, GIVEN, PROMPT
from smcinfer.twists import Family, LearnedTwist, NetworkHead
from smcinfer.twists.gap import bounds_over

OBJECTIVES = ("dpg", "ctl", "rl", "sixo", "pcl", "subtb", "nasmc", "fudge")


def learned(
    key: jax.Array, family: Family, blank: NetworkHead, objective: str, *, num_steps: int, seen: int = 64
) -> tuple[LearnedTwist, float, float]:
    """A twist by one objective, a step of which reads ``seen`` sequences; the share of resampling it wants, and seconds.

    ``"dpg+ctl"`` spends half of the budget on each: DPG finds the proposal, CTL the values.
    """
    twist: Any = blank
    names = objective.split("+")
    seconds = 0.0
    for part, name in enumerate(names):
        # DPG reads exact draws alone; the others four particles for each.
        options: dict[str, Any] = {"num_contexts": seen} if name == "dpg" else {"num_contexts": seen // 4}
        done = twists.learn(
            jax.random.fold_in(key, part),
            family,
            name,
            twist=twist,
            num_particles=4,
            learning_rate=5e-3,
            num_steps=num_steps // len(names),
            check_every=num_steps // len(names),
            validate=False,
            **options,
        )
        twist, seconds = done.twist, seconds + done.seconds
    return twist, 0.0 if names[-1] in ("dpg", "nasmc") else 0.5, seconds


def measured(
    key: jax.Array, family: Family, twist: LearnedTwist | None, below: float, sizes: tuple[int, ...], num_contexts: int
) -> dict[str, Any]:
    """Bounds on log Z by number of particles, mean over contexts, the same ones whatever the twist."""
    bounds = {
        size: [np.asarray(end) for end in bounds_over(key, family, twist, size, num_contexts, below)] for size in sizes
    }
    return {
        "lower": {size: float(lower.mean()) for size, (lower, _) in bounds.items()},
        "gap": {size: float((upper - lower).mean()) for size, (lower, upper) in bounds.items()},
        "gap_se": {
            size: float((upper - lower).std(ddof=1) / num_contexts**0.5) for size, (lower, upper) in bounds.items()
        },
        "single": bounds[1] if 1 in bounds else None,
        "middle": (bounds[sizes[-1]][0] + bounds[sizes[-1]][1]) / 2,
    }


def rows(
    pretrained: Any,
    *,
    objectives: tuple[str, ...],
    sizes: tuple[int, ...],
    most: int,
    num_steps: int,
    num_contexts: int,
    report: Callable[[str], None] = print,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row an objective, the base law's first.

    Args:
        pretrained: the language model and its tokenizer.
        objectives: names, as `learned` takes them.
        sizes: numbers of particles, 1 first.
        most: the number of particles that the base law is measured with besides.
        num_steps: gradient steps of each.
        num_contexts: continuations that all are measured on, drawn apart.
        report: gets a line now and then.
    """
    learn_key, measure_key = jax.random.split(jax.random.key(0))
    prompt = jnp.asarray(pretrained.tokenizer.encode(PROMPT), jnp.int32)
    lengths: dict[str, int] = {"num_tokens": FREE, "num_given": GIVEN}
    family = infilling(pretrained.lm, prompt, **lengths)
    base = measured(measure_key, family, None, 0.5, tuple(sorted({*sizes, most})), num_contexts)
    report(f"base    gaps {base['gap']}")
    yield "base", base
    for objective in objectives:
        options: dict[str, Any] = {"level": base["lower"][sizes[-1]], "bounded": objective == "fudge"}
        blank = infilling_head(jax.random.key(0), pretrained.lm, prompt, **lengths, **options)
        twist, below, seconds = learned(learn_key, family, blank, objective, num_steps=num_steps)
        row = measured(measure_key, family, twist, below, sizes, num_contexts) | {"train_s": seconds, "twist": twist}
        report(f"{objective:8s} gaps {row['gap']}  trained in {seconds:.0f} s")
        yield objective, row


def with_divergences(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """KL(q||sigma) and KL(sigma||q) of every row, log Z of each context taken from the row with the least gap."""
    sharpest = min(table.values(), key=lambda row: min(row["gap"].values()))
    log_z = sharpest["middle"]
    return {
        name: {
            "kl_q_target": float((log_z - row["single"][0]).mean()),
            "kl_target_q": float((row["single"][1] - log_z).mean()),
            **{key: row[key] for key in ("gap", "gap_se", "train_s") if key in row},
        }
        for name, row in table.items()
    }


def stories(shared: Path | None = None) -> Any:
    """The stories model of this package, or the one in a folder of reference data."""
    if shared is not None:
        from smcinfer.language.networks.loading import load

        return load(shared / "language_models" / "stories260K")
    from smcinfer.models import stories

    return stories.load()
