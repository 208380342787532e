"""Mixture density networks: laws that sum to one, draws that follow them, floors that hold."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from smcinfer.ground.errors import ArgumentError
from smcinfer.nn.mixture_density import Mixture, mixture_density, num_features, one_hot
from tests.statistics import assert_chi2, assert_ks

CARDS = (3, 0, 2)


def mixed(batch: tuple[int, ...] = ()) -> Mixture:
    """A mixture on three categories, a real number and two categories."""
    network = mixture_density(
        jax.random.key(0), CARDS, 2, 3, num_components=4, width=8, encoder_width=8, scale_floor=0.1
    )
    network = eqx.tree_at(lambda n: n.head.bias, network, 2.0 * network.head.bias)
    fixed, changing = jnp.ones((*batch, 2)), jnp.linspace(-1.0, 1.0, 3) * jnp.ones((*batch, 3))
    return network(network.embed(fixed), changing)


@pytest.mark.slow
def test_the_law_sums_to_one(precision: str) -> None:
    law = mixed()
    grid = np.linspace(-30.0, 30.0, 12001)
    total = 0.0
    for first, last in itertools.product(range(3), range(2)):
        values = jnp.stack([jnp.full(12001, first), jnp.asarray(grid), jnp.full(12001, last)], axis=-1)
        density = jnp.exp(jax.vmap(law.log_prob)(values))
        total += np.trapezoid(np.asarray(density, np.float64), grid)
    assert total == pytest.approx(1.0, abs=2e-5)


@pytest.mark.slow
def test_draws_follow_the_law() -> None:
    draws = np.asarray(jax.jit(lambda key: mixed((40_000,)).sample(key))(jax.random.key(1)))
    law = mixed()
    weights = np.exp(np.asarray(law.log_weights, np.float64))
    probs = np.exp(np.asarray(law.log_probs, np.float64))
    # Categories together, so that their dependence through the components is seen.
    joint = np.einsum("k,ka,kb->ab", weights, probs[:, 0], probs[:, 1, :2])
    counts = np.zeros((3, 2))
    np.add.at(counts, (draws[:, 0].astype(int), draws[:, 2].astype(int)), 1)
    assert_chi2(counts.ravel(), joint.ravel())
    means, scales = (np.asarray(part, np.float64)[:, 0] for part in (law.means, np.exp(law.log_scales)))
    assert_ks(draws[:, 1], lambda x: scipy.stats.norm.cdf((x[:, None] - means) / scales) @ weights)
    with pytest.raises(AssertionError):
        assert_chi2(counts.ravel(), np.outer(joint.sum(1), joint.sum(0)).ravel())


def test_components_are_summed_and_not_averaged() -> None:
    law = mixed()
    values = jnp.array([1.0, 0.3, 0.0])
    by_hand = sum(
        np.exp(float(law.log_weights[k]))
        * np.exp(float(law.log_probs[k, 0, 1]))
        * np.exp(float(law.log_probs[k, 1, 0]))
        * scipy.stats.norm.pdf(0.3, float(law.means[k, 0]), np.exp(float(law.log_scales[k, 0])))
        for k in range(4)
    )
    assert float(law.log_prob(values)) == pytest.approx(np.log(by_hand), rel=1e-4)


def test_nothing_possible_is_left_out() -> None:
    network = mixture_density(jax.random.key(0), CARDS, 0, 1, num_components=2, probability_floor=0.02, scale_floor=0.1)
    extreme = eqx.tree_at(lambda n: n.head.bias, network, 1e4 * network.head.bias)
    law = extreme(extreme.embed(jnp.zeros((0,))), jnp.ones((1,)))
    probs = np.exp(np.asarray(law.log_probs))
    assert probs[:, 0].min() >= 0.02 / 3 * (1 - 1e-5) and probs[:, 1, :2].min() >= 0.01 * (1 - 1e-5)
    assert (probs[:, 1, 2] == 0).all()
    assert np.exp(np.asarray(law.log_scales)).min() >= 0.1 * (1 - 1e-5)
    values = jnp.array(list(itertools.product(range(3), [0.0], range(2))))
    assert np.isfinite(jax.vmap(law.log_prob)(values)[:, None]).all()


def test_floors_are_asked_for() -> None:
    with pytest.raises(ArgumentError, match="floors"):
        mixture_density(jax.random.key(0), CARDS, 1, 1, probability_floor=0.0)
    with pytest.raises(ArgumentError, match="num_components"):
        mixture_density(jax.random.key(0), CARDS, 1, 1, num_components=0)


def test_values_as_numbers() -> None:
    made = one_hot(jnp.array([[2.0, -1.5, 0.0]]), CARDS)
    assert made.tolist() == [[0.0, 0.0, 1.0, -1.5, 1.0, 0.0]]
    assert num_features(CARDS) == made.shape[1]
