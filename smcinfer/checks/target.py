"""The contract of a static target: a base that is normalised and matches its draws, a usable potential."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from numpy.typing import NDArray

from smcinfer.checks.report import Check, Report, close, mean, none_of, same
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree
from smcinfer.ground.errors import TargetError
from smcinfer.ground.programs import compiled
from smcinfer.static.contract import abstract_output, check_scalar
from smcinfer.static.target import StaticTarget

REGION = 0.8
"""Probability of the ellipsoid on which the base's normaliser is checked, were the base Gaussian."""

MIN_ESS = 0.02
"""Smallest relative effective sample size at which an importance estimate is judged."""

Vectors = NDArray[np.floating[Any]]


def check_target(target: StaticTarget, key: KeyArray, *, num_draws: int = 4096) -> Report:
    r"""Check that a static target keeps what tempering and data annealing rely on.

    The base :math:`\mu` must be normalised, :math:`\int \mu = 1`, or log Z is off by the constant; and its draws must
    follow it. Both are tested on the draws: :math:`E_\mu[q / \mu] = 1` for a Gaussian q fitted to the other half of
    them and cut off at an ellipsoid, and Stein's identity :math:`E_\mu[\nabla \log \mu] = 0`,
    :math:`E_\mu[x_j \partial_j \log \mu] = -1`.

    Args:
        target: what is checked.
        key: random key.
        num_draws: draws of the base; more see smaller faults.

    Returns:
        `Report`. An open line is one that these draws cannot judge.
    """
    target = validate.instance("target", target, StaticTarget, "posterior(...), log_density(...) or from_numpyro(...)")
    target, num_draws = target.as_arrays(), validate.count("num_draws", num_draws)
    name = f"target on {target.dim} dimensions"
    x = jax.ShapeDtypeStruct((target.dim,), jnp.result_type(float))
    try:
        check_scalar("log_base", target.log_base, x)
        check_scalar("log_potential", target.log_potential, x)
        abstract_output("constrain", target.constrain, x)
    except TargetError as error:
        return Report(name, (Check("each function takes one vector and returns a scalar", False, message=str(error)),))
    draws = target.sample_base(key, num_draws)
    shape = same("sample_base returns one row a draw", jnp.shape(draws), (num_draws, target.dim))
    if not shape.passed:
        return Report(name, (shape,))
    log_base, base_gradient = _evaluate(target.log_base, draws)
    log_potential, gradient = _evaluate(target.log_potential, draws)
    checks = [
        shape,
        none_of("base draws are finite", ~np.isfinite(draws)),
        none_of("log_base is finite on base draws", ~np.isfinite(log_base)),
    ]
    checks += _potential(np.asarray(log_potential), np.asarray(gradient))
    if all(check.passed for check in checks[:3]):
        checks += _base(np.asarray(draws, np.float64), np.asarray(log_base, np.float64), np.asarray(base_gradient))
        checks += _maps(target, draws)
        checks += _gaussian(target, draws, np.asarray(log_base))
    checks += _terms(target, draws, np.asarray(log_potential))
    return Report(name, tuple(checks))


@compiled
def _evaluate(function: Callable[..., Any], draws: Float[Array, "n dim"]) -> tuple[Array, Array]:
    """The function's values and gradients at all draws."""
    return jax.vmap(jax.value_and_grad(function))(draws)


@compiled
def _map(function: Callable[..., Any], values: PyTree[Any]) -> PyTree[Any]:
    return jax.vmap(function)(values)


def _potential(values: Vectors, gradients: Vectors) -> list[Check]:
    finite = np.isfinite(values)
    rough = finite & ~np.all(np.isfinite(gradients), axis=1)
    return [
        none_of("log_potential is never +inf", values == np.inf, "an infinite density has no normaliser"),
        none_of(
            "log_potential is never NaN",
            np.isnan(values),
            "the engine gives such particles weight zero and raises NON_FINITE_POTENTIAL; "
            "return -inf outside the support instead",
        ),
        Check(
            "log_potential is finite on some base draws",
            bool(finite.any()),
            f"{finite.mean():.1%} of the draws",
            "more than none",
            "no particle would survive the first step: widen the target's support or choose a base that meets it",
        ),
        none_of(
            "its gradient is finite where it is",
            rough,
            "gradient kernels treat such components as zero and accept less: guard the argument of sqrt, log and "
            "division inside jnp.where, not only its result",
        ),
    ]


