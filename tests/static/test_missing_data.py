"""Missing numbers in the data of a posterior or of a numpyro model: refused by name and index, unless the model masks them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.static import from_numpyro, posterior

TABLE = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [0.1, 0.9, 2.2]})
GAP = np.array([0.1, np.nan, 2.2])
GAPS = {
    "NaN": GAP,
    "masked": np.ma.array([0.1, -999.0, 2.2], mask=[0, 1, 0]),
    "nullable": pd.Series([0.1, None, 2.2], dtype="Float64"),
    "objects": np.array([0.1, None, 2.2], object),
}


def likelihood(theta: Any, datum: Any) -> Any:
    return dist.Normal(theta * datum["x"], 1.0).log_prob(datum["y"])


def line(x: Any, y: Any, seen: Any = None) -> None:
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("n", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y, obs_mask=seen)


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_in_the_data_of_a_posterior_is_refused(name: str) -> None:
    data = {"x": np.arange(3.0), "y": GAPS[name]}
    with pytest.raises(ArgumentError, match=r"missing in data, 'y'(.|\n)*index \(1,\)"):
        posterior(dist.Normal(0.0, 1.0), likelihood, data)


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_in_the_data_of_a_numpyro_model_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"missing in (.|\n)*index \(1,\)(.|\n)*obs_mask"):
        from_numpyro(line, np.arange(3.0), GAPS[name])


def test_a_gap_among_covariates_is_refused_too() -> None:
    with pytest.raises(ArgumentError, match=r"argument 1 of the model, with which it cannot run(.|\n)*index \(1,\)"):
        from_numpyro(line, GAP, np.arange(3.0))
    with (
        numpyro.validation_enabled(False),
        pytest.raises(ArgumentError, match=r"x of the model, on which site 'y' depends"),
    ):
        from_numpyro(line, x=GAP, y=np.arange(3.0))


def test_columns_of_a_table_are_data() -> None:
    x = jnp.array([0.7])
    expected = dist.Normal(0.7 * jnp.asarray(TABLE.x.to_numpy()), 1.0).log_prob(jnp.asarray(TABLE.y.to_numpy())).sum()
    columns = posterior(dist.Normal(0.0, 1.0), likelihood, {"x": TABLE.x, "y": TABLE.y.to_list()})
    table = posterior(dist.Normal(0.0, 1.0), lambda b, row: dist.Normal(b * row[0], 1.0).log_prob(row[1]), TABLE)
    nullable = TABLE.astype("Float64")
    for target in (columns, table, from_numpyro(line, TABLE.x, TABLE.y), from_numpyro(line, nullable.x, nullable.y)):
        np.testing.assert_allclose(target.log_potential(x), expected, rtol=1e-5)


def test_what_the_model_masks_may_be_missing() -> None:
    seen = ~np.isnan(GAP)

    def masked(x: Any, y: Any) -> None:
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        with numpyro.plate("n", 3), numpyro.handlers.mask(mask=seen):
            numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=jnp.where(seen, y, 0.0))

    def masked_under_nan(x: Any, y: Any) -> None:
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        with numpyro.handlers.mask(mask=seen):
            numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    x = jnp.array([0.7])
    expected = sum(float(dist.Normal(0.7 * t, 1.0).log_prob(GAP[t])) for t in (0, 2))
    for model in (masked, masked_under_nan):
        target = from_numpyro(model, np.arange(3.0), GAP)
        np.testing.assert_allclose(target.log_potential(x), expected, rtol=1e-5)
