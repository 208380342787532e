"""Scores of forecasts against closed forms."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import smcinfer
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError
from smcinfer.results.forecast import Forecast
from smcinfer.results.scores import crps
from tests.statistics import assert_mean

NORMAL = scipy.stats.norm()


def closed_form(y: float) -> float:
    """CRPS of the standard normal law (Gneiting & Raftery 2007, equation 21)."""
    return float(y * (2 * NORMAL.cdf(y) - 1) + 2 * NORMAL.pdf(y) - 1 / np.sqrt(np.pi))


def test_crps_of_few_draws_is_unbiased_for_that_of_the_law() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 5))
    found = np.stack([crps(row, 0.7) for row in draws])
    assert_mean(found, closed_form(0.7))
    biased = np.mean(np.abs(draws - 0.7), 1) - np.abs(draws[:, :, None] - draws[:, None]).mean((1, 2)) / 2
    with pytest.raises(AssertionError):
        assert_mean(biased, closed_form(0.7))


def test_crps_by_hand_and_by_coordinate() -> None:
    np.testing.assert_allclose(crps([[0.0], [2.0]], [1.0]), [1.0 - 1.0])
    np.testing.assert_allclose(crps([[0.0, 1.0], [2.0, 1.0]], [3.0, np.nan]), [1.0, np.nan])


def make_forecast() -> Forecast:
    draws = np.arange(12.0).reshape(4, 3)
    return Forecast(
        states={"x": draws},
        observations={"y": draws + 1},
        first=5,
        settings={},
        status=Status.OK,
        seconds=0.0,
        compile_seconds=0.0,
    )


def test_a_forecast_is_kept_whole_without_its_model(tmp_path: Path) -> None:
    made = make_forecast()
    read = smcinfer.load(made.save(tmp_path / "forecast.nc"))
    np.testing.assert_array_equal(read.observations["y"], made.observations["y"])
    assert "t = 5 .. 7" in str(read)
    np.testing.assert_allclose(read.crps([5.5, np.nan, 6.5]), [crps(made.observations["y"][:, 0], 5.5), np.nan, 0.5])
    np.testing.assert_allclose(read.quantile(0.5, "x"), [4.5, 5.5, 6.5])
    np.testing.assert_allclose(read.mean(), [5.5, 6.5, 7.5])
    with pytest.raises(ArgumentError, match="no model to score"):
        read.log_score([1.0, 2.0, 3.0])


def test_wrong_questions() -> None:
    for ask, message in (
        (lambda made: made.crps([1.0]), "does not look like"),
        (lambda made: made.mean("z"), "x | y"),
        (lambda made: made.quantile(1.5), "levels"),
    ):
        with pytest.raises(ArgumentError, match=message):
            ask(make_forecast())
