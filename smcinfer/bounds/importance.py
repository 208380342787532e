r"""Independent draws that finish a run: a mixture is fitted to its particles, and weighs its own draws exactly.

.. math:: \hat Z = \frac1n \sum_i \frac{\gamma(x_i)}{q(x_i)}, \qquad x_i \sim q

q is fitted to what the run found, with a share of the target's base in it, and its draws are new: the mean of a number of them
that was fixed beforehand is unbiased whatever the fit. A draw costs one evaluation, where a particle of a run costs hundreds.
Where an error is wanted the variance among the first draws tells how many are made, and the mean is consistent.

Source: Hesterberg (1995), defensive mixtures; Vehtari, Simpson, Gelman, Yao & Gabry (2024) for the tail.
"""

import dataclasses
import math
import warnings
from typing import Any

import jax
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.errors import surfacing
from smcinfer.ground.programs import compiled
from smcinfer.results import Result
from smcinfer.results.finish import Finish
from smcinfer.run.runner import as_typed_key
from smcinfer.static.draws import reference_from
from smcinfer.static.target import StaticTarget

BATCH = 4096
"""Draws that are weighed at once, by one program."""

SHARE = 0.1
"""Share of the target's base in the mixture."""

PART = 0.7
"""Part of the wanted error that the draws alone are to reach; the run adds to them."""


def finished(
    key: Any, target: StaticTarget, result: Result, *, tolerance: float = 0.0, num_draws: int = 65_536
) -> Result:
    """A result with independent draws from a mixture that was fitted to its particles, joined to its log Z by variance.

    Where the weights' tail is too heavy the draws change nothing; where they contradict the run, the status says so.

    Args:
        key: one random key, another than that of the result.
        target: the static target that the result is of.
        result: what `smcinfer.sample` returned.
        tolerance: standard error of log Z that is wanted, nats; no more draws are made than it takes.
        num_draws: the most draws.

    Returns:
        The same result with a `finish`; its particles and runs are what they were.

    Raises:
        ArgumentError: the target cannot take its parameters to the unconstrained space, or the result is of another one.
    """
    validate.instance("result", result, Result, "what smcinfer.sample returned")
    validate.instance("target", target, StaticTarget, "smcinfer.posterior(...)")
    validate.number("tolerance", tolerance, at_least=0.0)
    most = -(-validate.count("num_draws", num_draws) // BATCH)
    drawn = target.as_arrays().with_reference(reference_from(result, share=SHARE))
    key, found, wanted = as_typed_key(key), np.zeros(0), 1
    with surfacing():
        while found.size < wanted * BATCH:
            batch = _weigh(jax.random.fold_in(key, found.size), drawn)
            found = np.concatenate([found, np.asarray(batch, np.float64)])
            if found.size == BATCH:
                told = tell(found)
                needed = 1 if tolerance == 0.0 else (told.log_z_se / (PART * tolerance)) ** 2
                wanted = most if tolerance == 0.0 or not math.isfinite(needed) else min(most, math.ceil(needed))
                wanted = wanted if told.sound else 1
    return dataclasses.replace(result, finish=tell(found))


def tell(log_weights: np.ndarray) -> Finish:
    """What independent weights say of the log of their mean.

    Args:
        log_weights: Float["n"], nats; what is not a number weighs nothing.
    """
    from arviz_stats.base.array import array_stats

    count = log_weights.size
    log_weights = np.where(np.isnan(log_weights), -np.inf, log_weights)
    total = float(np.logaddexp.reduce(log_weights))
    if not math.isfinite(total):
        return Finish(total - math.log(count), math.nan, count, 0.0, math.inf)
    shares = np.exp(log_weights - total)
    effective = float(1.0 / np.sum(shares**2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # It takes log likelihoods, whose weights they are the inverse of.
        tail = float(array_stats.psislw(-np.maximum(log_weights, log_weights.max() - 700.0))[1])
    variance = max(1.0 / effective - 1.0 / count, 0.0)
    return Finish(
        total - math.log(count), math.sqrt(variance), count, effective, tail if math.isfinite(tail) else math.inf
    )


@compiled
def _weigh(key: Any, target: StaticTarget) -> Any:
    """Log weights of a batch of draws of a target's base."""
    return jax.vmap(target.log_potential)(target.sample_base(key, BATCH))
