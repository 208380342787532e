"""What ArviZ is asked for by name works on every kind of target, with the groups that the kind can fill."""

from collections.abc import Callable
from typing import Any

import arviz
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr

import smcinfer
from smcinfer.ground.errors import ArgumentError
from tests.density_tools import base_draws, each
from tests.results.test_groups import TARGET, Y, made, schools
from tests.static.test_mixed import mixture
from tests.static.test_stan import Compiled
from tests.synthetic import make_chains, make_result, make_smoothed

PLOTS = ("plot_forest", "plot_dist", "plot_trace")
PREDICTED = {"observed_data", "log_likelihood", "posterior_predictive"}


def of_vectors(target: smcinfer.StaticTarget) -> xr.DataTree:
    """The tree of draws of the base, which are in the support."""
    assert target.constrain is not None
    values = each(target.constrain, base_draws(target, 0, 400))
    return made(target, {name: np.asarray(v).reshape(4, 100, *np.shape(v)[1:]) for name, v in values.items()}).to_arviz(
        groups="all"
    )


def of_path(path: Any) -> xr.DataTree:
    """The tree of a path's start."""
    values = path.exported(path.start(jax.random.key(0), 400).particles)
    particles = {name: np.asarray(v).reshape(4, 100, *np.shape(v)[1:]) for name, v in values.items()}
    return made(path, particles).to_arviz(groups="all")


def series() -> Any:
    """A random walk seen through noise, one step unseen."""
    return smcinfer.state_space(
        dist.Normal(),
        lambda t, x: dist.Normal(x, 1.0),
        lambda t, x: dist.Normal(x, 0.5),
        np.array([0.1, np.nan, 0.3, -0.2]),
        missing="skip",
    )


def smoothed() -> xr.DataTree:
    found = make_smoothed(
        method="backward",
        log_weights=np.full((2, 4, 50), -np.log(50.0)),
        values={"x": np.random.default_rng(0).normal(size=(2, 4, 50)).astype(np.float32)},
        chosen=np.zeros((2, 4, 50), np.int32),
    )
    model = series()
    tree = found.to_arviz(groups="all", target=model)
    x, y = tree["posterior/x"].values, np.array([0.1, np.nan, 0.3, -0.2])
    exact = np.nan_to_num(-0.5 * ((y - x) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi)))
    likelihood = tree["log_likelihood/y_seen"]
    np.testing.assert_allclose(likelihood.values, exact[..., [0, 2, 3]], rtol=1e-4, atol=1e-5)
    assert likelihood.coords["seen_time"].values.tolist() == [0, 2, 3]
    assert tree["posterior_predictive/y"].dims == ("chain", "draw", "time")
    with pytest.raises(ArgumentError, match="target of this result is not known"):
        found.to_arviz(groups="log_likelihood")
    return tree


def chains() -> xr.DataTree:
    found = make_chains()
    target = smcinfer.posterior(
        {name: dist.Normal().expand(value.shape[2:]).to_event(value.ndim - 2) for name, value in found.draws.items()},
        lambda theta, datum: -sum(jnp.sum(value) for value in theta.values()) * datum,
        Y,
    )
    return found.to_arviz(groups="all", target=target)


KINDS: dict[str, tuple[Callable[[], xr.DataTree], set[str]]] = {
    "posterior": (lambda: of_vectors(TARGET), {*PREDICTED, "constant_data", "prior", "prior_predictive"}),
    "likelihood alone": (
        lambda: of_vectors(
            smcinfer.posterior({"a": dist.Normal(), "b": dist.Normal()}, lambda theta: -(theta["a"] ** 2))
        ),
        {"prior"},
    ),
    "host": (
        lambda: of_vectors(
            smcinfer.posterior({"a": dist.Normal()}, smcinfer.on_host(lambda theta, y: -((theta["a"] - y) ** 2)), Y)
        ),
        {"prior", "observed_data", "log_likelihood"},
    ),
    "density": (
        lambda: of_vectors(
            smcinfer.log_density(lambda x: -jnp.sum(x**2), reference=dist.Normal().expand([2]).to_event(1))
        ),
        set(),
    ),
    "numpyro": (
        lambda: of_vectors(smcinfer.from_numpyro(schools, np.array([1.0, 2.0, 3.0]), y=Y)),
        {*PREDICTED, "constant_data", "prior", "prior_predictive"},
    ),
    "stan": (lambda: of_vectors(smcinfer.from_stan(Compiled())), set()),
    "mixed": (
        lambda: of_path(smcinfer.mixed_from_numpyro(mixture, Y)),
        {*PREDICTED, "prior", "prior_predictive"},
    ),
    "simulator": (
        lambda: of_path(smcinfer.simulator(dist.Normal(), lambda key, x: x + jax.random.normal(key), 1.0)),
        set(),
    ),
    "filter": (lambda: make_result(described=series().described).to_arviz(groups="all"), {"observed_data"}),
    "smoothed": (smoothed, PREDICTED),
    "chains": (chains, {"observed_data", "log_likelihood", "prior"}),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_arviz_works_by_name(kind: str) -> None:
    build, groups = KINDS[kind]
    tree = build()
    assert set(tree.children) - {"posterior", "sample_stats", "weighted_posterior"} == groups
    names = [str(name) for name in tree["posterior"].data_vars]
    table = arviz.summary(tree)
    assert {str(label).split("[")[0] for label in table.index} == set(names)
    for plot in PLOTS:
        getattr(arviz, plot)(tree, backend="matplotlib")
    small = [name for name in names if tree["posterior"][name][0, 0].size <= 2]
    if sum(tree["posterior"][name][0, 0].size for name in small) > 1:
        arviz.plot_pair(tree, var_names=small[:3], backend="matplotlib")
    if "log_likelihood" in groups:
        found = arviz.loo(tree)
        assert np.isfinite(found.elpd)
        assert set(arviz.compare({"one": tree, "other": tree}).index) == {"one", "other"}
    if "posterior_predictive" in groups:
        arviz.plot_ppc_dist(tree, backend="matplotlib")
    if "prior_predictive" in groups:
        arviz.plot_ppc_dist(tree, group="prior_predictive", backend="matplotlib")
    plt.close("all")
