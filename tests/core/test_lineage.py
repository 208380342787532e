"""The error bar that one run gives itself, against the spread of many."""

import jax
import numpy as np
import pytest

from smcinfer.core import lineage, resampling
from smcinfer.run.runner import run
from tests import exact_models
from tests.statistics import assert_error_bars

MODEL, LOG_Z = exact_models.linear_gaussian(30)


@pytest.mark.slow
@pytest.mark.parametrize("resample_below", [0.5, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", resampling.SCHEMES)
def test_error_bars_are_honest_in_every_scheme(scheme: str, resample_below: float) -> None:
    # Ten resamplings are several epochs, which three are not: see `epoch_of`.
    done = run(jax.random.key(5), MODEL, 256, num_runs=300, resampling=scheme, resample_below=resample_below, lag=10)
    assert_error_bars(done.log_z, done.log_z_variance, LOG_Z)
    assert_error_bars(done.log_z, done.eve_variance, LOG_Z)


def test_what_multinomial_resampling_takes_back_is_too_much_for_an_even_scheme(mistaken: pytest.MonkeyPatch) -> None:
    mistaken.setattr(resampling, "EVEN", frozenset())
    mistaken.setattr(
        lineage,
        "neutral_factor",
        lambda log_weights, ancestors: -np.log1p(-1.0 / ancestors.shape[0]) + 0 * log_weights[0],
    )
    done = run(jax.random.key(5), MODEL, 256, num_runs=300, resampling="systematic", resample_below=1.0)
    with pytest.raises(AssertionError, match="too small"):
        assert_error_bars(done.log_z, done.log_z_variance, LOG_Z)


@pytest.mark.parametrize(("lag", "epoch", "rows"), [(0, 1, 0), (1, 1, 2), (3, 1, 4), (4, 2, 3), (10, 4, 4)])
def test_a_lag_is_cut_into_few_epochs(lag: int, epoch: int, rows: int) -> None:
    family = lineage.founders(8, lag)
    assert (family.epoch, family.recent.shape) == (epoch, (1, rows, 8))
