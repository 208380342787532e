"""Series of different lengths side by side: of each the likelihood and the moments it has alone."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError, SmcinferError
from smcinfer.models.linear_gaussian import linear_gaussian
from smcinfer.state_space.panel import Panel, panel
from tests.exact_paths import A, Q, R, walk_data
from tests.signatures import unchecked
from tests.statistics import assert_mean_one_log

SERIES = [walk_data(3), walk_data(9)[4:], np.where(np.arange(8) == 3, np.nan, -walk_data(7))]
EXACT = linear_gaussian([0.0], [[1.0]], [[A]], [[Q**2]], [[1.0]], [[R**2]])
LOG_Z = np.array([EXACT.posterior(y[:, None]).log_z for y in SERIES])


def walks(series: list[Any], a: Any = A, **options: Any) -> Panel:
    transition = lambda t, x: dist.Normal(a * x, Q)  # noqa: E731
    return panel(dist.Normal(0.0, 1.0), transition, lambda t, x: dist.Normal(x, R), series, **options)


@pytest.fixture(scope="module")
def found() -> Any:
    return walks(SERIES).filter(jax.random.key(0), num_particles=32, num_runs=200)


def test_every_series_has_its_own_likelihood(found: Any) -> None:
    for place in range(3):
        assert_mean_one_log(found.log_z_runs[place], LOG_Z[place], num_comparisons=3)
        with pytest.raises(AssertionError):
            assert_mean_one_log(found.log_z_runs[place], LOG_Z[(place + 1) % 3])
    assert abs(found.log_z - LOG_Z.sum()) < 5 * found.log_z_se < 0.5


def test_moments_are_kalmans_up_to_each_end(found: Any, tmp_path: Path) -> None:
    for place, y in enumerate(SERIES):
        exact = EXACT.posterior(y[:, None])
        mean, sd = found.filtered(place)
        assert mean.shape == (len(y),)
        np.testing.assert_allclose(mean, exact.mean[:, 0], atol=0.05)
        np.testing.assert_allclose(sd, exact.covariance[:, 0, 0] ** 0.5, atol=0.05)
    assert np.isnan(found.mean["x"][0, 4:]).all() and "3 series of 4 to 8" in str(found)
    np.testing.assert_array_equal(smcinfer.load(found.save(tmp_path / "p.nc")).log_z_runs, found.log_z_runs)
    with pytest.raises(ArgumentError, match="series is out of range"):
        found.filtered(3)


def test_longer_neighbours_change_nothing(found: Any) -> None:
    alone = walks(SERIES[:1]).filter(jax.random.key(0), num_particles=32, num_runs=200)
    np.testing.assert_allclose(alone.log_z_runs[0], found.log_z_runs[0], rtol=1e-5)


@pytest.mark.slow
def test_shared_parameters_by_exact_likelihoods(x64: None) -> None:
    def exact(a: float) -> float:
        model = linear_gaussian([0.0], [[1.0]], [[a]], [[Q**2]], [[1.0]], [[R**2]])
        return sum(model.posterior(y[:, None]).log_z for y in SERIES)

    value, slope = jax.value_and_grad(lambda a: walks(SERIES, a).gaussian_log_likelihood())(0.5)
    assert value == pytest.approx(exact(0.5), abs=1e-9)
    assert slope == pytest.approx((exact(0.5 + 1e-5) - exact(0.5 - 1e-5)) / 2e-5, abs=1e-5)
    estimates = jax.vmap(lambda key: walks(SERIES, 0.5).log_likelihood(key, 64))(
        jax.random.split(jax.random.key(1), 100)
    )
    assert_mean_one_log(estimates, exact(0.5))


@pytest.mark.slow
def test_what_is_its_own_comes_as_inputs() -> None:
    offsets = [0.0, 3.0]
    look = lambda t, x, now: dist.Normal(x + now.inputs, R)  # noqa: E731
    made = panel(
        dist.Normal(0.0, 1.0),
        lambda t, x, now: dist.Normal(A * x, Q),
        look,
        [walk_data(3), walk_data(3)[:2] + 3.0],
        inputs=[np.full(4, offsets[0]), np.full(2, offsets[1])],
    )
    exact = LOG_Z[0] + EXACT.posterior(walk_data(3)[:2, None]).log_z
    assert float(made.gaussian_log_likelihood()) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([], "no list of data"),
        (np.zeros((2, 3)), "no list of data"),
        ([np.zeros(3), np.zeros(0)], "series 1 has no common leading axis"),
        ([np.zeros(3), np.zeros((3, 2))], "differ in shape"),
        ([np.zeros(3), ["a"]], "series 1"),
    ],
)
def test_what_is_no_panel(series: Any, message: str) -> None:
    with unchecked(), pytest.raises(SmcinferError, match=message):
        walks(series)
    with unchecked(), pytest.raises(ArgumentError, match="inputs are of another number of series"):
        walks([np.zeros(3)], inputs=[])
