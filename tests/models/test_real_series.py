"""Series of real data: what is known of each, and that a filter follows it."""

import importlib.util
from typing import Any

import jax
import numpy as np
import pytest

import smcinfer
from smcinfer.models import influenza, nile
from smcinfer.models.stochastic_volatility import returns
from smcinfer.run.runner import run


@pytest.mark.slow
def test_the_nile_has_the_likelihood_of_durbin_and_koopman(x64: None) -> None:
    found = smcinfer.gaussian_filter(nile.nile())
    # Theirs starts from no prior at all: the first flow is then the level, and the rest are all that counts.
    assert found.log_z_increments[1:].sum() == pytest.approx(-632.54, abs=0.02)
    other = smcinfer.gaussian_filter(nile.nile(level_sd=80.0))
    assert other.log_z < found.log_z - 0.5
    assert nile.FLOWS.size == 100 and nile.FLOWS.mean() == pytest.approx(919.35)


@pytest.mark.slow
def test_a_filter_follows_the_epidemic() -> None:
    found = run(jax.random.key(0), influenza.influenza(), 2000, num_runs=2)
    assert np.isfinite(found.log_z).all() and np.ptp(found.log_z) < 3.0
    mean: Any = found.history["filtered_mean"]
    np.testing.assert_allclose(mean["infected"][0, 3:9], influenza.IN_BED[3:9], rtol=0.3)
    susceptible = mean["susceptible"][0]
    assert 0 < susceptible[-1] < 200
    # With little contagion there is no epidemic to follow.
    assert run(jax.random.key(0), influenza.influenza(beta=0.5), 2000).log_z < found.log_z.max() - 10


def test_returns_come_with_a_package() -> None:
    if importlib.util.find_spec("arch") is None:
        with pytest.raises(smcinfer.ArgumentError, match="pip install arch"):
            returns()
        return
    found = returns()
    assert found.size == 1005 and abs(found.mean()) < 1e-12 and 0.6 < found.std() < 0.9
    with pytest.raises(smcinfer.ArgumentError, match="no such years"):
        returns(1950, 1960)
