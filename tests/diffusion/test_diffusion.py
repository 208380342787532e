"""Diffusion models and their alignment: kernels, exactness of every way to the same log Z, and the mutations that must fail."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer import diffusion
from smcinfer.core.compose import compose
from smcinfer.core.status import Status
from smcinfer.diffusion.model import PARAMETERISATIONS, Prediction
from smcinfer.diffusion.potentials import by_name
from smcinfer.diffusion.proposals import Controlled, SoftSelection
from smcinfer.ground.errors import ArgumentError
from smcinfer.models import gaussian_mixtures
from smcinfer.run.runner import run
from tests.exact_diffusion import MEAN, STD, affine_steps, end_of, log_tilt, normal_model
from tests.statistics import assert_mean_one_log

SCHEDULES = {
    "vp": diffusion.VariancePreserving(),
    "cosine": diffusion.Cosine(),
    "ve": diffusion.VarianceExploding(),
    "edm": diffusion.EDM(),
    "flow": diffusion.LinearFlow(),
    "table": diffusion.tabulated(np.exp(-0.002 * np.arange(101.0) ** 1.5)),
}
CURVATURE, CENTRE = 1.5, -0.5
STEPS, RUNS = 6, 400


def reward(x: jax.Array) -> jax.Array:
    return -CURVATURE * (x[0] - CENTRE) ** 2


def log_z_runs(model: Any, num_particles: int = 16, **options: Any) -> np.ndarray:
    return np.asarray(run(jax.random.key(1), model, num_particles, num_runs=RUNS, history="none", **options).log_z)


def exact_log_z(model: Any) -> float:
    return log_tilt(*end_of(model.process), CURVATURE, CENTRE)


@pytest.mark.parametrize("name", ["vp", "edm", "flow", "table"])
def test_schedules_keep_their_equations(name: str) -> None:
    """The forward equation with f and g has the variance that alpha and sigma say, and both grids end where they should."""
    schedule = SCHEDULES[name]
    for grid in (schedule.grid(20), schedule.log_grid(20)):
        diffusion.check_schedule(schedule, grid)
        assert grid.shape == (21,) and float(grid[-1]) == schedule.start
    time, step = jnp.asarray(0.6 * schedule.end + 0.1), 1e-3 * schedule.end
    shrink = jnp.exp(schedule.drift(time) * step)
    predicted = shrink**2 * schedule.sigma(time) ** 2 + schedule.diffusion_squared(time + step / 2) * step
    np.testing.assert_allclose(predicted, schedule.sigma(time + step) ** 2, rtol=2e-3)
    np.testing.assert_allclose(shrink * schedule.alpha(time), schedule.alpha(time + step), rtol=2e-3)
    ratios = jax.vmap(schedule.noise_ratio)(schedule.log_grid(20))
    steps = np.diff(np.log(ratios[:-1]))
    np.testing.assert_allclose(steps, steps.mean(), rtol=2e-2)


@pytest.mark.parametrize("name", ["flow", "vp"])
def test_every_parameterisation_says_the_same(name: str) -> None:
    schedule, time, x = SCHEDULES[name], jnp.asarray(0.4), jnp.array([0.3, -1.2])
    denoised = jnp.array([0.5, -0.4])
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    noise = (x - alpha * denoised) / sigma
    slopes = [jax.jvp(f, (time,), (jnp.ones(()),))[1] for f in (schedule.alpha, schedule.sigma)]
    says = {
        "eps": noise,
        "x0": denoised,
        "v": alpha * noise - sigma * denoised,
        "score": -noise / sigma,
        "velocity": slopes[0] * denoised + slopes[1] * noise,
        "denoiser": denoised,
    }
    assert set(says) == set(PARAMETERISATIONS)
    for parameterisation, value in says.items():
        model = diffusion.diffusion_model(
            lambda x, time, value=value: value, schedule, (2,), parameterisation=parameterisation
        )
        found = model.predict(x, time)
        np.testing.assert_allclose(found.denoised, denoised, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(found.noise, noise, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(model.score(x, time), -noise / sigma, rtol=2e-4)


def test_conditions_and_guidance() -> None:
    base = diffusion.diffusion_model(
        lambda x, time, c: x * c["scale"], SCHEDULES["vp"], (2,), condition={"scale": jnp.asarray(2.0)}
    )
    null = base.conditioned({"scale": jnp.asarray(0.5)})
    x, time = jnp.array([1.0, -3.0]), jnp.asarray(0.5)
    guided = diffusion.classifier_free(base, null, 3.0)
    np.testing.assert_allclose(guided.predict(x, time).noise, (3.0 * 2.0 - 2.0 * 0.5) * x, rtol=1e-5)
    raw = diffusion.Preconditioned(lambda y, noise: jnp.zeros_like(y), 0.5)
    np.testing.assert_allclose(raw(x, jnp.asarray(0.5)), 0.5 * x)


@pytest.mark.parametrize("name", ["ve", "flow"])
def test_reverse_kernels(name: str) -> None:
    """The kernel for normal data is the exact conditional law; the others agree where they must."""
    schedule = SCHEDULES[name]
    model = normal_model(schedule)
    x, time, earlier = jnp.array([0.4]), jnp.asarray(0.6), jnp.asarray(0.5)
    said = model.predict(x, time)

    def step(kernel: diffusion.ReverseKernel, earlier: jax.Array = earlier) -> tuple[float, float]:
        mean, variance = kernel(said, x, schedule, time, earlier)
        return float(mean[0]), float(variance)

    alpha, sigma = (float(f(time)) for f in (schedule.alpha, schedule.sigma))
    alpha_s, sigma_s = (float(f(earlier)) for f in (schedule.alpha, schedule.sigma))
    ratio = alpha / alpha_s
    marginal, before = (a**2 * STD**2 + s**2 for a, s in ((alpha, sigma), (alpha_s, sigma_s)))
    gain = ratio * before / marginal
    exact = alpha_s * MEAN + gain * (0.4 - alpha * MEAN), before - gain**2 * marginal
    np.testing.assert_allclose(step(diffusion.DDPM(STD)), exact, rtol=1e-3)
    np.testing.assert_allclose(step(diffusion.DDPM()), step(diffusion.DDIM(1.0)), rtol=1e-3)
    np.testing.assert_allclose(step(diffusion.DDPM()), step(diffusion.Exponential()), rtol=1e-3)
    for hold in ("data", "noise"):
        np.testing.assert_allclose(step(diffusion.Exponential(0.0, hold)), step(diffusion.DDIM(0.0)), atol=2e-5)
    near = time - 1e-3
    for noise in (0.5, 1.0):
        small = step(diffusion.EulerMaruyama(noise), near)
        for hold in ("data", "noise"):
            found = step(diffusion.Exponential(noise, hold), near)
            np.testing.assert_allclose(found[0] - 0.4, small[0] - 0.4, rtol=3e-2)
            np.testing.assert_allclose(found[1], small[1], rtol=3e-2)


class Sharp(diffusion.Look):
    """A look-ahead that is wrong on purpose, and differentiable."""

    differentiable: bool = True

    def __call__(self, time: jax.Array, x: jax.Array, prediction: Prediction) -> jax.Array:
        return -0.8 * jnp.sum((prediction.denoised + 0.2) ** 2)


def start(key: Any) -> tuple[jax.Array, jax.Array]:
    """The chain's noise drawn from a wider law, weighted."""
    wide, law = dist.Normal(0.0, 1.5), dist.Normal(0.0, SCHEDULES["vp"].sigma(jnp.asarray(1.0)))
    x = wide.sample(key, (1,))
    return x, (law.log_prob(x) - wide.log_prob(x)).sum()


