"""The groups of an ArviZ tree that a target fills: data, prior, predictions, pointwise likelihoods."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from smcinfer.core.described import Described, Named
from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError

OWN = ("posterior", "sample_stats", "weighted_posterior")
"""Groups that every result has."""

FILLED = ("observed_data", "constant_data", "log_likelihood", "posterior_predictive", "prior", "prior_predictive")
"""Groups that a target fills."""

PLAIN = ("observed_data", "constant_data")
"""Groups without draws."""


def wanted(groups: str | Collection[str] | None) -> tuple[str, ...]:
    """Names of the groups that were asked for, those that every result has left out.

    Raises:
        ArgumentError: one is unknown.
    """
    if groups is None:
        return ()
    if groups == "all":
        return FILLED
    asked = (groups,) if isinstance(groups, str) else tuple(groups)
    unknown = [group for group in asked if group not in (*OWN, *FILLED)]
    if unknown:
        raise ArgumentError("unknown group", expected='"all", or some of ' + ", ".join((*OWN, *FILLED)), got=unknown)
    return tuple(group for group in FILLED if group in asked)


def filled(
    described: Described | None, names: Collection[str], key: KeyArray, draws: Named, *, everything: bool
) -> dict[str, Named]:
    """The groups by name, draws with leading axes (chain, draw).

    Args:
        described: what the target tells.
        names: of groups.
        key: for predictions and the prior.
        draws: the posterior's, ``(chain, draw, ...)``.
        everything: leave out what the target does not have, instead of refusing it.

    Raises:
        ArgumentError: the target does not have one of the groups, or is not known.
    """
    if not names:
        return {}
    if described is None:
        if everything:
            return {}
        raise ArgumentError(
            "the target of this result is not known, or tells nothing of itself",
            expected="to_arviz(groups=..., target=the target that was sampled)",
            got=list(names),
            hint="a file keeps draws, not functions: a loaded result has to be told its target",
        )
    chains, count = next(iter(draws.values())).shape[:2]
    flat = {name: value.reshape(chains * count, *value.shape[2:]) for name, value in draws.items()}
    prior_key, ahead_key, before_key = jax.random.split(key, 3)
    prior = described.prior(prior_key, chains * count) if {"prior", "prior_predictive"} & set(names) else None
    makers: dict[str, Callable[[], Named | None]] = {
        "observed_data": described.observed_data,
        "constant_data": described.constant_data,
        "log_likelihood": lambda: described.log_likelihood(flat),
        "posterior_predictive": lambda: described.predicted(ahead_key, flat),
        "prior": lambda: prior,
        "prior_predictive": lambda: None if prior is None else described.predicted(before_key, prior),
    }
    found = {name: makers[name]() for name in names}
    missing = [name for name, group in found.items() if not group]
    if missing and not everything:
        raise ArgumentError(
            "the target does not have every group",
            expected="data told apart (posterior(..., data)) for log_likelihood, predict= for predictions",
            got=f"nothing for {', '.join(missing)}",
            hint='groups="all" leaves out what there is not',
        )
    split: Any = lambda value: np.reshape(value, (chains, count, *np.shape(value)[1:]))  # noqa: E731
    return {
        name: group if name in PLAIN else {variable: split(value) for variable, value in group.items()}
        for name, group in found.items()
        if group
    }
