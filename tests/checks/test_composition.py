"""The contract checks of processes, potentials, twists, proposals and whole models, on good and on faulty ones."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcinfer import checks
from smcinfer.core.compose import Bootstrap, Guided, Process, Proposal, Twist, TwistInduced, compose, process
from smcinfer.core.feynman_kac import FeynmanKac, Mutation
from smcinfer.ground.arrays import Array
from smcinfer.ground.errors import ArgumentError
from tests.checks.test_checks import failed

KEY = jax.random.key(20240611)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_good_proposals_pass() -> None:
    for proposal in (guided(), Bootstrap(walk()), TwistInduced(chain(), Table())):
        report = checks.check(proposal, KEY)
        assert all(check.passed for check in report.checks), report
    assert any("t = 0" in check.name for check in checks.check(guided(), KEY).checks)


@pytest.mark.dealt
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


@pytest.mark.slow
def test_a_proposal_whose_weights_cannot_be_judged_is_left_open() -> None:
    report = checks.check(guided(0.01), KEY, num_steps=1)
    assert [check.passed for check in report.checks if "t = 1" in check.name and "E_q" in check.name] == [None, None]


@pytest.mark.slow
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


@pytest.mark.slow
def test_composed_models_are_checked_part_by_part() -> None:
    wrong = Altered(TwistInduced(chain(), Table()), lambda log_w: log_w + 0.1)
    model = compose(chain(), lambda t, x: jnp.where(x == 2, 0.0, -1.0), Table(), wrong, num_steps=4)
    report = checks.check(model, KEY)
    assert failed(report) and all(name.startswith("proposal Altered: ") for name in failed(report)), report
    for noun in ("process", "potential", "twist", "proposal"):
        assert any(check.name.startswith(noun) and check.passed for check in report.checks)


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


@pytest.mark.slow
def test_model_weights_are_tried_in_a_short_run() -> None:
    assert checks.check(Drift(log_w=jnp.asarray(-3.0)), KEY).passed
    not_finite, zero = "no log weight is NaN or +inf", "some particle keeps a weight"
    assert not_finite in failed(checks.check(Drift(log_w=jnp.asarray(jnp.nan)), KEY))
    assert not_finite in failed(checks.check(Drift(log_w=jnp.asarray(jnp.inf)), KEY))
    assert failed(checks.check(Drift(log_w=jnp.asarray(-jnp.inf)), KEY)) == [zero]


@pytest.mark.slow
def test_models_on_the_host_are_run_not_traced() -> None:
    assert checks.check(Drift(on_host=True), KEY).passed
    assert failed(checks.check(Drift("info", on_host=True), KEY)) == ["mutate reports the info that init does"]


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ArgumentError, match="part is a int, which cannot be checked"):
        checks.check(3, KEY)
    with pytest.raises(ArgumentError, match="check_twist"):
        checks.check(Table(), KEY)
