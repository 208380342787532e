"""Draws that exist as the start of a run: log Z stays what it is, whatever they are, and good ones save evaluations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr

import smcinfer
from smcinfer.bounds import bridge_sampling
from smcinfer.bounds.bridge import bridge
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.static.draws import vectors_of
from smcinfer.static.student_mixture import StudentMixture
from tests.density_tools import log_grid_integral
from tests.signatures import unchecked
from tests.statistics import assert_mean, assert_mean_one_log

DATA = np.random.default_rng(0).normal(1.0, 1.0, 40)
PRIOR = {"mean": dist.Normal(0.0, 10.0), "more": dist.LogNormal(0.0, 1.0)}


def log_likelihood(theta: Any) -> Any:
    return jnp.sum(-0.5 * (jnp.asarray(DATA.tolist()) - theta["mean"]) ** 2) - 20.0 * np.log(2 * np.pi)


def exact_log_z(data: np.ndarray = DATA) -> float:
    """Of data with a common mean N(0, 10), noise 1."""
    covariance = np.eye(len(data)) + 100.0
    return float(-0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] - 0.5 * data @ np.linalg.solve(covariance, data))


def exact_draws(num: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Independent draws of the posterior."""
    rng, precision = np.random.default_rng(seed), len(DATA) + 0.01
    return {
        "mean": rng.normal(DATA.sum() / precision, precision**-0.5, num),
        "more": np.exp(rng.normal(0.0, 1.0, num)),
    }


TARGET = smcinfer.posterior(PRIOR, log_likelihood)
FEW = smcinfer.Tempering(moves=smcinfer.Moves(3, 1, 0.5))


@pytest.mark.slow
def test_the_mixture_is_normalised_and_drawn_as_it_is_weighed(x64: None) -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(-3.0, 0.5, (300, 2)), rng.normal(2.0, 1.0, (300, 2)) * [1.0, 3.0]])
    law = StudentMixture.fit(vectors)
    assert law.means.shape[0] >= 2
    assert log_grid_integral(law.log_density, 2, 150.0, 1500) == pytest.approx(0.0, abs=3e-3)
    draws = np.asarray(law.sample(jax.random.key(0), 40_000))
    # E[N(x) / q(x)] under q is the integral of N, whatever q.
    normal = dist.MultivariateNormal(jnp.zeros(2), 4.0 * jnp.eye(2))
    ratios = np.exp(np.asarray(normal.log_prob(draws)) - np.asarray(jax.vmap(law.log_density)(draws)))
    assert_mean(ratios, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "displaced"])
def test_log_z_is_unbiased_whatever_the_draws(kind: str) -> None:
    draws = exact_draws(400)
    if kind == "displaced":
        draws["mean"] += 0.3
    target = smcinfer.posterior(PRIOR, log_likelihood, reference=smcinfer.reference_from(draws))
    options: dict[str, Any] = {"num_particles": 32, "num_runs": 300, "method": FEW, "kernel": "random_walk"}
    log_z = smcinfer.sample(jax.random.key(0), target, **options, progress=False).log_z_runs
    assert_mean_one_log(log_z, exact_log_z())
    with pytest.raises(AssertionError):
        assert_mean_one_log(log_z, exact_log_z() + 0.3)


@pytest.mark.slow
def test_a_warm_start_takes_fewer_evaluations_for_a_smaller_error() -> None:
    options: dict[str, Any] = {"num_particles": 128, "progress": False}
    cold = smcinfer.sample(jax.random.key(0), TARGET, **options)
    warm = smcinfer.sample(jax.random.key(1), TARGET.with_reference(smcinfer.reference_from(cold)), **options)
    spent = [np.nansum(result.history["num_evals"], axis=1).mean() for result in (cold, warm)]
    assert spent[1] < 0.35 * spent[0] and warm.log_z_se < cold.log_z_se
    assert abs(warm.log_z - exact_log_z()) < 5 * warm.log_z_se


class Samples:
    """What a numpyro MCMC offers of itself."""

    def get_samples(self, group_by_chain: bool = False) -> dict[str, Any]:
        assert group_by_chain
        return {name: jnp.asarray(value).reshape(2, 50) for name, value in exact_draws(100).items()}


