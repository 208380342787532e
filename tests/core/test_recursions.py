"""Recursions at all steps at once: what the loop gives, the iterations that it takes, and the error that is left."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.core.recursions import DEER, GaussSeidelJacobi, Picard, Report, Way, scan
from smcinfer.ground.errors import ArgumentError

STEPS = 60
NOISE = np.random.default_rng(0).normal(size=(STEPS, 2))
WAYS: dict[str, Way] = {
    "DEER": DEER(),
    "diagonal": DEER(diagonal=True),
    "Picard": Picard(),
    "Gauss-Seidel-Jacobi": GaussSeidelJacobi(num_blocks=7),
    "Jacobi": GaussSeidelJacobi(num_blocks=STEPS),
}


def contracting(carry: Any, u: Any) -> tuple[Any, Any]:
    """Two states in a tree, which pull each other towards a bent line."""
    a, b = carry["a"], carry["b"]
    new = {"a": 0.8 * jnp.tanh(a) - 0.3 * b + 0.3 * u[0], "b": 0.5 * jnp.sin(a) + 0.3 * u[1]}
    return new, new["a"] - a


def chaotic(x: Any, u: Any) -> tuple[Any, Any]:
    """The logistic map, which no iteration foresees."""
    new = 3.9 * x * (1 - x)
    return new, new


def both(once: Any, start: Any, xs: Any, way: Way | None) -> tuple[Any, Any, Report]:
    return jax.jit(lambda start, xs: scan(once, start, xs, way))(start, xs)


@pytest.mark.parametrize("name", WAYS)
def test_every_way_gives_what_the_loop_gives(name: str, precision: str) -> None:
    start, xs = {"a": jnp.asarray(1.0), "b": jnp.asarray(-0.5)}, jnp.asarray(NOISE)
    last, outs, plain = both(contracting, start, xs, None)
    assert plain.iterations == STEPS and plain.error == 0 and plain.converged
    found, given, report = both(contracting, start, xs, WAYS[name])
    close = 1e-10 if precision == "float64" else 2e-3
    np.testing.assert_allclose(given, outs, atol=close)
    np.testing.assert_allclose(found["a"], last["a"], atol=close)
    assert given.dtype == precision and report.converged and report.error <= 1e3 * jnp.finfo(precision).eps
    if name == "DEER":
        assert report.iterations < 10
    if name == "Gauss-Seidel-Jacobi":
        assert report.iterations <= 8


def test_a_linear_recursion_takes_newton_one_iteration(x64: None) -> None:
    linear = lambda x, u: ((0.5 * x[::-1] + u),) * 2  # noqa: E731
    start, xs = jnp.ones(2), jnp.asarray(NOISE)
    _, outs, report = both(linear, start, xs, DEER())
    np.testing.assert_allclose(outs, both(linear, start, xs, None)[1], atol=1e-12)
    assert report.iterations == 1


def test_after_k_iterations_the_first_k_steps_are_exact(x64: None) -> None:
    start, xs = jnp.asarray(0.3), jnp.zeros(STEPS)
    exact = both(chaotic, start, xs, None)[1]
    for way in (
        DEER(max_iterations=9),
        Picard(max_iterations=9),
        GaussSeidelJacobi(num_blocks=STEPS, max_iterations=9),
    ):
        _, outs, report = both(chaotic, start, xs, way)
        np.testing.assert_allclose(outs[:9], exact[:9], atol=1e-9)
        assert not np.allclose(outs[:40], exact[:40], atol=1e-3)
        assert report.iterations == 9 and report.error > 1e-3 and not report.converged
    _, whole, report = both(chaotic, start, xs, DEER(tolerance=1e-14))
    assert report.iterations <= STEPS
    np.testing.assert_allclose(whole[:30], exact[:30], atol=1e-5)


def test_what_is_no_number_is_an_error_that_is_left() -> None:
    """The root of a negative number at the last step, which a largest error must not pass over."""
    rooted = lambda x, u: (jnp.sqrt(x - 1.0 + 0.1 * u) + 1.0,) * 2  # noqa: E731
    start, xs = jnp.asarray(3.0), jnp.zeros(STEPS).at[-1].set(-100.0)
    _, outs, report = both(rooted, start, xs, DEER())
    assert np.isnan(outs[-1]) and report.error == np.inf and not report.converged
    _, outs, report = both(rooted, start, xs[:-1], DEER())
    assert np.isfinite(outs).all() and report.converged


def test_what_cannot_be_iterated_is_refused() -> None:
    with pytest.raises(ArgumentError, match="carry of floats"):
        scan(lambda x, u: (x + 1, x), jnp.asarray(1), jnp.zeros(3), Picard())
    with pytest.raises(ArgumentError, match="tolerance"):
        DEER(tolerance=0.0)
    with pytest.raises(ArgumentError, match="num_blocks"):
        GaussSeidelJacobi(num_blocks=0)
