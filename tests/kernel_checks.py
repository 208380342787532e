"""What every move kernel must pass, native or bridged."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.kernels import Kernel
from tests.kernel_targets import QUICK_COMPILE, Target, move
from tests.statistics import assert_ks, assert_mean

EXPONENTS = (0.0, 0.3, 1.0)
NUM_LANES = 8192


def check_invariance(
    kernel: Kernel, potential: str, exponents: tuple[float, ...], variant: Any = None, *, reversible: bool = True
) -> None:
    """Start every lane at an exact draw, move, and compare with the exact law.

    After the last sweep every coordinate still follows its law. And where the kernel is reversible, the first
    sweep's start and end are exchangeable: no net flux, E[f(z) g(z')] = E[g(z) f(z')].
    """
    target = Target(potential)
    num_comparisons = len(exponents) * (target.dim + 1)
    for exponent in exponents:
        start = target.draw(3, exponent, NUM_LANES)
        states, info = move(kernel, target, exponent, start, 7, variant=variant)
        assert jnp.all((info.acceptance >= 0) & (info.acceptance <= 1)) and jnp.all(info.num_evals >= 1)
        moved = states.position
        assert moved.dtype == jnp.result_type(float)
        assert np.mean(np.any(np.diff(moved[:2], axis=0) != 0, axis=-1)) > 0.1, "expected lanes to move"
        for column in target.coordinates(moved[-1]).T:
            assert_ks(column, target.cdf(exponent), num_comparisons=num_comparisons)
        if reversible:
            flux = net_flux(target.coordinates(start), target.coordinates(moved[0]))
            assert_mean(flux, 0.0, num_comparisons=num_comparisons)


def net_flux(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """f(z) g(z') - g(z) f(z') of all pairs of a few features, one row a lane."""
    features = [np.tanh, lambda z: np.minimum(z**2, 4.0), lambda z: np.where(z > 0, np.exp(-z), 0.0)]
    f, g = (np.concatenate([feature(z) for feature in features], axis=1) for z in (before, after))
    flux = f[:, :, None] * g[:, None, :]
    return (flux - np.swapaxes(flux, 1, 2))[:, *np.triu_indices(f.shape[1], 1)]


def check_support(kernel: Kernel, variant: Any = None) -> None:
    """Lanes inside the support stay there and keep their law; lanes of weight zero, outside, may walk in."""
    target, num_outside = Target("NaN beyond one"), 192
    inside = target.draw(5, 1.0, NUM_LANES - num_outside)
    outside = target.unwhiten(np.full((num_outside, 2), 1.3))
    log_weights = np.where(np.arange(NUM_LANES) < len(inside), 0.0, -np.inf)
    states, info = move(kernel, target, 1.0, np.concatenate([inside, outside]), 13, log_weights, variant)
    z = target.coordinates(states.position)[:, : len(inside)]
    assert np.all(z <= 1.0 + 1e-5), "lanes left the support"
    assert jnp.all(jnp.isfinite(states.log_potential[:, : len(inside)]))
    assert not jnp.any(jnp.isnan(info.acceptance))
    assert jnp.mean(jnp.isfinite(states.log_potential[-1, len(inside) :])) > 0.3
    for column in z[-1].T:
        assert_ks(column, target.cdf(1.0), num_comparisons=2)


def check_tuning(kernel: Any) -> None:
    """From a step far too small or too large the acceptance settles at the kernel's target."""
    target, num = Target(dim=5), 1024
    positions = jnp.asarray(target.draw(2, 1.0, num), float)
    density = target.density(1.0)

    def sweep(carry: Any, key: Any) -> Any:
        states, params, acceptance = carry
        params = kernel.tune(params, states.position, jnp.zeros(num), acceptance)
        share_key, step_key = jax.random.split(key)
        keys = jax.random.split(step_key, num)
        step = jax.vmap(kernel.step, in_axes=(0, 0, None, None))
        states, info = step(keys, states, density, kernel.share(share_key, params))
        return (states, params, jnp.mean(info.acceptance)), jnp.mean(info.acceptance)

    def run(first: Any, keys: Any) -> Any:
        states = jax.vmap(kernel.init, in_axes=(0, None))(positions, density)
        params = eqx.tree_at(lambda p: p.step_size, kernel.parameters(5), first)
        return jax.lax.scan(sweep, (states, params, jnp.asarray(jnp.nan)), keys)[1]

    compiled = jax.jit(run, compiler_options=QUICK_COMPILE)
    for first in (0.02, 1.5):
        acceptance = compiled(jnp.asarray(first, float), jax.random.split(jax.random.key(6), 24))
        assert abs(float(acceptance[0]) - kernel.target_acceptance) > 0.1
        np.testing.assert_allclose(acceptance[-12:], kernel.target_acceptance, atol=0.08)
