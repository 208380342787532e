"""Where chains end: a table, and the smallest noise of a schedule, are of noised points; the data are one step further."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import diffusion
from smcinfer.diffusion.model import Model
from smcinfer.ground.errors import ArgumentError
from smcinfer.run.runner import run
from tests.exact_diffusion import end_of, log_power, normal_model
from tests.statistics import assert_mean_one_log

COARSE = np.array([0.9, 0.75, 0.55, 0.35, 0.2, 0.1, 0.04, 0.015, 0.005, 0.001])
FINE = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
NARROW = (2.0, 0.1)


def noise_model(schedule: diffusion.NoiseSchedule, mean: float, std: float) -> Model:
    """The exact noise in normal data, as most networks are asked for it."""

    def noise(x: jax.Array, time: jax.Array) -> jax.Array:
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        return sigma * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)

    return diffusion.diffusion_model(noise, schedule, (1,), parameterisation="eps")


def log_normal(x: float, variance: float) -> float:
    return float(-0.5 * (np.log(2.0 * np.pi * variance) + x**2 / variance))


def log_z_of(target: Any, num_particles: int = 256, num_runs: int = 32) -> np.ndarray:
    done = run(jax.random.key(0), target, num_particles, num_runs=num_runs, history="none")
    return np.asarray(done.log_z, np.float64)


def seen(y: float, noise_std: float, data_std: float = 1.0) -> diffusion.Reward:
    return diffusion.measurement(lambda x: x, [y], noise_std, data_std=data_std)


TABLES = {
    "coarse": (COARSE, -1.0),
    "fine": (FINE, -1.0),
    "one first": (np.append(1.0, COARSE), 0.0),
    "almost one first": (np.append(1.0 - 1e-12, COARSE), -1.0),
    "almost zero last": (np.append(COARSE, 1e-12), -1.0),
    "hardly a number": (np.append(COARSE, 1e-36), -1.0),
}


@pytest.mark.dealt
@pytest.mark.parametrize("name", TABLES)
def test_the_data_stand_one_place_before_the_first_noised_entry(name: str, precision: str) -> None:
    table, start = TABLES[name]
    schedule = diffusion.tabulated(table)
    assert (schedule.start, schedule.cleanest, schedule.end) == (start, start + 1, len(table) - 1)
    assert schedule.alpha(jnp.asarray(start)) == 1.0 and schedule.sigma(jnp.asarray(start)) == 0.0
    times = np.arange(len(table), dtype=float)
    np.testing.assert_allclose(jax.vmap(schedule.alpha)(times) ** 2, table, rtol=1e-4)
    np.testing.assert_allclose(jax.vmap(schedule.sigma)(times) ** 2, 1 - table, rtol=1e-4)
    # As many steps as noised entries visit every one of them, and the data last.
    count = int(schedule.end - start)
    np.testing.assert_array_equal(schedule.grid(count), np.append(times[::-1][:count], start))
    assert schedule.grid(1).tolist() == [schedule.end, start]
    assert schedule.grid(7)[-2] == schedule.cleanest
    logs = schedule.log_grid(7)
    assert logs[-1] == start and (logs[-2] == schedule.cleanest) == (name != "almost one first")
    # N(0, 1) measured as 1 up to 0.5, by a chain whose steps are exact for it: log N(1; 0, 1.25).
    if name != "fine":
        chain = diffusion.reverse_process(noise_model(schedule, 0.0, 1.0), count, kernel=diffusion.DDPM(1.0))
        mean, variance = end_of(chain)
        np.testing.assert_allclose(log_normal(1.0 - mean, variance + 0.25), -1.430510, atol=1e-4)


@pytest.mark.parametrize("kernel", [diffusion.DDPM(), "ddim", "euler_maruyama", diffusion.Exponential(1.0, "noise")])
def test_no_noise_is_left_in_the_samples(kernel: Any) -> None:
    """Data at one point are found exactly at the end of every chain, whatever the smallest noise of its schedule."""
    for schedule in (diffusion.tabulated(COARSE), diffusion.VarianceExploding(0.3, 10.0), diffusion.EDM(0.3)):
        mean, variance = end_of(diffusion.reverse_process(noise_model(schedule, 0.0, 0.0), 4, kernel=kernel))
        assert abs(mean) < 1e-5 and variance < 1e-9


@pytest.mark.slow
def test_a_fine_table_of_an_atom() -> None:
    model = noise_model(diffusion.tabulated(FINE), 0.0, 0.0)
    target = diffusion.alignment(model, seen(0.0, 0.005), num_steps=20)
    np.testing.assert_allclose(log_z_of(target, 8, 2), 4.379379, atol=1e-3)


@pytest.mark.slow
def test_a_coarse_schedule_of_narrow_data() -> None:
    """Steps that know the spread of normal data are exact, however few and however much noise the first entry has."""
    for schedule in (diffusion.VarianceExploding(0.3, 30.0), diffusion.tabulated(COARSE)):
        model = noise_model(schedule, *NARROW)
        mean, variance = end_of(diffusion.reverse_process(model, 10, kernel=diffusion.DDPM(0.1)))
        np.testing.assert_allclose([mean, variance**0.5], [2.0, 0.1], rtol=2e-3)
        np.testing.assert_allclose(log_normal(2.0 - mean, variance + 0.01), 1.0371, atol=2e-3)
    target = diffusion.alignment(model, seen(2.0, 0.1, 0.1), num_steps=10, kernel=diffusion.DDPM(0.1))
    assert_mean_one_log(log_z_of(target), 1.0371)


@pytest.mark.slow
def test_powers_end_at_the_data() -> None:
    """Exact ratios are right on the coarsest table; of an atom's noise nothing is left, and power one has nothing to weigh."""
    schedule = diffusion.tabulated(COARSE)

    def log_density(x: jax.Array, time: jax.Array) -> jax.Array:
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        return jax.scipy.stats.norm.logpdf(x[0], 2.0 * alpha, jnp.sqrt(0.01 * alpha**2 + sigma**2))

    target = diffusion.power(normal_model(schedule, *NARROW), 2.0, num_steps=10, data_std=2.0, log_density=log_density)
    assert_mean_one_log(log_z_of(target, 500, 16), log_power(2.0, 0.01))
    for scale in ("matched", 1.0):
        atom = diffusion.corrected([noise_model(schedule, 2.0, 0.0)], [1.0], num_steps=10, noise_scale=scale)
        mean, variance = atom.process.moments(
            jnp.asarray(10), atom.process.advance(jnp.asarray(9), None, jnp.array([0.4]))
        )
        assert abs(float(mean[0]) - 2.0) < 1e-4 and variance == 0.0


