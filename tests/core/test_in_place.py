"""Resampling in place: the same children in the same line, and only the rows of the dead are written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.core import resampling, smc
from smcinfer.core.resampling import in_place
from smcinfer.core.settings import Settings
from smcinfer.run.runner import run
from tests import exact_models
from tests.statistics import assert_mean_one_log


@pytest.mark.dealt
@pytest.mark.parametrize("scheme", resampling.SCHEMES)
def test_children_stand_in_the_line_that_plain_resampling_makes(scheme):
    n = 37
    line_key, weight_key, draw_key = jax.random.split(jax.random.key(1), 3)
    line = jax.random.permutation(line_key, n).astype(jnp.int32)
    log_weights = jax.nn.log_softmax(2.0 * jax.random.normal(weight_key, (n,)))
    particles = jnp.arange(100.0, 100.0 + n)
    ancestors = resampling.by_name(scheme)(draw_key, log_weights[line], n)
    seats, parents = in_place.seat(line, ancestors.astype(jnp.int32))
    moved = particles[parents]
    np.testing.assert_array_equal(moved[seats], particles[line][ancestors])
    np.testing.assert_array_equal(np.sort(seats), np.arange(n))
    np.testing.assert_array_equal(parents[parents], parents)
    stayed = np.asarray(parents) == np.arange(n)
    np.testing.assert_array_equal(np.flatnonzero(stayed), np.unique(np.asarray(line)[np.asarray(ancestors)]))


def test_rows_follow_their_parents_in_every_run(precision):
    parents = jnp.array([[0, 0, 2, 2], [3, 1, 2, 3]], jnp.int32)
    small = jnp.arange(8).reshape(2, 4)
    large = jnp.arange(2.0 * 4 * 128).reshape(2, 4, 128)
    got = in_place.follow({"small": small, "large": large}, parents)
    for number in range(2):
        np.testing.assert_array_equal(got["small"][number], small[number][parents[number]])
        np.testing.assert_array_equal(got["large"][number], large[number][parents[number]])


def test_the_loop_over_rows_has_the_gradient_of_a_gather():
    parents = jnp.array([[0, 0, 2, 2]], jnp.int32)
    large = jax.random.normal(jax.random.key(0), (1, 4, 128))
    weights = jax.random.normal(jax.random.key(1), (1, 4, 128))

    def value(leaf, follow):
        return jnp.sum(weights * follow(leaf) ** 2)

    ours = jax.grad(lambda leaf: value(leaf, lambda leaf: in_place.follow(leaf, parents)))(large)
    plain = jax.grad(lambda leaf: value(leaf, lambda leaf: leaf[:, parents[0]]))(large)
    np.testing.assert_allclose(ours, plain, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("islands", [1, 2])
def test_z_hat_is_unbiased_when_particles_are_moved_in_place(mistaken, islands, precision):
    mistaken.setattr(in_place, "LARGE", 0)
    mistaken.setattr(in_place, "SMALL_LEAF", 0)
    if jax.default_backend() != "cpu":
        pytest.skip("particles are moved in place on a CPU")
    model = exact_models.hmm("bootstrap")
    settings = Settings(10, islands=islands, resample_below=1.0)
    state, _ = jax.jit(lambda keys: smc.init(keys, model, settings))(jax.random.split(jax.random.key(7), 2))
    assert state.line is not None
    done = run(
        jax.random.key(8), model, 10, num_runs=2000, resample_below=1.0, islands=islands, history="ancestors", lag=3
    )
    assert_mean_one_log(done.log_z, exact_models.hmm_log_z())
    # A seat that is copied from keeps its particle: nothing is moved through a third seat.
    parents = np.asarray(done.history["ancestors"])
    np.testing.assert_array_equal(np.take_along_axis(parents, parents, axis=-1), parents)
    assert (parents != np.arange(10)).any()