def _base(draws: Vectors, log_base: Vectors, gradients: Vectors) -> list[Check]:
    fit, held = draws[::2], draws[1::2]
    covariance = np.atleast_2d(np.cov(fit.T)) + 1e-10 * np.eye(draws.shape[1])
    fitted = scipy.stats.multivariate_normal(fit.mean(0), covariance)
    factor = np.linalg.cholesky(covariance)
    squared = np.sum(np.linalg.solve(factor, (held - fit.mean(0)).T) ** 2, axis=0)
    inside = squared <= scipy.stats.chi2.ppf(REGION, draws.shape[1])
    ratios = np.where(inside, np.exp(np.minimum(fitted.logpdf(held) - log_base[1::2], 700.0)) / REGION, 0.0)
    hint = (
        "log_base and sample_base must be of one normalised density, log Jacobian of the change of variables included"
    )
    normalised = mean("the base is normalised", ratios, 1.0, message=hint)
    effective = ratios.sum() ** 2 / max(float(np.sum(ratios**2)), 1e-300) / len(ratios)
    if effective < MIN_ESS:
        reason = f"these draws cannot tell: the base is far from Gaussian (relative ESS {effective:.1g})"
        normalised = Check("the base is normalised", None, "", "1", reason)
    stein = np.concatenate([gradients, draws * gradients], axis=1)
    expected = np.repeat([0.0, -1.0], draws.shape[1])
    return [normalised, mean("the base's draws follow log_base", stein, expected, message=hint)]


def _maps(target: StaticTarget, draws: Array) -> list[Check]:
    values = _map(target.constrain, draws)
    bad = [name for name, value in values.items() if not np.all(np.isfinite(value))]
    checks = [Check("constrained values are finite", not bad, ", ".join(bad) or "all", "all")]
    if target.unconstrain is not None:
        back = _map(target.unconstrain, values)
        # Where the constrained value rounds (a probability next to one) the way back cannot be exact.
        error = np.abs(np.asarray(back - draws)) / (1 + np.abs(np.asarray(draws)))
        typical = float(np.median(np.max(error, axis=1)))
        limit = float(np.sqrt(jnp.finfo(draws.dtype).eps))
        checks.append(Check("unconstrain undoes constrain", typical <= limit, f"error {typical:.1g}", f"{limit:.1g}"))
    return checks


def _gaussian(target: StaticTarget, draws: Array, log_base: Vectors) -> list[Check]:
    if target.base_mean is None or target.base_scale is None:
        return []
    covariance = target.base_scale @ target.base_scale.T
    declared = scipy.stats.multivariate_normal(
        np.asarray(target.base_mean, np.float64), np.asarray(covariance, np.float64)
    ).logpdf(draws)
    tolerance = 1000 * float(jnp.finfo(draws.dtype).eps)
    hint = "elliptical slice and Crank-Nicolson kernels believe base_mean and base_scale (a lower Cholesky factor)"
    return [close("log_base is the Gaussian of base_mean and base_scale", log_base, declared, tolerance, hint)]


@compiled
def _sum_of_terms(terms: Callable[..., Any], draws: Float[Array, "n dim"], num_data: int) -> Float[Array, " n"]:
    return jax.vmap(lambda x: jnp.sum(terms(x, jnp.arange(num_data))))(draws)


def _terms(target: StaticTarget, draws: Array, log_potential: Vectors) -> list[Check]:
    if target.log_terms is None or target.num_data is None:
        return []
    some = draws[:64]
    finite = np.isfinite(log_potential[:64])
    total = np.asarray(_sum_of_terms(target.log_terms, some, target.num_data))
    tolerance = 100 * target.num_data**0.5 * float(jnp.finfo(draws.dtype).eps)
    hint = "data annealing adds the terms one by one and must end at the whole potential"
    return [close("log_terms sum to log_potential", total[finite], log_potential[:64][finite], tolerance, hint)]
