"""The sandwich of bounds, on models whose log Z is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import bounds, resampling
from smcinfer.errors import ArgumentError, TargetError
from smcinfer.kernels import HMC, RandomWalk
from smcinfer.runner import run
from smcinfer.static import Exponents, Moves, tempering
from smcinfer.static.conditional import Choices, ConditionalTempering
from tests.statistics import assert_mean_one_log
from tests.test_static import DATA, DIM, NOISE, conjugate, exact_log_z, exact_mean

PATH = Exponents(jnp.asarray([0.05, 0.3, 1.0]))


def exact_draw(key: jax.Array) -> jax.Array:
    """The conjugate posterior."""
    return exact_mean() + (1 + len(DATA) / NOISE**2) ** -0.5 * jax.random.normal(key, (DIM,))


def wrong_draw(key: jax.Array) -> jax.Array:
    """A draw of the prior."""
    return jax.random.normal(key, (DIM,))


def conditional_runs(scheme: str, draw, num_runs: int) -> jax.Array:  # noqa: ANN001
    """log Z_hat of runs of eight particles through ``draw``."""
    kernel = RandomWalk()
    model = tempering(conjugate(), kernel, PATH, moves=Moves(2, 2, 0.0), record_params=True)
    forward = run(jax.random.key(0), model, 64, resample_below=1.0)
    choices = Choices.of(forward.history, 3)
    conditional = ConditionalTempering(conjugate(), kernel, choices, draw, 3)
    return run(jax.random.key(1), conditional, 8, num_runs=num_runs, resampling=scheme, resample_below=1.0).log_z


@pytest.mark.parametrize("scheme", resampling.SCHEMES)
def test_reciprocal_is_unbiased_through_an_exact_draw(scheme: str) -> None:
    """E_sigma[Z / Z_hat] = 1 for every conditional scheme."""
    assert_mean_one_log(-conditional_runs(scheme, exact_draw, 1500), -exact_log_z())


def test_a_draw_that_is_not_exact_is_caught() -> None:
    with pytest.raises(AssertionError):
        assert_mean_one_log(-conditional_runs("systematic", wrong_draw, 1500), -exact_log_z())


def test_sandwich_holds_log_z(precision: str) -> None:
    both = bounds.sandwich(jax.random.key(2), conjugate(), exact_draw, num_particles=64, num_runs=32)
    low, high = both.interval()
    assert low < exact_log_z() < high
    assert both.gap < 1.0 and not both.crossed
    assert "upper bound" in str(both) and "CROSSED" not in str(both)


def test_named_draws_and_bad_ones() -> None:
    both = bounds.sandwich(
        jax.random.key(3),
        conjugate(),
        lambda key: {"theta": exact_draw(key)},
        num_particles=64,
        num_runs=4,
        kernel=HMC(),
    )
    assert np.isfinite(both.interval()).all()
    with pytest.raises(TargetError, match="shape"):
        bounds.sandwich(jax.random.key(3), conjugate(), lambda key: jnp.zeros(3))
    with pytest.raises(ArgumentError, match="num_runs"):
        bounds.sandwich(jax.random.key(3), conjugate(), exact_draw, num_runs=1)


def test_crossed_bounds_say_so() -> None:
    crossed = bounds.Sandwich(np.array([1.0, 1.01, 0.99]), np.array([0.0, 0.01, -0.01]), 0)
    assert crossed.crossed and "CROSSED" in str(crossed)
