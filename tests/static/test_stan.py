"""Stan models, by a stand-in with the methods of BridgeStan's: the density, the names, log Z in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.static.on_host import on_host
from smcinfer.static.stan_model import from_stan, grouped
from tests.density_tools import each
from tests.signatures import unchecked
from tests.statistics import assert_mean_one_log

Y = np.array([1.2, -0.3, 0.8])
DIM = 2


class Compiled:
    """``mean ~ N(0, 2); sd ~ LogNormal(0, 1) ; y ~ N(mean, 1)``, as BridgeStan would have it; sd is told by no data."""

    def param_names(self) -> list[str]:
        return ["mean", "sd"]

    def param_unc_num(self) -> int:
        return DIM

    def log_density_gradient(
        self, x: np.ndarray, propto: bool = True, jacobian: bool = True
    ) -> tuple[float, np.ndarray]:
        assert x.dtype == np.float64 and jacobian and not propto
        value = -0.5 * np.sum((Y - x[0]) ** 2) - x[0] ** 2 / 8 - x[1] ** 2 / 2 - 2.5 * np.log(2 * np.pi) - np.log(2.0)
        return value, np.array([np.sum(Y - x[0]) - x[0] / 4, -x[1]])

    def param_constrain(self, x: np.ndarray) -> np.ndarray:
        return np.array([x[0], np.exp(x[1])])

    def param_unconstrain(self, values: np.ndarray) -> np.ndarray:
        return np.array([values[0], np.log(values[1])])


def exact_log_z() -> float:
    covariance = np.eye(3) + 4.0
    return float(-0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] - 0.5 * Y @ np.linalg.solve(covariance, Y))


def test_log_z_by_hmc_on_the_gradients_of_stan() -> None:
    target = from_stan(Compiled())
    path = smcinfer.Tempering([0.3, 1.0], moves=smcinfer.Moves.exactly(1))
    result = smcinfer.sample(
        jax.random.key(0), target, num_particles=32, num_runs=100, method=path, kernel="mala", progress=False
    )
    assert set(result.particles) == {"mean", "sd"} and (result.particles["sd"] > 0).all()
    assert_mean_one_log(result.log_z_runs, exact_log_z())
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, exact_log_z() + 0.3)


def test_names_values_and_references(x64: None) -> None:
    draws = {"mean": np.linspace(-1.0, 1.0, 40), "sd": np.linspace(0.5, 2.0, 40)}
    starts = [dist.Normal(0.0, 3.0).expand([DIM]).to_event(1), smcinfer.reference_from(draws)]
    x = jnp.asarray([[0.3, -0.2], [1.0, 0.5]])
    for reference in starts:
        target = from_stan(Compiled(), reference=reference)
        np.testing.assert_allclose(
            each(target.log_prob, x), [Compiled().log_density_gradient(row, propto=False)[0] for row in np.asarray(x)]
        )
        np.testing.assert_allclose(each(target.unconstrain, each(target.constrain, x)), x)
    places = grouped(["a", "beta.1.1", "beta.2.1", "beta.1.2", "beta.2.2", "v.1"])
    assert {name: place.tolist() for name, place in places.items()} == {"a": 0, "beta": [[1, 3], [2, 4]], "v": [5]}


def test_what_is_no_stan_model_is_refused() -> None:
    with unchecked(), pytest.raises(ArgumentError, match="no Stan model(.|\n)*no log_density_gradient"):
        from_stan(object())

    class Rising(Compiled):
        def log_density_gradient(self, x: np.ndarray, **options: Any) -> tuple[float, np.ndarray]:
            return float(np.sum(x)), np.ones(DIM)

    with pytest.raises(TargetError, match="no strict maximum|no mode"):
        from_stan(Rising())


def test_a_torch_density_by_the_same_door() -> None:
    torch = pytest.importorskip("torch")

    def density(x: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.tensor(x, requires_grad=True)
        value = -0.5 * (point**2).sum()
        value.backward()
        return value.item(), point.grad.numpy()

    hosted = on_host(density, gradient=True)
    np.testing.assert_allclose(jax.grad(hosted)(jnp.asarray([1.0, -2.0])), [-1.0, 2.0], rtol=1e-6)
