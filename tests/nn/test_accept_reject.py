"""Gradients through rejection samplers against exact ones, and the bias of leaving the second term out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from smcinfer.ground.errors import ArgumentError
from smcinfer.nn.accept_reject import Accepted, accept_reject
from tests.statistics import assert_ks, assert_mean

SHAPE = 1.3


def gamma(key: Any, shape: Any, num_draws: int, max_tries: int = 100) -> Accepted:
    """Gamma draws by Marsaglia and Tsang's rejection."""

    def parts(shape: Any, noise: Any) -> tuple[Any, Any]:
        d = shape - 1.0 / 3.0
        return d, (1.0 + noise / jnp.sqrt(9.0 * d)) ** 3

    def transform(shape: Any, noise: Any) -> Any:
        d, v = parts(shape, noise)
        return d * v

    def log_accept(shape: Any, noise: Any) -> Any:
        d, v = parts(shape, noise)
        inside = jnp.maximum(v, 1e-12)
        return jnp.where(v > 0, 0.5 * noise**2 + d * (1.0 - v + jnp.log(inside)), -jnp.inf)

    return accept_reject(
        key, shape, lambda key: jax.random.normal(key), transform, log_accept, num_draws=num_draws, max_tries=max_tries
    )


def gradients(function: Any, surrogate: bool = True) -> np.ndarray:
    """Gradients of E[function] with respect to the shape, replicated."""

    def estimate(shape: Any, key: Any) -> Any:
        draws = gamma(key, shape, 50)
        return draws.mean(function) if surrogate else jnp.mean(jax.vmap(function)(draws.values))

    keys = jax.random.split(jax.random.key(0), 2000)
    return np.asarray(jax.jit(jax.vmap(jax.grad(estimate), (None, 0)))(jnp.asarray(SHAPE), keys))


def test_draws_follow_the_law() -> None:
    draws = jax.jit(lambda key: gamma(key, jnp.asarray(SHAPE), 20_000))(jax.random.key(0))
    assert bool(draws.accepted.all())
    assert_ks(np.asarray(draws.values), lambda x: scipy.special.gammainc(SHAPE, x))


@pytest.mark.parametrize(
    ("function", "exact"),
    [(lambda x: x, 1.0), (jnp.log, float(scipy.special.polygamma(1, SHAPE))), (jnp.square, 2 * SHAPE + 1)],
)
def test_gradients_are_exact_in_the_mean(function: Any, exact: float) -> None:
    assert_mean(gradients(function), exact)


def test_the_transform_alone_is_biased() -> None:
    with pytest.raises(AssertionError):
        assert_mean(gradients(jnp.log, surrogate=False), float(scipy.special.polygamma(1, SHAPE)))


def test_a_sampler_that_never_accepts_says_so() -> None:
    def never(params: Any, noise: Any) -> Any:
        return jnp.full((), -jnp.inf) + 0.0 * params * noise

    draws = accept_reject(
        jax.random.key(0),
        jnp.ones(()),
        lambda key: jax.random.normal(key),
        lambda p, n: p * n,
        never,
        num_draws=3,
        max_tries=5,
    )
    assert not draws.accepted.any()
    assert draws.tries.tolist() == [5, 5, 5]
    with pytest.raises(ArgumentError, match="too few draws"):
        gamma(jax.random.key(0), jnp.asarray(SHAPE), 1)
