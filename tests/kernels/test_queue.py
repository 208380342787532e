"""Transitions in a queue of few lanes end where they would have ended in lockstep, and cost little more than they need."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.core.feynman_kac import RUNS
from smcinfer.ground.keys import small
from smcinfer.ground.slices import sliced
from smcinfer.kernels import EllipticalSlice, GibbsianPolarSlice, HitAndRun
from smcinfer.kernels.base import TemperedDensity
from smcinfer.kernels.queue import num_lanes, queued
from smcinfer.kernels.ticks import TickKernel

SIZE, LANES, DIM = 300, 16, 3


def heavy() -> TemperedDensity:
    """A target of tails that make some transitions long."""
    return TemperedDensity(
        lambda x: -0.5 * jnp.sum(x**2), lambda x: -2.0 * jnp.log1p(jnp.sum((x - 1.0) ** 2)), jnp.ones(())
    )


@pytest.mark.dealt
@pytest.mark.parametrize(
    ("kernel", "double"),
    [(GibbsianPolarSlice(), False), (HitAndRun(), True), (EllipticalSlice(reference="cloud"), False)],
)
def test_a_queue_ends_where_lockstep_does(kernel: TickKernel, double: bool) -> None:
    with jax.enable_x64(double):
        compared(kernel)


def compared(kernel: TickKernel) -> None:
    """Both ways, of two runs mapped over."""
    density = heavy()
    positions = jax.random.normal(jax.random.key(0), (2, SIZE, DIM)) * jnp.asarray([0.1, 1.0, 5.0])
    params = kernel.tune(kernel.parameters(DIM), positions[0], jnp.zeros(SIZE), jnp.asarray(jnp.nan))
    keys = jax.random.split(small(jax.random.key(1)), (2, SIZE))
    states = jax.vmap(jax.vmap(lambda x: kernel.init(x, density)))(positions)
    step = jax.vmap(lambda key, state: kernel.step(key, state, density, params))
    in_step = jax.jit(jax.vmap(step))(keys, states)
    # Two runs, as the driver maps over them: one loop serves both.
    in_queue = jax.vmap(lambda *one: queued(kernel, *one, density, params, LANES), axis_name=RUNS)
    *ended, ticks = jax.jit(in_queue)(keys, states)
    np.testing.assert_array_equal(ended[1].num_evals, in_step[1].num_evals)
    np.testing.assert_array_equal(ended[1].cap_reached, in_step[1].cap_reached)
    np.testing.assert_allclose(ended[0].position, in_step[0].position, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ended[0].log_potential, in_step[0].log_potential, rtol=1e-3, atol=1e-3)
    needed = np.asarray(ended[1].num_evals).sum(axis=1)
    assert np.all(LANES * np.asarray(ticks) >= needed)
    assert np.all(LANES * np.asarray(ticks) <= 2 * needed)


def test_few_particles_and_slices_of_them_bound_the_lanes() -> None:
    assert [num_lanes(size) for size in (1, 64, 100, 4096)] == [1, 64, 64, 256]
    with sliced(32):
        assert num_lanes(4096) == 32