WAYS: dict[str, dict[str, Any]] = {
    "none": {"look": "none", "kernel": diffusion.DDPM(STD), "initial": start},
    "tweedie": {"kernel": diffusion.DDIM(0.5), "strength": 0.5},
    "gradient": {"proposal": "gradient", "look": Sharp()},
    "max": {"potential": "max", "every": 2, "kernel": "exponential"},
    "sum": {"potential": "sum", "every": 3, "look": "roll_out"},
    "selection": {"proposal": "selection", "num_children": 3, "kernel": diffusion.EulerMaruyama(0.7)},
    "control": {"proposal": lambda x, time: 0.5 - x},
    "found": {"strength": "ess", "proposal": "gradient", "tempering_ess": 0.7},
}


SLOW = ("control", "sum", "tweedie")


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] * (way in SLOW)) for way in WAYS])
@pytest.mark.dealt
def test_every_way_has_the_same_log_z(way: str) -> None:
    model = diffusion.alignment(normal_model(SCHEDULES["vp"]), reward, num_steps=STEPS, **WAYS[way])
    found = log_z_runs(model)
    assert_mean_one_log(found, exact_log_z(model))
    with pytest.raises(AssertionError):
        assert_mean_one_log(found, exact_log_z(model) + 0.5)


@pytest.mark.slow
def test_rewards_on_the_host_and_of_other_temperature(precision: str) -> None:
    def values(x: np.ndarray) -> np.ndarray:
        return -2 * CURVATURE * (x[:, 0] - CENTRE) ** 2

    model = diffusion.alignment(
        normal_model(diffusion.EDM(end=10.0)), diffusion.on_host(values), 2.0, num_steps=4, proposal="prior"
    )
    assert_mean_one_log(log_z_runs(model, 8), exact_log_z(model))


