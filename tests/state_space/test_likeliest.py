"""The score of a particle filter and the likeliest parameters, against Kalman's."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.optimize

import smcinfer
from smcinfer.core.settings import Settings
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.linear_gaussian import linear_gaussian
from smcinfer.state_space import state_space
from smcinfer.state_space.parameters import scores
from smcinfer.state_space.parameters.likeliest import maximum_likelihood
from tests.signatures import unchecked
from tests.statistics import assert_mean

DATA = np.asarray(
    linear_gaussian([0.0], [[1.0]], [[0.8]], [[0.25]], [[1.0]], [[0.16]]).simulate(jax.random.key(4), 29)[1]
)[:, 0]
PRIOR = {"a": dist.Uniform(-1.0, 1.0), "q": dist.LogNormal(0.0, 1.0)}


def build(theta: Any) -> smcinfer.StateSpace:
    transition = lambda t, x: dist.Normal(theta["a"] * x, theta["q"])  # noqa: E731

    def guide(t: Any, x: Any, y: Any) -> Any:
        variance = 1 / (1 / theta["q"] ** 2 + 1 / 0.16)
        return dist.Normal(variance * (theta["a"] * x / theta["q"] ** 2 + y / 0.16), variance**0.5)

    return state_space(dist.Normal(0.0, 1.0), transition, lambda t, x: dist.Normal(x, 0.4), DATA, proposal=guide)


def exact(a: float, q: float) -> float:
    return linear_gaussian([0.0], [[1.0]], [[a]], [[q**2]], [[1.0]], [[0.16]]).posterior(DATA[:, None]).log_z


def derivatives(function: Any, at: np.ndarray, step: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and second derivatives by central differences."""
    eye = np.eye(at.size) * step
    slope = np.array([(function(*(at + e)) - function(*(at - e))) / (2 * step) for e in eye])
    bend = np.array(
        [
            [
                function(*(at + e + f)) - function(*(at + e - f)) - function(*(at - e + f)) + function(*(at - e - f))
                for f in eye
            ]
            for e in eye
        ]
    )
    return slope, bend / (4 * step**2)


class Forgetful(scores.ScoredProcess):
    """A process whose particles carry the last step's gradient and forget those before."""

    def advance(self, t: Any, state: Any, x: Any) -> Any:
        after = super().advance(t, state, x)
        return after if state is None else scores.Scored(x, after.slope - state.slope, None)


def test_z_hat_times_the_score_is_unbiased(x64: None, mistaken: pytest.MonkeyPatch) -> None:
    target, settings = smcinfer.parametric(PRIOR, build), Settings(64, history="none")
    position = target.prior.unconstrain({"a": jnp.asarray(0.5), "q": jnp.asarray(0.7)})
    of_position = lambda z, w: exact(*(float(v) for v in target.prior.constrain(jnp.array([z, w])).values()))  # noqa: E731
    slope, _ = derivatives(of_position, np.asarray(position))
    keys = jax.random.split(jax.random.key(0), 300)

    def weighted() -> np.ndarray:
        look = lambda key: scores.slopes(key, target, position, settings)  # noqa: E731
        found = jax.jit(lambda keys: jax.lax.map(look, keys, batch_size=50))(keys)
        return np.exp(np.asarray(found.log_z) - exact(0.5, 0.7))[:, None] * np.asarray(found.score)

    assert_mean(weighted(), slope)
    mistaken.setattr(scores, "ScoredProcess", Forgetful)
    with pytest.raises(AssertionError):
        assert_mean(weighted(), slope)


@pytest.mark.slow
def test_the_climb_ends_at_kalmans_optimum(tmp_path: Path) -> None:
    best = scipy.optimize.minimize(lambda v: -exact(v[0], np.exp(v[1])), [0.5, -0.5], method="Nelder-Mead")
    found = maximum_likelihood(jax.random.key(1), smcinfer.parametric(PRIOR, build), num_particles=128, num_steps=100)
    a, q = (float(found.estimate[name]) for name in ("a", "q"))
    assert exact(a, q) > -best.fun - 0.05
    assert abs(found.log_likelihood - exact(a, q)) < 6 * found.log_likelihood_se + 0.02
    _, bend = derivatives(exact, np.array([a, q]), 1e-3)
    errors = np.sqrt(np.diag(np.linalg.inv(-bend)))
    np.testing.assert_allclose([found.se["a"], found.se["q"]], errors, rtol=0.25)
    read: Any = smcinfer.load(found.save(tmp_path / "mle.nc"))
    np.testing.assert_array_equal(read.positions, found.positions)
    assert "maximum likelihood" in str(read) and "a " in str(read)


def sums(t: Any, before: Any, x: Any, y: Any) -> Any:
    return {"before": before**2, "cross": before * x, "now": x**2}


def from_sums(averages: Any) -> Any:
    a = averages["cross"] / averages["before"]
    return {"a": a, "q": jnp.sqrt(averages["now"] - a * averages["cross"])}


WAYS: dict[str, Any] = {
    "iterated filtering": {"method": "iterated_filtering", "num_particles": 500, "num_steps": 60},
    "online EM": {"method": smcinfer.OnlineEM(sums, from_sums), "num_particles": 200, "num_steps": 200},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_other_ways_end_at_kalmans_optimum_too(name: str) -> None:
    best = scipy.optimize.minimize(lambda v: -exact(v[0], np.exp(v[1])), [0.5, -0.5], method="Nelder-Mead")
    found = maximum_likelihood(jax.random.key(1), smcinfer.parametric(PRIOR, build), **WAYS[name])
    gap = lambda estimate: -best.fun - exact(*(float(estimate[each]) for each in ("a", "q")))  # noqa: E731
    assert gap(found.estimate) < 0.05
    _, bend = derivatives(exact, np.array([best.x[0], np.exp(best.x[1])]), 1e-3)
    np.testing.assert_allclose([found.se["a"], found.se["q"]], np.sqrt(np.diag(np.linalg.inv(-bend))), rtol=0.25)
    # The start is no optimum: the way there was one.
    first = smcinfer.parametric(PRIOR, build).prior.constrain(jnp.asarray(found.positions[0]))
    assert gap(first) > gap(found.estimate)


@pytest.mark.slow
def test_an_m_step_of_other_statistics_ends_elsewhere() -> None:
    wrong = smcinfer.OnlineEM(sums, lambda averages: from_sums(averages) | {"q": 2 * from_sums(averages)["q"]})
    found = maximum_likelihood(
        jax.random.key(1), smcinfer.parametric(PRIOR, build), method=wrong, num_particles=50, num_steps=20
    )
    right = scipy.optimize.minimize(lambda v: -exact(v[0], np.exp(v[1])), [0.5, -0.5], method="Nelder-Mead")
    assert -right.fun - exact(float(found.estimate["a"]), float(found.estimate["q"])) > 0.5


def test_wrong_calls() -> None:
    target = smcinfer.parametric(PRIOR, build)
    for options, message in (
        ({"target": 3.0}, "target"),
        ({"num_steps": 1}, "num_steps"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"num_particles": 2.5}, "num_particles"),
        ({"method": "em"}, "method"),
        ({"method": "iterated_filtering", "learning_rate": 0.1}, "learning_rate"),
    ):
        with unchecked(), pytest.raises(ArgumentError, match=message):
            maximum_likelihood(**({"key": jax.random.key(0), "target": target} | options))
