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
from smcinfer.arrays import Array
from smcinfer.checks.exact import exact_target
from smcinfer.checks.report import Check, Report, close, follows, mean
from smcinfer.compose import Bootstrap, Guided, Process, Proposal, Twist, TwistInduced, compose, process
from smcinfer.errors import ArgumentError
from smcinfer.feynman_kac import FeynmanKac, Mutation
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, TemperedDensity, info
from smcinfer.static.target import StaticTarget, posterior
from smcinfer.static.tempering import tempering
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


def walk() -> Process:
    return process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(0.9 * x, 0.5))


def chain() -> Process:
    """A three-state chain."""
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]))
    return process(dist.Categorical(logits=jnp.zeros(3)), lambda t, x: dist.Categorical(logits=logits[x]))


class Loose(Process):
    """A process without annotations, whose methods return whatever they were given."""

    first: Any
    move: Callable[[Any], Any]

    def initial(self) -> Any:
        return self.first

    def transition(self, t: Any, state: Any) -> Any:
        return self.move(state)


class Unscored(dist.Normal):
    """A distribution with draws but no density."""

    def log_prob(self, value: Any) -> Any:
        return jnp.nan * value


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (walk(), None),
        (chain(), None),
        (
            process(lambda: None, lambda t, x: dist.Normal(x, 1.0), lambda t, s, x: jnp.zeros(()) if s is None else x),
            None,
        ),
        (
            Loose(jnp.zeros(()), lambda x: dist.Normal(x, 1.0)),
            "initial and transition return distributions",
        ),
        (Loose(dist.Normal(), lambda x: 0.9 * x), "initial and transition return distributions"),
        (process(dist.Normal(), lambda t, x: dist.Normal(x["a"], 1.0)), "can be traced on one particle"),
        (
            process(
                dist.Normal(), lambda t, x: dist.Normal(jnp.sum(x), 1.0), lambda t, s, x: x if s is None else x[None]
            ),
            "advance keeps the state's structure",
        ),
        (process(dist.Normal(), lambda t, x: dist.Normal(jnp.log(x), 1.0)), "simulated states are finite"),
        (
            process(dist.Normal(), lambda t, x: Unscored(x, 1.0)),
            "log_prob is finite on the transition's own draws",
        ),
    ],
)
def test_process_faults_are_named(part: Process, complaint: str | None) -> None:
    report = checks.check(part, KEY)
    assert (complaint in failed(report)) if complaint else report.passed, report


@pytest.mark.parametrize(
    ("potential", "complaint"),
    [
        (lambda t, x: -(x**2), None),
        (lambda t, x: jnp.where(x > 0, 0.0, -jnp.inf), None),
        (lambda t, x: jnp.stack([x, x]), "returns one scalar a particle"),
        (lambda t, x: jnp.log(x), "is never NaN"),
        (lambda t, x: jnp.where(x > 0, jnp.inf, 0.0), "is never +inf"),
        (lambda t, x: jnp.where(t == 3, -jnp.inf, 0.0), "is not -inf for every particle"),
    ],
)
def test_potential_checks(potential: Callable[..., Array], complaint: str | None) -> None:
    report = checks.check_potential(potential, walk(), KEY, num_steps=4)
    assert (failed(report) == [complaint]) if complaint else report.passed, report


class Table(Twist):
    """A twist on the three-state chain: one number a symbol and step."""

    fault: str = eqx.field(static=True, default="")

    def __call__(self, t: Array, state: Array) -> Array:
        if self.fault == "NaN":
            return jnp.where(state == 1, jnp.nan, 0.0)
        value = jnp.array([0.5, -1.0, 0.2])[state] / (1.0 + t)
        return value if self.fault == "end" else jnp.where(t >= 4, 0.0, value)

    def next(self, t: Array, state: Array) -> Array:
        symbols = jnp.arange(2 if self.fault == "next" else 3)
        return jax.vmap(lambda symbol: self(t, symbol))(symbols)