def test_a_look_ahead_is_trusted_as_far_as_it_knows() -> None:
    """Where no strength is named: with the signal for a reward of the mean, all along for what knows the spread."""
    model = normal_model(SCHEDULES["vp"])
    seen = diffusion.inpainting([True], [1.1], 0.3, data_std=STD)
    bare, known, full = (
        diffusion.alignment(model, asked, num_steps=4, **how).process.strengths
        for asked, how in ((reward, {}), (seen, {"look": "roll_out"}), (reward, {"strength": 1.0}))
    )
    assert bare[0] < 1e-3 and bare[-1] == 1.0 and (np.diff(bare) > 0).all()
    np.testing.assert_array_equal(
        bare, diffusion.alignment(model, reward, num_steps=4, strength="signal").process.strengths
    )
    np.testing.assert_array_equal(known, np.ones(5))
    np.testing.assert_array_equal(full, np.ones(5))


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "log_z"), [((0.01, 0.0, 1.0), -1.4397), ((1.0, 1.0, 0.1), -2.1020)])
def test_nine_modes_under_a_reward_that_the_look_ahead_misjudges(
    weights: tuple[float, float, float], log_z: float
) -> None:
    """Far from the data the mean of nine modes is the middle one: a guess from there must count for little, or Z is missed."""
    across, middle, up = weights
    reward = lambda x: -across * x[0] ** 2 - up * (x[1] - middle) ** 2  # noqa: E731
    model = gaussian_mixtures.nine_modes().model(diffusion.Cosine())

    def held(**how: Any) -> bool:
        """Whether five intervals out of five are narrow and hold the exact value, up to what the chain's steps are off."""
        target = diffusion.alignment(model, reward, kernel="euler_maruyama", num_steps=100, **how)
        results = [
            smcinfer.sample(jax.random.key(seed), target, num_particles=2000, num_runs=4, progress=False)
            for seed in range(5)
        ]
        ends = [result.log_z_interval() for result in results]
        return all(low - 0.02 <= log_z <= high + 0.02 and high - low < 0.4 for low, high in ends)

    assert held(proposal="prior") and held(proposal="gradient")
    assert not held(strength=1.0)