def test_frames_start_again_above_the_smallest_noise() -> None:
    """Every frame of a table ends at the data, the warm ones too, and no network is asked in between."""
    model = noise_model(diffusion.tabulated(COARSE), 2.0, 0.0)
    target = diffusion.sequence(
        model, lambda k, x: x, lambda k, x: 0.0 * x[0], 2, warm_time=4.0, num_steps=10, num_warm_steps=4
    )
    times = np.asarray(target.process.times)
    np.testing.assert_array_equal(np.flatnonzero(target.process.ends), [10, 15])
    np.testing.assert_array_equal(times[[10, 15]], -1.0)
    assert (np.delete(times, [10, 15]) >= 0).all()


def test_a_roll_out_asks_no_network_below_its_table() -> None:
    asked = []
    schedule = diffusion.tabulated(COARSE)

    def noise(x: jax.Array, time: jax.Array) -> jax.Array:
        asked.append(time)
        return 0.1 * x

    model = diffusion.diffusion_model(noise, schedule, (1,))
    look = diffusion.RollOut(seen(0.0, 1.0), model, 3)
    asked.clear()
    look(jnp.asarray(1.0), jnp.ones(1), model.predict(jnp.ones(1), jnp.asarray(1.0)))
    np.testing.assert_allclose(asked, [1.0, 1.0 / 3.0, 0.0], atol=1e-6)


REFUSED: dict[str, tuple[Any, str]] = {
    "zero": (lambda: diffusion.tabulated(np.append(COARSE, 0.0)), "leave it out"),
    "above one": (lambda: diffusion.tabulated(np.append(1.1, COARSE)), "cumulative"),
    "rising inside": (lambda: diffusion.tabulated(np.insert(FINE, 501, FINE[400])), "not monotone"),
    "equal entries": (lambda: diffusion.tabulated(np.append(1.0, np.append(1.0, COARSE))), "not monotone"),
    "unknown time": (
        lambda: diffusion.reverse_process(
            noise_model(diffusion.tabulated(COARSE), 0.0, 1.0), times=[9.0, 3.0, -0.5, -1.0]
        ),
        "does not know",
    ),
    "warm below": (
        lambda: diffusion.sequence(
            noise_model(diffusion.tabulated(COARSE), 0.0, 1.0), lambda k, x: x, lambda k, x: x[0], 2, warm_time=-0.5
        ),
        "warm_time",
    ),
    "rare below": (
        lambda: diffusion.low_density(noise_model(diffusion.tabulated(COARSE), 0.0, 1.0), -0.5),
        "outside the schedule",
    ),
    "no noise": (lambda: diffusion.VarianceExploding(0.0, 10.0), "sigma_min"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_network_knows_is_refused(case: str) -> None:
    build, words = REFUSED[case]
    with pytest.raises(ArgumentError, match=words):
        build()
