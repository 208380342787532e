"""The whole ArviZ tree: groups that a target fills, axes by name, dates along time."""

from pathlib import Path
from typing import Any

import arviz
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import smcinfer
from smcinfer.ground.errors import ArgumentError
from smcinfer.results.groups import FILLED
from smcinfer.static.numpyro_described import DescribedModel
from tests.results.test_result import make_result
from tests.signatures import unchecked
from tests.statistics import assert_ks

X = np.array([0.5, 1.0, 2.0])
Y = np.array([0.3, 1.1, 2.4])


def log_likelihood(theta: Any, datum: Any) -> Any:
    return dist.Normal(theta["slope"] * datum["x"], 0.5).log_prob(datum["y"])


def predict(key: Any, theta: Any, datum: Any) -> Any:
    return {"y": theta["slope"] * datum["x"] + 0.5 * jax.random.normal(key)}


TARGET = smcinfer.posterior(
    {"slope": dist.Normal(0.0, 1.0)},
    log_likelihood,
    {"x": X, "y": Y},
    predict=predict,
    dims={"y": "dose", "x": "dose"},
    coords={"dose": ["none", "low", "high"]},
)
LEARNT = {"slope": np.random.default_rng(0).normal(1.1, 0.05, (4, 100)).astype(np.float32)}


def made(target: Any, particles: dict[str, np.ndarray]) -> smcinfer.Result:
    """A result as a run leaves it, of equal weights."""
    return make_result(
        particles=particles, log_weights=np.full((4, 100), -np.log(100.0), np.float32), described=target.described
    )


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return made(TARGET, LEARNT).to_arviz(groups="all")


def test_every_group_is_there_with_its_axes(tree: xr.DataTree) -> None:
    assert set(tree.children) == {"posterior", "sample_stats", "weighted_posterior", *FILLED}
    assert tree["observed_data/y"].dims == ("dose",) and set(tree["observed_data"].data_vars) == {"y"}
    np.testing.assert_array_equal(tree["constant_data/x"].values, X.astype(np.float32))
    for group in ("log_likelihood", "posterior_predictive", "prior_predictive"):
        assert tree[f"{group}/y"].dims == ("chain", "draw", "dose")
        assert tree[group].coords["dose"].values.tolist() == ["none", "low", "high"]