@pytest.mark.parametrize("name", ["difference", "max", "sum"])
def test_path_potentials_stand_on_the_scale_of_one_value(name: str) -> None:
    """However long the path: increments that pile up are taken back in one step, from the one particle that is left."""
    path = by_name(name)
    for length in (1, 7, 200):
        memory = path.start(jnp.asarray(-3.0), 0.5)
        for _ in range(length):
            memory = path.extend(memory, jnp.asarray(-3.0), 0.5)
        if name == "sum":
            # The mean of all sums so far, by their number of terms.
            np.testing.assert_allclose(memory.weight, (length + 1) * (length + 2) / 2)
        np.testing.assert_allclose(path.log_twist(memory), -1.5, rtol=1e-5)


@pytest.mark.slow
def test_no_path_potential_loses_the_particles_at_the_end() -> None:
    """Nine modes under a broad reward, resampled wherever weights differ: the interval is narrow and holds the exact value."""
    model = gaussian_mixtures.nine_modes().model(diffusion.Cosine())
    for potential in ("sum", "max"):
        target = diffusion.alignment(
            model,
            lambda x: -0.01 * x[0] ** 2 - x[1] ** 2,
            num_steps=50,
            kernel=diffusion.DDPM(3.3),
            potential=potential,
            strength="signal",
        )
        result = smcinfer.sample(
            jax.random.key(0), target, num_particles=2000, num_runs=4, resample_below=1.0, progress=False
        )
        low, high = result.log_z_interval(0.999)
        assert low < -1.4397 < high and high - low < 0.2
        assert np.asarray(result.history["ess"])[:, -1].min() > 400


class Uncorrected(eqx.Module):
    """The maximum potential whose increments are never taken back: no terminal correction."""

    process: Any

    def __call__(self, t: jax.Array, state: Any) -> jax.Array:
        earned = self.process.log_potential(t, state)
        before = self.process.path.log_twist(state.memory)
        return earned + jnp.where(t >= self.process.num_steps, before, 0.0)