def test_every_kind_of_draws_is_the_same_vectors() -> None:
    draws = exact_draws(100)
    chains = {name: value.reshape(2, 50) for name, value in draws.items()}
    dataset = xr.Dataset({name: (("chain", "draw"), value) for name, value in chains.items()})
    swapped = dataset.transpose("draw", "chain").assign(more_deterministic=("other", np.zeros(3)))
    wanted = np.stack([draws["mean"], np.log(draws["more"])], axis=1)
    kinds = [
        draws,
        chains,
        dataset,
        xr.DataTree.from_dict({"posterior": swapped}),
        Samples(),
        wanted,
        wanted.reshape(2, 50, 2),
    ]
    for kind in kinds:
        np.testing.assert_allclose(vectors_of(kind, TARGET).reshape(-1, 2), wanted, rtol=1e-5, atol=1e-6)
    bare = smcinfer.posterior(dist.LogNormal(0.0, 1.0), lambda theta: -theta)
    np.testing.assert_allclose(vectors_of(draws["more"], bare)[0, :, 0], wanted[:, 1], rtol=1e-5, atol=1e-6)


WRONG: dict[str, tuple[Any, str]] = {
    "dimension": (np.zeros((30, 3)), r"another dimension(.|\n)*\(draws, 2\)"),
    "a variable missing": ({"mean": np.zeros(30)}, "lack a variable(.|\n)*more"),
    "no variable": ({"other": np.zeros(30)}, "lack the target's variables"),
    "shape": ({"mean": np.zeros((30, 2, 3)), "more": np.ones(30)}, "draws of 'mean' are of another shape"),
    "numbers": ({"mean": np.zeros(30), "more": np.ones(31)}, "differ in number"),
    "few": ({"mean": np.zeros(5), "more": np.ones(5)}, "too few"),
    "text": ("run.nc", "of no kind that is known"),
}


@pytest.mark.parametrize("name", WRONG)
def test_draws_that_do_not_fit_are_refused(name: str) -> None:
    draws, words = WRONG[name]
    with unchecked(), pytest.raises(ArgumentError, match=words):
        TARGET.with_reference(smcinfer.reference_from(draws))


def test_wrong_settings_are_refused() -> None:
    with unchecked():
        with pytest.raises(ArgumentError, match="share is out of range"):
            smcinfer.reference_from({}, share=0.0)
        with pytest.raises(ArgumentError, match="num_components"):
            smcinfer.reference_from({}, num_components=0)
        with pytest.raises(ArgumentError, match="reference is of the wrong kind(.|\n)*reference_from"):
            TARGET.with_reference(exact_draws(30))  # pyright: ignore


def test_a_bridge_between_two_gaussians_finds_their_ratio_and_its_error() -> None:
    """N(0, 1) without its constant against N(0.5, 1.5^2): log ratio log sqrt(2 pi)."""
    rng = np.random.default_rng(0)

    def log_ratio(x: np.ndarray) -> np.ndarray:
        return -0.5 * x**2 - (-0.5 * ((x - 0.5) / 1.5) ** 2 - np.log(1.5 * np.sqrt(2 * np.pi)))

    found = [bridge(log_ratio(rng.normal(size=(1, 200))), log_ratio(rng.normal(0.5, 1.5, 200))) for _ in range(400)]
    errors = np.asarray([one.log_ratio - 0.5 * np.log(2 * np.pi) for one in found])
    assert_mean(errors, 0.0)
    assert errors.std() == pytest.approx(np.mean([one.se for one in found]), rel=0.15)
    with pytest.raises(TargetError, match="do not overlap"):
        bridge(np.zeros((1, 10)), np.full(10, -np.inf))


def test_correlated_draws_tell_a_larger_error() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=2000)
    chain = np.empty(2000)
    chain[0] = noise[0]
    for t in range(1, 2000):
        chain[t] = 0.95 * chain[t - 1] + np.sqrt(1 - 0.95**2) * noise[t]
    other = rng.normal(1.0, 1.0, 2000)
    errors = [bridge(np.reshape(0.5 - x, (4, 500)), 0.5 - other).se for x in (chain, rng.permutation(chain))]
    assert errors[0] > 1.5 * errors[1]


@pytest.mark.slow
def test_bridge_sampling_finds_the_evidence_of_chains_of_another_sampler() -> None:
    found = bridge_sampling(jax.random.key(0), TARGET, exact_draws(4000))
    assert found.se < 0.05 and abs(found.log_z - exact_log_z()) < 5 * found.se
    with unchecked(), pytest.raises(ArgumentError, match="target is of the wrong kind"):
        bridge_sampling(jax.random.key(0), log_likelihood, exact_draws(100))  # pyright: ignore