def test_twist_checks() -> None:
    good = checks.check_twist(Table(), chain(), KEY, num_steps=4)
    assert all(check.passed for check in good.checks) and "next gives one number a symbol" in str(good)
    assert failed(checks.check_twist(Table("NaN"), chain(), KEY, num_steps=4)) == ["is never NaN"]
    assert failed(checks.check_twist(Table("next"), chain(), KEY, num_steps=4)) == ["next gives one number a symbol"]
    assert checks.check_twist(lambda t, x: jnp.where(t >= 4, 0.0, 0.1 * x), walk(), KEY, num_steps=4).passed
    ending = checks.check_twist(Table("end"), chain(), KEY, num_steps=4)
    assert ending.passed
    assert [check.name for check in ending.checks if check.passed is None] == ["log psi_T is zero"]


def guided(scale: float = 0.8) -> Guided:
    return Guided(walk(), lambda t, x: dist.Normal(0.5 * x + 0.3, scale), dist.Normal(0.2, 1.3))


class Altered(Proposal):
    """A proposal with its log weight changed, one by one or in batch only."""

    inner: Proposal
    change: Callable[[Array], Array]
    batch_only: bool = eqx.field(static=True, default=False)
    includes_potential: bool = eqx.field(static=True, default=False)

    def __call__(self, key: Array, t: Array, state: Any) -> tuple[Any, Array]:
        x, log_w = self.inner(key, t, state)
        return x, log_w if self.batch_only else self.change(log_w)

    def propose(self, key: Array, t: Array, states: Any, size: int) -> tuple[Any, Array]:
        x, log_w = self.inner.propose(key, t, states, size)
        return x, self.change(log_w)


def test_good_proposals_pass() -> None:
    for proposal in (guided(), Bootstrap(walk()), TwistInduced(chain(), Table())):
        report = checks.check(proposal, KEY)
        assert all(check.passed for check in report.checks), report
    assert any("t = 0" in check.name for check in checks.check(guided(), KEY).checks)


@pytest.mark.parametrize(
    ("proposal", "law", "broken"),
    [
        (Altered(guided(), jnp.zeros_like), walk(), ["one by one", "batched"]),
        (Altered(guided(), lambda log_w: 0.7 * log_w), walk(), ["one by one", "batched"]),
        (Altered(guided(), lambda log_w: log_w + 0.05, batch_only=True), walk(), ["batched"]),
        (Altered(TwistInduced(chain(), Table()), jnp.zeros_like), chain(), ["one by one", "batched"]),
        (Altered(guided(), lambda log_w: jnp.where(log_w > 0, jnp.nan, log_w)), walk(), ["one by one", "batched"]),
    ],
)
def test_wrong_weights_are_found(proposal: Proposal, law: Process, broken: list[str]) -> None:
    report = checks.check_proposal(proposal, law, KEY, num_steps=1)
    assert all(any(label in name for name in failed(report)) for label in broken), report
    assert len(failed(report)) == len(broken)


def test_a_proposal_that_does_not_cover_the_process_is_found() -> None:
    half = Guided(walk(), lambda t, x: dist.Uniform(0.9 * x, 0.9 * x + 3.0))
    report = checks.check(half, KEY)
    assert failed(report) and not any("NaN" in name for name in failed(report)), report


def test_a_proposal_whose_weights_cannot_be_judged_is_left_open() -> None:
    report = checks.check(guided(0.01), KEY, num_steps=1)
    assert [check.passed for check in report.checks if "t = 1" in check.name and "E_q" in check.name] == [None, None]