def test_what_is_in_them_is_right(tree: xr.DataTree) -> None:
    slope = tree["posterior/slope"].values
    exact = -0.5 * ((Y - slope[..., None] * X) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(tree["log_likelihood/y"].values, exact, rtol=1e-4)
    errors = (tree["posterior_predictive/y"].values - slope[..., None] * X) / 0.5
    assert_ks(errors.reshape(-1), lambda x: np.asarray(dist.Normal(0.0, 1.0).cdf(x)), num_comparisons=3)
    assert_ks(tree["prior/slope"].values.reshape(-1), lambda x: np.asarray(dist.Normal().cdf(x)), num_comparisons=3)
    errors = (tree["prior_predictive/y"].values - tree["prior/slope"].values[..., None] * X) / 0.5
    assert_ks(errors.reshape(-1), lambda x: np.asarray(dist.Normal(0.0, 1.0).cdf(x)), num_comparisons=3)


@pytest.mark.slow
def test_arviz_finds_what_it_looks_for(tree: xr.DataTree) -> None:
    assert arviz.loo(tree).elpd < 0
    worse = made(TARGET, {"slope": LEARNT["slope"] + 1.0}).to_arviz(groups=["log_likelihood"])
    table = arviz.compare({"right": tree, "worse": worse})
    assert table.index[0] == "right"
    arviz.plot_ppc_dist(tree)
    assert arviz.summary(tree).index.tolist() == ["slope"]


def test_groups_by_name_and_from_a_file(tmp_path: Path) -> None:
    result = made(TARGET, LEARNT)
    assert set(result.to_arviz().children) == {"posterior", "sample_stats", "weighted_posterior"}
    assert "observed_data" in result.to_arviz(groups=["observed_data"]).children
    loaded: Any = smcinfer.load(result.save(tmp_path / "run.nc"))
    with pytest.raises(ArgumentError, match="target of this result is not known(.|\n)*target="):
        loaded.to_arviz(groups="log_likelihood")
    assert "prior" not in loaded.to_arviz(groups="all").children
    again = loaded.to_arviz(groups="log_likelihood", target=TARGET)
    whole = result.to_arviz(groups="all")
    np.testing.assert_array_equal(again["log_likelihood/y"].values, whole["log_likelihood/y"].values)
    again.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")


def test_what_a_target_lacks_is_said() -> None:
    plain = smcinfer.posterior(dist.Normal(), lambda theta: -(theta**2))
    result = made(plain, {"theta": LEARNT["slope"]})
    with pytest.raises(ArgumentError, match="does not have every group(.|\n)*log_likelihood, posterior_predictive"):
        result.to_arviz(groups=["log_likelihood", "posterior_predictive", "prior"])
    assert set(result.to_arviz(groups="all").children) >= {"prior"}
    with pytest.raises(ArgumentError, match="unknown group(.|\n)*likelihoods"):
        result.to_arviz(groups=["likelihoods"])
    with unchecked():
        with pytest.raises(ArgumentError, match="predict makes what the data do not have"):
            smcinfer.posterior(dist.Normal(), lambda t, d: -t, X, predict=lambda key, t, d: {"z": t})
        with pytest.raises(ArgumentError, match="dims are no names"):
            smcinfer.posterior(dist.Normal(), lambda t, d: -t, X, dims={"y": (3,)})


def test_the_index_of_a_table_labels_its_data() -> None:
    data = pd.Series(Y, index=pd.Index(["a", "b", "c"]))
    target = smcinfer.posterior(dist.Normal(), lambda t, d: -((t - d) ** 2), data)
    observed = made(target, {"theta": LEARNT["slope"]}).to_arviz(groups="observed_data")["observed_data"]
    assert observed.coords["obs_id"].values.tolist() == ["a", "b", "c"]


def schools(sd: Any, y: Any = None) -> None:
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    with numpyro.plate("school", 3):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        theta = numpyro.deterministic("theta", mu + z[:, 0])
        numpyro.deterministic("pair", mu + z)
        numpyro.sample("y", dist.Normal(theta, sd), obs=y)


def test_plates_of_a_numpyro_model_are_axes() -> None:
    sd = np.array([1.0, 2.0, 3.0])
    target = smcinfer.from_numpyro(schools, sd, y=Y)
    assert isinstance(target.described, DescribedModel)
    shapes = {"mu": (4, 100), "z": (4, 100, 3, 2), "theta": (4, 100, 3), "pair": (4, 100, 3, 2)}
    rng = np.random.default_rng(0)
    particles = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tree = made(target, particles).to_arviz(groups="all")
    assert tree["posterior/z"].dims == ("chain", "draw", "school", "z_dim_1")
    assert tree["posterior/theta"].dims == ("chain", "draw", "school")
    assert tree["posterior/pair"].dims == ("chain", "draw", "school", "pair_dim_1")
    assert tree["log_likelihood/y"].dims == ("chain", "draw", "school")
    assert set(tree["constant_data"].data_vars) == {"sd"} and set(tree["observed_data"].data_vars) == {"y"}
    mean = tree["posterior/mu"].values[..., None] + tree["posterior/z"].values[..., 0]
    exact = np.asarray(dist.Normal(mean, sd).log_prob(Y))
    np.testing.assert_allclose(tree["log_likelihood/y"].values, exact, rtol=1e-4)
    errors = (tree["posterior_predictive/y"].values - mean) / sd
    assert_ks(errors.reshape(-1), lambda x: np.asarray(dist.Normal().cdf(x)))
    assert set(tree["prior"].data_vars) == {"mu", "z"} and tree["prior_predictive/y"].shape == (4, 100, 3)


def test_a_variable_called_like_an_axis_is_not_lost() -> None:
    target = smcinfer.posterior({"dose": dist.Normal()}, lambda t, d: -((t["dose"] - d) ** 2), Y, dims={"y": "dose"})
    tree = made(target, {"dose": LEARNT["slope"]}).to_arviz(groups="all")
    assert set(tree["posterior"].data_vars) == {"dose_"} and tree["log_likelihood/y"].dims[-1] == "dose"


@pytest.mark.slow
def test_time_is_dated_by_the_index_of_the_data() -> None:
    days = pd.date_range("2024-01-01", periods=4)
    data = pd.Series([0.1, np.nan, 0.3, -0.2], index=days)
    model = smcinfer.state_space(
        dist.Normal(), lambda t, x: dist.Normal(x, 1.0), lambda t, x: dist.Normal(x, 1.0), data, missing="skip"
    )
    smoothed = smcinfer.smooth(
        jax.random.key(0), model, num_particles=32, num_runs=2, method="genealogy", progress=False
    )
    np.testing.assert_array_equal(smoothed.to_arviz()["posterior"].coords["time"].values, days.to_numpy())
    result = smcinfer.sample(jax.random.key(0), model, num_particles=32, progress=False)
    tree = result.to_arviz(groups="all")
    np.testing.assert_array_equal(tree["sample_stats"].coords["time"].values, days.to_numpy())
    observed = tree["observed_data/y"]
    assert observed.dims == ("time",) and np.isnan(observed.values[1])
    np.testing.assert_array_equal(observed.coords["time"].values, days.to_numpy())


def test_labels_of_other_kinds() -> None:
    from smcinfer.ground.labels import as_json, from_json, index_of

    months = pd.period_range("2024-01", periods=3, freq="M")
    zoned = pd.date_range("2024-01-01", periods=3, tz="Europe/Paris")
    for index, first in ((months, "2024-01-01T00:00"), (zoned, "2023-12-31T23:00")):
        found = index_of(pd.Series(Y, index=index))
        assert found is not None and found[0] == np.datetime64(first)
        np.testing.assert_array_equal(from_json(as_json(found)), found)
    assert index_of({"y": pd.Series(Y)}) is None and index_of(Y) is None and as_json(None) is from_json(None) is None
    found = index_of(pd.Series(Y, index=[2.0, 3.0, 5.0]))
    np.testing.assert_array_equal(from_json(as_json(found)), [2.0, 3.0, 5.0])
    assert jnp.asarray(found).shape == (3,)
