"""The contract checks: they pass good parts, and name what is wrong with each kind of faulty one."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer import checks
from smcinfer.checks.exact import exact_target
from smcinfer.checks.report import Check, Report, close, follows, mean
from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity, info
from smcinfer.static.methods import Tempering
from smcinfer.static.target import StaticTarget, posterior
from tests.statistics import assert_ks, assert_mean

KEY = jax.random.key(20240611)


def failed(report: Report) -> list[str]:
    """Names of the broken promises."""
    return [check.name for check in report.failures]


class Walk(Kernel):
    """Random-walk Metropolis, right or with one named fault."""

    fault: str = eqx.field(static=True, default="")

    def parameters(self, dim: int) -> Array:
        return jnp.full((dim,), 0.9)

    def tune(self, params: Array, positions: Array, log_weights: Array, acceptance: Array) -> Any:
        return params[:1] if self.fault == "tune" else params

    def step(
        self, key: Array, state: KernelState, density: TemperedDensity, params: Array
    ) -> tuple[KernelState, KernelInfo]:
        noise_key, accept_key = jax.random.split(key)
        proposed = self.init(state.position + params * jax.random.normal(noise_key, params.shape), density)
        old, new = (density.combine(one.log_base, one.log_potential) for one in (state, proposed))
        level = old - jax.random.exponential(accept_key)
        accept = {
            "": new > level,
            "no accept step": jnp.isfinite(new),
            "NaN accepted": ~(new <= level),
            "swapped ratio": jnp.isfinite(new) & (old > new - (old - level)),
            "stuck": jnp.asarray(False),
        }.get(self.fault, new > level)
        chosen = jax.tree.map(lambda a, b: jnp.where(accept, a, b), proposed, state)
        if self.fault == "stale cache":
            chosen = KernelState(chosen.position, state.log_base, chosen.log_potential)
        if self.fault == "step":
            chosen = KernelState(chosen.position, chosen.log_base, chosen.log_potential.astype(jnp.float16))
        probability = 1.5 if self.fault == "acceptance" else 0.5
        return chosen, info(jnp.asarray(probability), -1 if self.fault == "num_evals" else 1)


@pytest.mark.dealt
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("", None),
        ("no accept step", "invariant: base alone"),
        ("swapped ratio", "invariant: tempered Gaussian"),
        ("NaN accepted", "no chain is where the density is not finite"),
        ("stale cache", "the cached parts are those of the position"),
        ("stuck", "chains move"),
        ("step", "step returns a state like the one it was given"),
        ("tune", "tune returns parameters like the ones it was given"),
        ("acceptance", "acceptance is a probability"),
        ("num_evals", "num_evals is not negative"),
    ],
)
def test_kernel_faults_are_named(fault: str, complaint: str | None) -> None:
    report = checks.check(Walk(fault), KEY, dim=2, num_chains=4096)
    assert (complaint in failed(report)) if complaint else report.passed, report


@pytest.mark.slow
def test_kernel_is_checked_on_your_density() -> None:
    density = TemperedDensity(lambda x: -jnp.sum(jnp.abs(x)), lambda x: jnp.zeros(()), jnp.ones(()))
    draws = jax.random.laplace(KEY, (20_000, 2))
    good = checks.check_kernel(Walk(), KEY, density=density, draws=draws)
    assert good.passed, good
    assert failed(checks.check_kernel(Walk(), KEY, density=density, draws=1.6 * draws)) == ["invariant: your density"]
    with pytest.raises(ArgumentError, match="go together"):
        checks.check_kernel(Walk(), KEY, density=density)
    with pytest.raises(ArgumentError, match="too few draws"):
        checks.check_kernel(Walk(), KEY, density=density, draws=draws[:10])


def test_kernel_that_raises_is_reported() -> None:
    class Broken(Walk):
        def step(self, key: Array, state: Any, density: Any, params: Any) -> Any:
            raise KeyError("step size")

    report = checks.check(Broken(), KEY)
    assert "kernel.step raised KeyError" in report.failures[0].message


@pytest.mark.parametrize(("exponent", "separation"), [(0.0, 0.0), (0.5, 0.0), (1.0, 2.5)])
def test_the_exact_target_is_exact(precision: str, exponent: float, separation: float) -> None:
    target = exact_target("", 3, exponent, separation)
    draws = target.sample(KEY, 20_000)
    for direction in (np.array([1.0, 0.0, 0.0]), np.array([0.5, -1.0, 2.0])):
        assert_ks(np.asarray(draws) @ direction, target.cdf(direction), num_comparisons=2)
    # Stein's identity ties the draws to the density: E[grad log pi] = 0 and E[x_j d_j log pi] = -1.
    gradient = jax.jit(jax.vmap(jax.grad(target.density)))(draws)
    assert_mean(gradient, jnp.zeros(3))
    assert_mean(gradient * draws, -jnp.ones(3))
    with pytest.raises(AssertionError):
        assert_mean(gradient * (draws + 0.1) * 1.1, -jnp.ones(3))


def likelihood(theta: dict[str, Array], datum: Array) -> Array:
    return dist.Normal(theta["mu"], theta["sigma"]).log_prob(datum)


@pytest.fixture(scope="module")
def target() -> StaticTarget:
    prior = {"mu": dist.Normal(1.0, 2.0), "sigma": dist.HalfNormal(1.5)}
    return posterior(prior, likelihood, data=jnp.linspace(-1.0, 2.0, 5))


def gaussian(log_likelihood: Callable[[Array], Array] = lambda x: -jnp.sum(x**2)) -> StaticTarget:
    return posterior(dist.Normal(0.5, jnp.array([1.0, 3.0])).to_event(1), log_likelihood)


def test_good_targets_pass(precision: str, target: StaticTarget) -> None:
    report = checks.check(target, KEY)
    assert report.passed, report
    assert all(check.passed for check in report.checks)
    report = checks.check(gaussian(), KEY)
    assert report.passed and "log_base is the Gaussian of base_mean and base_scale" in str(report)


@pytest.mark.slow
def test_base_of_any_shape_is_not_blamed() -> None:
    priors = {
        "cauchy": dist.HalfCauchy(1.0),
        "simplex": dist.Dirichlet(jnp.array([0.3, 1.0, 5.0])),
        "beta": dist.Beta(0.5, 3.0),
        "gamma": dist.InverseGamma(3.0, 1.0),
        "t": dist.StudentT(3.0, 0.0, 2.0),
    }
    report = checks.check_target(posterior(priors, lambda x: jnp.zeros(())), KEY)
    assert report.passed, report


def change(target: StaticTarget, **fields: Any) -> StaticTarget:
    """The target with some fields replaced."""
    values = {name: getattr(target, name) for name in StaticTarget.__dataclass_fields__}
    return StaticTarget(**(values | fields))


BASE_FAULTS: dict[str, tuple[Callable[[StaticTarget], dict[str, Any]], str]] = {
    "unnormalised": (lambda t: {"log_base": lambda x: t.log_base(x) + 0.2}, "the base is normalised"),
    "no Jacobian": (lambda t: {"log_base": lambda x: t.log_base(x) - x[1]}, "the base's draws follow log_base"),
    "draws too wide": (
        lambda t: {"sample_base": lambda key, n: 1.2 * t.sample_base(key, n)},
        "the base's draws follow log_base",
    ),
    "draws too few": (
        lambda t: {"sample_base": lambda key, n: t.sample_base(key, n - 1)},
        "sample_base returns one row a draw",
    ),
    "draws not finite": (
        lambda t: {"sample_base": lambda key, n: t.sample_base(key, n).at[7].set(jnp.inf)},
        "base draws are finite",
    ),
    "base undefined": (
        lambda t: {"log_base": lambda x: jnp.where(x[0] > 2, -jnp.inf, t.log_base(x))},
        "log_base is finite on base draws",
    ),
    "vector": (
        lambda t: {"log_potential": lambda x: x},
        "each function takes one vector and returns a scalar",
    ),
    "one datum short": (
        lambda t: {"log_terms": lambda x, i: jnp.where(i == 3, 0.0, t.log_terms(x, i))},
        "log_terms sum to log_potential",
    ),
    "inverse": (lambda t: {"unconstrain": lambda v: t.unconstrain(v) + 0.01}, "unconstrain undoes constrain"),
    "constrain": (lambda t: {"constrain": lambda x: {"mu": jnp.log(x[0])}, "unconstrain": None}, "constrained values"),
    "scale": (
        lambda t: {"base_mean": jnp.zeros(2), "base_scale": jnp.eye(2)},
        "log_base is the Gaussian of base_mean and base_scale",
    ),
}


@pytest.mark.parametrize("fault", BASE_FAULTS)
def test_target_faults_are_named(target: StaticTarget, fault: str) -> None:
    fields, complaint = BASE_FAULTS[fault]
    report = checks.check(change(target, **fields(target)), KEY)
    assert any(complaint in name for name in failed(report)), report


@pytest.mark.parametrize(
    ("log_likelihood", "complaint"),
    [
        (lambda x: jnp.where(x[0] > 1.0, jnp.nan, 0.0), "log_potential is never NaN"),
        (lambda x: jnp.where(x[0] > 1.0, jnp.inf, 0.0), "log_potential is never +inf"),
        (lambda x: jnp.where(x[0] < 1e6, -jnp.inf, 0.0), "log_potential is finite on some base draws"),
        (lambda x: jnp.where(x[0] > 0, jnp.sqrt(x[0]), 0.0), "its gradient is finite where it is"),
    ],
)
def test_potential_faults_are_named(log_likelihood: Callable[[Array], Array], complaint: str) -> None:
    assert failed(checks.check(gaussian(log_likelihood), KEY)) == [complaint]


@pytest.mark.slow
def test_models_that_look_across_runs_are_traced_as_the_driver_runs_them(target: StaticTarget) -> None:
    report = checks.check(Tempering().model(target, Walk()), KEY, num_particles=64)
    assert report.passed, report


def test_reports_print_what_broke_and_why() -> None:
    report = Report(
        "kernel [bold]X[/bold]",
        (Check("moves", True, "1", "1", "unseen"), Check("stays", False, "[2]", "3", "why"), Check("law", None)),
    )
    text = str(report)
    assert "kernel [bold]X[/bold]: contract BROKEN" in text
    assert "pass  moves" in text and "FAIL  stays" in text and "open  law" in text
    assert "[2]" in text and "why" in text and "unseen" not in text
    assert not report.passed
    assert Report("x", report.checks[::2]).passed


def test_primitive_checks_judge() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(5000, 2))
    assert mean("m", noise, 0.0).passed and not mean("m", noise + [0.0, 0.1], 0.0).passed
    assert not mean("m", np.where(noise > 3, np.nan, noise), 0.0).passed
    assert (
        follows("f", [noise[:, 0]], [noise[:, 1]]).passed
        and not follows("f", [noise[:, 0]], [1.2 * noise[:, 1]]).passed
    )
    assert close("c", np.array([1e6, np.inf]), np.array([1e6 + 1, np.inf]), 1e-5).passed
    assert not close("c", np.array([1.0]), np.array([np.nan]), 1e-5).passed
