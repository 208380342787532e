"""Models with discrete sites against sums over all their values."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.static.mixed import MixedPath
from smcinfer.static.numpyro_mixed import mixed_from_numpyro
from tests.signatures import unchecked
from tests.statistics import assert_mean, assert_mean_one_log

Y = np.array([0.2, 2.3, 1.1])
SHIFTS = np.array([0.0, 2.0, -1.0])
PRIOR = np.array([0.5, 0.3, 0.2])
FEW = smcinfer.Moves(4, 1, 0.5)


def mixture(y: Any) -> None:
    """Three labels beside one that has two values, a real mean, and a scale whose Jacobian counts."""
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    wide = numpyro.sample("wide", dist.Bernoulli(0.3))
    with numpyro.plate("points", 3):
        label = numpyro.sample("label", dist.Categorical(jnp.asarray(PRIOR.tolist())))
        shift = numpyro.deterministic("shift", jnp.asarray(SHIFTS.tolist())[label])
        numpyro.sample("y", dist.Normal(mean + shift, 0.5 + wide), obs=y)
    numpyro.sample("scale", dist.HalfNormal(1.0))


def exact() -> tuple[float, np.ndarray, float]:
    """log Z, P(label_i = 1 | y) and E[mean | y], by summing over the 54 values."""
    total, ones, mean = 0.0, np.zeros(3), 0.0
    for wide, *labels in itertools.product(range(2), *[range(3)] * 3):
        noise = (0.5 + wide) ** 2
        covariance = noise * np.eye(3) + 1.0
        left = Y - SHIFTS[list(labels)]
        weight = (0.3 if wide else 0.7) * np.prod(PRIOR[list(labels)])
        weight *= scipy.stats.multivariate_normal(np.zeros(3), covariance).pdf(left)
        total += weight
        ones += weight * (np.asarray(labels) == 1)
        mean += weight * left.sum() / (3 + noise)
    return float(np.log(total)), ones / total, mean / total


@pytest.mark.parametrize("double", [pytest.param(False, marks=pytest.mark.slow), True])
def test_log_z_and_draws_are_those_of_the_sum(double: bool) -> None:
    log_z, ones, mean = exact()
    with jax.enable_x64(double):
        # A copy: JAX keeps the single-precision form of a numpy array that it has met.
        target = mixed_from_numpyro(mixture, Y.copy(), kernel="random_walk", moves=FEW)
        result = smcinfer.sample(jax.random.key(0), target, num_particles=24, num_runs=300, progress=False)
    assert_mean_one_log(result.log_z_runs, log_z, num_comparisons=3)
    weights = np.exp(result.log_z_runs - log_z)[:, None] * np.exp(result.log_weights)
    labels = np.sum(weights[..., None] * (result.particles["label"] == 1), axis=1)
    assert_mean(labels, ones, num_comparisons=3)
    assert_mean(np.sum(weights * result.particles["mean"], axis=1), mean, num_comparisons=3)
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, log_z + 0.3)
    with pytest.raises(AssertionError):
        assert_mean(labels, np.full(3, PRIOR[1]))
    np.testing.assert_allclose(result.particles["shift"], SHIFTS[result.particles["label"]])
    assert set(result.particles) == {"mean", "wide", "label", "shift", "scale"} and result.settings["num_discrete"] == 4


class Starved(MixedPath):
    """A path whose discrete sites are set back, and not drawn."""

    def _gibbs(self, key: Any, x: Any, z: Any, exponent: Any) -> Any:
        return jnp.zeros_like(z)


@pytest.mark.slow
def test_without_gibbs_moves_the_draws_are_wrong() -> None:
    """The negative control: all particles have the first label."""
    target = mixed_from_numpyro(mixture, Y, kernel="random_walk", moves=FEW)
    wrong = Starved(**{field.name: getattr(target, field.name) for field in dataclasses.fields(target)})
    result = smcinfer.sample(jax.random.key(0), wrong, num_particles=24, num_runs=300, progress=False)
    with pytest.raises(AssertionError):
        assert_mean_one_log(result.log_z_runs, exact()[0])


def test_the_tree_has_its_plates_and_likelihoods() -> None:
    target = mixed_from_numpyro(mixture, Y)
    assert target.described is not None
    values = {"mean": np.zeros(2), "wide": np.array([0, 1]), "label": np.array([[0, 1, 2]] * 2), "scale": np.ones(2)}
    found = target.described.log_likelihood(values)
    wanted = scipy.stats.norm(SHIFTS[[0, 1, 2]], np.array([[0.5], [1.5]])).logpdf(Y)
    np.testing.assert_allclose(found["y"] if found else None, wanted, rtol=1e-5)
    assert target.described.dims["label"] == ("points",)


def no_reals(y: Any) -> None:
    numpyro.sample("y", dist.Normal(1.0 * numpyro.sample("z", dist.Bernoulli(0.5)), 1.0), obs=y)


def no_labels(y: Any) -> None:
    numpyro.sample("y", dist.Normal(numpyro.sample("x", dist.Normal()), 1.0), obs=y)


def counts(y: Any) -> None:
    numpyro.sample("y", dist.Normal(numpyro.sample("n", dist.Poisson(2.0)) + numpyro.sample("x", dist.Normal())), obs=y)


def unseen(y: Any) -> None:
    numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.sample("x", dist.Normal())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (no_reals, "no real latent site(.|\n)*annealed"),
        (no_labels, "no discrete latent site(.|\n)*from_numpyro"),
        (counts, "infinitely many values(.|\n)*Poisson"),
        (unseen, "observes nothing"),
    ],
)
def test_models_that_do_not_fit_are_refused(model: Any, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        mixed_from_numpyro(model, Y)


def test_wrong_settings_are_refused_and_the_way_in_is_named() -> None:
    with unchecked():
        for options, words in (
            ({"kernel": "gibbs"}, "unknown kernel"),
            ({"moves": 3}, "moves"),
            ({"schedule": 3}, "schedule"),
        ):
            with pytest.raises(ArgumentError, match=words):
                mixed_from_numpyro(mixture, Y, **options)
    with pytest.raises(TargetError, match="mixed_from_numpyro"):
        smcinfer.from_numpyro(mixture, Y)