def test_a_proposal_that_includes_the_potential_is_compared_with_it() -> None:
    def potential(t: Array, x: Array) -> Array:
        return -0.5 * (x - 1.0) ** 2

    including = Altered(Guided(walk(), lambda t, x: dist.Normal(0.9 * x, 0.5)), jnp.zeros_like, includes_potential=True)
    assert failed(checks.check_proposal(including, walk(), KEY)) == ["its target is known"]
    assert not checks.check_proposal(including, walk(), KEY, potential=potential).passed

    class Optimal(Proposal):
        """Exact draws of p0 phi, weighted by its mass."""

        includes_potential: bool = eqx.field(static=True, default=True)

        def __call__(self, key: Array, t: Array, state: Array) -> tuple[Array, Array]:
            variance = 1.0 / (1.0 / 0.25 + 1.0)
            draw = variance * (0.9 * state / 0.25 + 1.0) + variance**0.5 * jax.random.normal(key)
            mass = dist.Normal(0.9 * state, 1.25**0.5).log_prob(1.0) + 0.5 * jnp.log(2 * jnp.pi)
            return draw, mass

    report = checks.check_proposal(Optimal(), walk(), KEY, potential=potential)
    assert report.passed, report


def test_composed_models_are_checked_part_by_part() -> None:
    wrong = Altered(TwistInduced(chain(), Table()), lambda log_w: log_w + 0.1)
    model = compose(chain(), lambda t, x: jnp.where(x == 2, 0.0, -1.0), Table(), wrong, num_steps=4)
    report = checks.check(model, KEY)
    assert failed(report) and all(name.startswith("proposal Altered: ") for name in failed(report)), report
    for noun in ("process", "potential", "twist", "proposal"):
        assert any(check.name.startswith(noun) and check.passed for check in report.checks)


def test_models_that_look_across_runs_are_traced_as_the_driver_runs_them(target: StaticTarget) -> None:
    report = checks.check(tempering(target, Walk()), KEY, num_particles=64)
    assert report.passed, report


class Drift(FeynmanKac):
    """A model written by hand, with a fault."""

    fault: str = eqx.field(static=True, default="")
    log_w: Any = 0.0
    on_host: bool = eqx.field(static=True, default=False)
    num_steps: int = eqx.field(static=True, default=3)

    def init(self, key: Array, num_particles: int) -> Any:
        x = (
            jnp.asarray(np.asarray(jax.random.normal(key, (num_particles,))))
            if self.on_host
            else jax.random.normal(key, (num_particles,))
        )
        mutation = Mutation(x, -(x**2), jnp.zeros(()), {"scale": jnp.ones(())})
        return x if self.fault == "type" else mutation

    def mutate(self, key: Array, t: Array, particles: Array, shared: Array, resampled: Array) -> Any:
        if self.fault == "raises":
            raise RuntimeError("no such network")
        x = particles + jax.random.normal(key, particles.shape)
        info = {} if self.fault == "info" else {"scale": jnp.ones(())}
        moved = x.astype(jnp.float16) if self.fault == "particles" else x
        return Mutation(moved, -(x**2) + self.log_w, (shared, shared) if self.fault == "shared" else shared, info)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("type", "init and mutate return a Mutation"),
        ("raises", "can be traced"),
        ("info", "mutate reports the info that init does"),
        ("particles", "mutate keeps the structure of the particles"),
        ("shared", "mutate keeps the structure of shared"),
    ],
)
def test_model_faults_are_named(fault: str, complaint: str) -> None:
    report = checks.check(Drift(fault), KEY)
    assert failed(report) == [complaint], report


def test_model_weights_are_tried_in_a_short_run() -> None:
    assert checks.check(Drift(log_w=jnp.asarray(-3.0)), KEY).passed
    not_finite, zero = "no log weight is NaN or +inf", "some particle keeps a weight"
    assert not_finite in failed(checks.check(Drift(log_w=jnp.asarray(jnp.nan)), KEY))
    assert not_finite in failed(checks.check(Drift(log_w=jnp.asarray(jnp.inf)), KEY))
    assert failed(checks.check(Drift(log_w=jnp.asarray(-jnp.inf)), KEY)) == [zero]


def test_models_on_the_host_are_run_not_traced() -> None:
    assert checks.check(Drift(on_host=True), KEY).passed
    assert failed(checks.check(Drift("info", on_host=True), KEY)) == ["mutate reports the info that init does"]


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a int cannot be checked"):
        checks.check(3, KEY)
    with pytest.raises(ArgumentError, match="check_twist"):
        checks.check(Table(), KEY)


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
