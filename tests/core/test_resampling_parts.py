"""The parts under the resampling schemes: exact fixed-point sums and sorted uniform points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from smcinfer.core.resampling.fixed_point import FixedPoint, apportion, cumulate
from smcinfer.core.resampling.points import multinomial_below, uniform_below
from tests.statistics import assert_mean


def exact(values: FixedPoint) -> NDArray[np.uint64]:
    return np.asarray(values.whole).astype(np.uint64) * 2**32 + np.asarray(values.fraction).astype(np.uint64)


@pytest.mark.parametrize("num", [0, 1, 300, 100_000])
def test_shares_and_their_sums_are_exact(num: int, precision: str) -> None:
    values = np.random.default_rng(0).random(3000).astype(precision)
    values[::7] = 0.0
    shares = jax.jit(apportion)(jnp.asarray(values), num)
    units = exact(shares)
    assert units.sum() == num * 2**32
    assert np.all(units[::7] == 0)
    np.testing.assert_allclose(units / 2**32, num * values / values.sum(dtype=np.float64), rtol=1e-6, atol=3e-8)
    assert np.array_equal(exact(jax.jit(cumulate)(shares)), np.cumsum(units))


@pytest.mark.parametrize("bound", [0, 1, 2, 65_535, 65_536, 3_000_000_001, 2**32 - 1])
def test_uniform_below_is_the_upper_half_of_the_product(bound: int) -> None:
    keys = jax.random.split(jax.random.key(1), 50)
    bits = jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32))(keys)
    drawn = jax.vmap(uniform_below, (0, None))(keys, jnp.uint32(bound))
    assert [int(u) for u in drawn] == [int(b) * (bound or 2**32) >> 32 for b in bits]


def test_counts_below_are_binomial() -> None:
    weights = jnp.array([0.0, 0.3, 0.0, 0.5, 0.2, 0.0])

    def below(key: jax.Array, num_points: jax.Array) -> jax.Array:
        return multinomial_below(key, weights, num_points, 64)

    keys = jax.random.split(jax.random.key(0), 4000)
    for num_points in (0, 1, 60):
        counts = np.asarray(jax.jit(jax.vmap(below, (0, None)))(keys, jnp.int32(num_points)))
        assert np.all(counts[:, 0] == 0) and np.all(counts[:, 1] == counts[:, 2])
        assert np.all(counts[:, 4:] == num_points)
        probability = np.array([0.3, 0.8])
        error = counts[:, [1, 3]] - num_points * probability
        assert_mean(error, 0.0, num_comparisons=6)
        assert_mean(error**2, num_points * probability * (1 - probability), num_comparisons=6)
