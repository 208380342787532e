"""Forecasts of a result: those of the online filter, dated where the data are, drawn and refused."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError
from smcinfer.plots import plot_filter, plot_forecast
from smcinfer.results.result import Result
from tests.signatures import unchecked
from tests.state_space.test_online import DATA, STEPS, fed, walk
from tests.synthetic import make_result

DAYS = pd.date_range("2024-03-01", periods=STEPS + 1, freq="D")


def filtered(data: Any) -> Result:
    return smcinfer.sample(jax.random.key(1), walk("bootstrap", data), num_particles=64, num_runs=2, progress=False)


@pytest.fixture(scope="module")
def result() -> Result:
    return filtered(pd.Series(DATA, DAYS))


@pytest.mark.slow
def test_a_result_and_an_online_filter_foresee_the_same(result: Result) -> None:
    key = jax.random.key(7)
    mine, other = (
        result.forecast(4, num_draws=50, key=key),
        fed(DATA, walk("bootstrap")).predict(4, num_draws=50, key=key),
    )
    np.testing.assert_array_equal(mine.observations["y"], other.observations["y"])
    np.testing.assert_allclose(mine.log_score(DATA[:4]), other.log_score(DATA[:4]), rtol=1e-6)
    assert mine.first == other.first == STEPS + 1


def test_dates_of_the_data_go_on(result: Result, tmp_path: Path) -> None:
    coming = result.forecast(3, num_draws=20)
    np.testing.assert_array_equal(coming.dates, pd.date_range("2024-03-10", periods=3).to_numpy())
    assert "2024-03-10" in str(coming) and smcinfer.load(coming.save(tmp_path / "f.nc")).dates is not None
    assert plot_filter(result).axes[0].get_xlim()[0] > 10_000  # days since 1970, not steps
    uneven = DAYS[[0, 1, 3, 4, 5, 6, 7, 8]].append(pd.DatetimeIndex(["2024-05-01"]))
    other = filtered(pd.Series(DATA, uneven))
    assert other.settings["times"][-1].startswith("2024-05-01") and other.forecast(2, num_draws=4).dates is None
    assert "times" not in filtered(pd.Series(DATA)).settings


def test_a_fan_is_drawn(result: Result) -> None:
    coming = result.forecast(3, num_draws=20)
    axis = plot_forecast(coming, data=DATA, outcome=DATA[:3]).axes[0]
    assert len(axis.lines) == 3 and len(axis.collections) == 2
    np.testing.assert_allclose(axis.lines[0].get_ydata(), coming.quantile(0.5), rtol=1e-6)
    assert axis.lines[1].get_xdata()[-1] == np.datetime64("2024-03-09")
    for wrong, message in (
        ({"outcome": DATA}, "another length"),
        ({"data": np.zeros((3, 2))}, "do not look like"),
        ({"levels": (2.0,)}, "levels"),
        ({"name": "z"}, "unknown variable"),
    ):
        with pytest.raises(ArgumentError, match=message):
            plot_forecast(coming, **wrong)


def test_what_cannot_be_foreseen(result: Result, tmp_path: Path) -> None:
    read = smcinfer.load(result.save(tmp_path / "r.nc"))
    for other in (read, make_result()):
        with pytest.raises(ArgumentError, match="nothing is known of what follows"):
            other.forecast(3)
    with unchecked(), pytest.raises(ArgumentError, match="horizon"):
        result.forecast(0)
    with pytest.raises(ArgumentError, match="does not look like"):
        result.forecast(3).log_score(DATA)