class Unweighted(SoftSelection):
    """Selection without its weight."""

    def __call__(self, key: Any, t: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
        x, log_w = super().__call__(key, t, state)
        return x, 0.0 * log_w


class Drifting(Controlled):
    """A drift without its weight."""

    def _place(self, noise: jax.Array, t: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
        x, log_w = super()._place(noise, t, state)
        return x, 0.0 * log_w


@pytest.mark.dealt
@pytest.mark.parametrize("fault", ["terminal", "selection", "drift"])
def test_faults_are_seen(fault: str) -> None:
    options = WAYS["max" if fault == "terminal" else "tweedie"]
    model = diffusion.alignment(normal_model(SCHEDULES["vp"]), reward, num_steps=STEPS, **options)
    process: Any = model.process
    potential, proposal = model.potential, model.proposal
    if fault == "terminal":
        potential = Uncorrected(process)
    if fault == "selection":
        proposal = Unweighted(process, process.log_twist, None, 3)
    if fault == "drift":
        proposal = Drifting(process, lambda x, time: 0.5 - x)
    mutated = compose(process, potential, process.log_twist, proposal, num_steps=STEPS)
    with pytest.raises(AssertionError):
        assert_mean_one_log(log_z_runs(mutated), exact_log_z(model))


def test_a_drift_weighs_a_given_draw_as_its_own() -> None:
    model = diffusion.alignment(normal_model(SCHEDULES["vp"]), reward, num_steps=STEPS, **WAYS["gradient"])
    t = jnp.asarray(2)
    state = model.process.advance(t - 1, None, jnp.array([0.3]))
    x, log_w = model.proposal(jax.random.key(0), t, state)
    np.testing.assert_allclose(model.proposal.log_weight(t, state, x), log_w, rtol=1e-3, atol=1e-5)
    # The last step is certain: nothing is divided by its variance of zero.
    last, certain = model.proposal(jax.random.key(0), jnp.asarray(STEPS), state)
    assert certain == 0.0 and np.isfinite(last).all()


def test_a_measurement_is_foreseen_exactly_for_normal_data() -> None:
    model = normal_model(SCHEDULES["vp"], 0.0)
    seen = diffusion.inpainting([True], [1.1], 0.3, data_std=STD)
    time, x = jnp.asarray(0.5), jnp.array([-0.4])
    said, ratio = model.predict(x, time), model.schedule.noise_ratio(time)
    spread = STD**2 * ratio**2 / (STD**2 + ratio**2)
    exact = dist.Normal(said.denoised, jnp.sqrt(spread + 0.09)).log_prob(jnp.array([1.1])).sum()
    np.testing.assert_allclose(seen.foreseen(said.denoised, ratio), exact, rtol=1e-5)
    np.testing.assert_allclose(seen(x), dist.Normal(-0.4, 0.3).log_prob(1.1), rtol=1e-5)
    blurred = diffusion.measurement(jnp.array([[2.0]]), [1.0], 0.5)
    np.testing.assert_allclose(blurred(x), dist.Normal(-0.8, 0.5).log_prob(1.0), rtol=1e-5)


def test_the_rare_is_rewarded() -> None:
    rare = diffusion.low_density(normal_model(SCHEDULES["vp"]), 0.3)
    values = [float(rare(jnp.array([MEAN + STD * far]))) for far in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(values[2] / values[1], 4.0, rtol=1e-3)
    assert values[0] < 1e-6 < values[1]


@pytest.mark.slow
def test_trouble_on_the_way_is_in_the_status() -> None:
    broken = lambda x: jnp.where(x[0] > 0.9, jnp.nan, 0.0)  # noqa: E731
    model = diffusion.alignment(normal_model(SCHEDULES["vp"]), broken, num_steps=2, look="none")
    done = run(jax.random.key(0), model, 64)
    assert int(done.status[0]) & Status.NON_FINITE_POTENTIAL and np.isfinite(done.log_z[0])


def sequence_log_z(process: Any, data: np.ndarray, noise: float, slope: float) -> float:
    """The likelihood of all frames: every frame's chain is affine, so a scalar filter walks through it."""
    mean, variance, total = 0.0, float(process.start_std) ** 2, 0.0
    schedule = process.model.schedule
    steps = affine_steps(process)
    for t in range(1, process.num_steps + 1):
        a, b, v = steps[t - 1]
        if bool(process.warm[t]):
            alpha = float(schedule.alpha(process.times[t]))
            a, b, v = alpha * slope, 0.0, float(schedule.sigma(process.times[t])) ** 2
        mean, variance = a * mean + b, a**2 * variance + v
        if bool(process.ends[t]):
            y, size = data[int(process.frame[t])], variance + noise**2
            total += float(dist.Normal(mean, size**0.5).log_prob(y))
            mean, variance = mean + variance / size * (y - mean), variance - variance**2 / size
    return total


@pytest.mark.slow
@pytest.mark.parametrize("proposal", [pytest.param("prior", marks=pytest.mark.slow), "gradient"])
def test_a_sequence_of_frames_is_filtered(proposal: str) -> None:
    data, noise, slope = np.array([0.2, 1.4, 0.9]), 0.6, 0.8
    seen = diffusion.measurement(lambda x: x, data[:, None], noise, data_std=STD)
    options: Any = {"warm_time": 0.4, "num_steps": 4, "num_warm_steps": 3, "proposal": proposal}
    target = diffusion.sequence(normal_model(SCHEDULES["vp"]), lambda k, x: slope * x, seen, 3, **options)
    exact = sequence_log_z(target.process, data, noise, slope)
    found = log_z_runs(target)
    assert_mean_one_log(found, exact)
    with pytest.raises(AssertionError):
        assert_mean_one_log(found, exact + 0.3)


def test_what_lies_under_a_mask_is_no_measurement() -> None:
    y = np.ma.array([1.1, -999.0], mask=[0, 1])
    for missing in (y, np.array([1.1, np.nan])):
        with pytest.raises(ArgumentError, match=r"missing in y(.|\n)*index \(1,\)"):
            diffusion.measurement(lambda x: x, missing, 0.3)
        with pytest.raises(ArgumentError, match="known & seen"):
            diffusion.inpainting([True, True], missing, 0.3)
        np.testing.assert_allclose(diffusion.inpainting([True, False], missing, 0.3).y, [1.1], rtol=1e-6)
