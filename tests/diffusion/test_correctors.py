"""Feynman-Kac correctors: powers, products, guidance and rewards on normal data, exact ratios on a mixture, and faults."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from smcinfer import diffusion
from smcinfer.core.compose import Composed, compose
from smcinfer.diffusion.correctors import Corrector
from smcinfer.diffusion.divergence import divergence
from smcinfer.models import gaussian_mixtures
from smcinfer.run.runner import run
from tests.exact_diffusion import normal_model
from tests.statistics import assert_chi2, assert_mean, assert_mean_one_log, assert_weighted_mean

VP = diffusion.VariancePreserving()
RUNS = 200
# Largest error of an integrated weight with this many steps: a bias, which no number of runs takes away.
STEPS, BIAS = 100, 0.07


def reward(x: jax.Array) -> jax.Array:
    return -0.8 * (x[0] - 0.3) ** 2


def exact_log_z(laws: list[tuple[float, float]], powers: list[float], *, tilted: bool = False) -> float:
    """log of the integral of a product of powers of normal densities (mean, std), times the reward."""
    precision, slope, constant = (1.6, 0.48, -0.072) if tilted else (0.0, 0.0, 0.0)
    for (mean, std), power in zip(laws, powers, strict=True):
        precision, slope = precision + power / std**2, slope + power * mean / std**2
        constant -= power * (0.5 * np.log(2 * np.pi * std**2) + 0.5 * mean**2 / std**2)
    return float(constant + 0.5 * np.log(2 * np.pi / precision) + 0.5 * slope**2 / precision)


def log_z_of(target: Composed, num_particles: int = 1000, num_runs: int = 8) -> np.ndarray:
    return np.asarray(run(jax.random.key(0), target, num_particles, num_runs=num_runs, history="none").log_z)


def error_of(target: Composed, exact: float) -> float:
    return float(np.log(np.mean(np.exp(log_z_of(target) - exact))))


A, B = (0.7, 0.8), (-0.2, 1.1)
CASES: dict[str, tuple[Any, float]] = {
    "power": (
        lambda: diffusion.power(normal_model(VP, *A), 2.5, num_steps=STEPS, data_std=0.8, noise_scale=1.5),
        exact_log_z([A], [2.5]),
    ),
    "product": (
        lambda: diffusion.product(
            [normal_model(VP, *A), normal_model(VP, *B)], num_steps=STEPS, data_std=0.9, noise_scale="matched"
        ),
        exact_log_z([A, B], [1.0, 1.0]),
    ),
    "guided with a reward": (
        lambda: diffusion.guided(
            normal_model(VP, *A), normal_model(VP, *B), 1.5, num_steps=250, reward=reward, data_std=0.8
        ),
        exact_log_z([A, B], [1.5, -0.5], tilted=True),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_integrated_weights_find_log_z(case: str) -> None:
    build, exact = CASES[case]
    assert_mean_one_log(log_z_of(build()), exact, bias=BIAS)


class WideStart(Corrector):
    """Starts from the noise itself, not from its power."""

    @property
    def start_std(self) -> jax.Array:
        return jnp.sqrt(self.variance)


class NoVolume(Corrector):
    """Leaves (B - 1) div f out."""

    def _log_start(self) -> jax.Array:
        total = jnp.sum(self.powers[0])
        first, last = self.schedule.alpha(self.times[0]), self.schedule.alpha(self.times[-1])
        return super()._log_start() - (total - 1.0) * jnp.log(first / last)


class NoWay(Corrector):
    """Forgets the backward kernel of the exact ratio."""

    def _ratio(self, t: Any, state: Any, x: Any, log_target: Any) -> jax.Array:
        return log_target - (0.0 if state is None else state.log_target)


class Uncorrected(Corrector):
    """Leaves the variance of the probes in the mean of the weights."""

    def _forces(self, t: Any, x: Any) -> Any:
        return (*super()._forces(t, x)[:-1], jnp.zeros(()))


def mutated(target: Composed, kind: type[Corrector]) -> Composed:
    process: Any = target.process
    fields = {name: getattr(process, name) for name in process.__dataclass_fields__}
    other = kind(**fields)
    return compose(other, other.log_potential, num_steps=other.num_steps)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [WideStart, pytest.param(NoVolume, marks=pytest.mark.slow)])
def test_faults_of_integrated_weights_are_seen(kind: type[Corrector]) -> None:
    build, exact = CASES["power"]
    assert abs(error_of(mutated(build(), kind), exact)) > 2 * BIAS


def test_a_divergence_is_the_trace_and_probes_find_it(precision: str) -> None:
    matrix = jnp.asarray(np.random.default_rng(0).standard_normal((70, 70)))
    x = jnp.arange(70.0).reshape(7, 10)
    field = lambda v: (matrix @ v.reshape(-1)).reshape(7, 10)  # noqa: E731
    exact, none = divergence(field, x, 0)
    np.testing.assert_allclose(exact, jnp.trace(matrix), rtol=1e-4)
    assert none == 0.0
    found, variance = jax.vmap(lambda x: divergence(field, x, 8))(x + jnp.arange(400.0)[:, None, None])
    # Of signs the variance is that of the off-diagonal sums; probes at other points are others.
    off = matrix + matrix.T - 2 * jnp.diag(jnp.diag(matrix))
    assert_mean(found, exact)
    assert_mean(jnp.stack([(found - exact) ** 2, variance], axis=1), jnp.sum(off**2) / 16)


@pytest.mark.slow
def test_probes_stand_in_for_the_divergence() -> None:
    """Strongly correlated normal data, the hardest case for random signs: their variance is taken off the log weights."""
    dim, power = 8, 2.0
    spread = jnp.asarray(0.9 * np.ones((dim, dim)) + 0.1 * np.eye(dim))
    denoiser = lambda y, ratio: spread @ jnp.linalg.solve(spread + ratio**2 * jnp.eye(dim), y)  # noqa: E731
    model = diffusion.diffusion_model(denoiser, VP, (dim,), parameterisation="denoiser")
    volume = dim * np.log(2 * np.pi) + np.linalg.slogdet(np.asarray(spread))[1]
    exact = 0.5 * float((1 - power) * volume - dim * np.log(power))
    options: dict[str, Any] = {"num_steps": 20, "data_std": 1.0, "noise_scale": "matched"}
    assert abs(error_of(diffusion.power(model, power, **options), exact)) < 0.01
    target = diffusion.power(model, power, num_probes=4, **options)
    assert abs(error_of(target, exact)) < 0.05
    assert error_of(mutated(target, Uncorrected), exact) > 0.08
    done = run(jax.random.key(0), target, 100)
    assert 0.02 < done.history["probe_noise"].max() < 0.5


def bimodal() -> tuple[gaussian_mixtures.Mixture, Any]:
    law = gaussian_mixtures.mixture([[-1.0], [1.5]], 0.5, [0.3, 0.7])
    return law, law.noised(VP)


@pytest.mark.slow
def test_exact_ratios_have_no_bias_at_any_number_of_steps(precision: str) -> None:
    law, log_density = bimodal()
    powers = np.linspace(1.0, 2.0, 6)[:, None]
    target = diffusion.corrected(
        [law.model(VP)], powers, num_steps=5, reward=reward, log_densities=[log_density], data_std=1.0
    )
    grid = np.linspace(-6.0, 6.0, 4001)
    values = np.asarray(
        jax.vmap(lambda x: 2.0 * law.log_density(x) + reward(x))(jnp.asarray(grid[:, None])), np.float64
    )
    exact = float(np.log(scipy.integrate.trapezoid(np.exp(values), grid)))
    found = log_z_of(target, 64, RUNS)
    assert_mean_one_log(found, exact)
    with pytest.raises(AssertionError):
        assert_mean_one_log(log_z_of(mutated(target, NoWay), 64, RUNS), exact)


def test_mixture_facts() -> None:
    """The published log Z and mean reward of the nine modes, and the draws that stand for them."""
    nine = gaussian_mixtures.nine_modes()
    first, second = nine.tilted([0.01, 1.0], [0.0, 0.0]), nine.tilted([1.0, 0.1], [0.0, 1.0])
    np.testing.assert_allclose([first.log_z, first.mean_reward], [-1.4397, -0.2907], atol=1e-4)
    np.testing.assert_allclose([second.log_z, second.mean_reward], [-2.1020, -0.659], atol=1e-4)
    model = nine.model(VP)
    time, x = jnp.asarray(0.3), jnp.array([0.5, -1.0])
    score = jax.grad(lambda x: nine.log_density(x, VP.alpha(time), VP.sigma(time)))(x)
    np.testing.assert_allclose(model.score(x, time), score, rtol=2e-3)
    draws = nine.draw(jax.random.key(0), 9000)
    assert_chi2(np.bincount(nine.nearest(draws), minlength=9), np.ones(9))
    tilted = first.draw(np.random.default_rng(0), 9000)
    assert_chi2(np.bincount(nine.nearest(jnp.asarray(tilted)), minlength=9), first.weights)


@pytest.mark.slow
def test_a_power_of_a_mixture_on_a_grid(shared_data: Path) -> None:
    law, facts = gaussian_mixtures.from_json(shared_data / "targets" / "mixture40.json")
    wide = law.power(3.0, facts["sigma_max"], points=400)
    sharp = law.power(3.0, points=800)
    assert abs(sharp.log_z - wide.log_z - facts["log_z"]) < 2e-3
    draws = sharp.draw(np.random.default_rng(0), 20_000)
    assert_chi2(np.bincount(np.asarray(law.nearest(jnp.asarray(draws))), minlength=40), sharp.masses)


@pytest.mark.slow
def test_forty_modes_to_a_power(shared_data: Path) -> None:
    """Few particles and steps already find every mode: exact ratios are unbiased, and the masses are near."""
    law, facts = gaussian_mixtures.from_json(shared_data / "targets" / "mixture40.json")
    exact = law.power(3.0, points=600)
    times, schedule = jnp.append(jnp.geomspace(10.0, 0.01, 60), 0.0), diffusion.EDM(end=10.0)
    target = diffusion.power(
        law.model(schedule),
        facts["power"],
        times=times,
        data_std=0.45,
        log_density=law.noised(schedule),
    )
    done = run(jax.random.key(0), target, 500, num_runs=20, history="none")
    assert_mean_one_log(done.log_z, exact.log_z)
    modes = np.asarray(law.nearest(done.particles.state.x))
    masses = np.sum(np.exp(np.asarray(done.log_weights))[..., None] * (modes[..., None] == np.arange(40)), axis=1)
    common = exact.masses > 0.02
    assert_weighted_mean(done.log_z, exact.log_z, masses[:, common], exact.masses[common])
