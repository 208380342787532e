"""Conditional SMC: through an exact path the reciprocal of Z_hat is unbiased, for every scheme, twist and proposal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.core import resampling
from smcinfer.core.compose import compose
from smcinfer.core.conditional import condition, log_joint
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.run.runner import run
from tests import exact_models, exact_paths
from tests.statistics import assert_mean_one_log

RUNS = 3000
STEPS = 5


def hmm_log_z(kind: str, draw, *, scheme: str = "multinomial", below: float = 1.0, ancestors: bool = False):  # noqa: ANN001, ANN201
    """log Z_hat of runs of six particles forced through ``draw``."""
    model = condition(exact_models.hmm(kind), draw, ancestor_sampling=ancestors)
    return run(jax.random.key(1), model, 6, num_runs=RUNS, resampling=scheme, resample_below=below).log_z


@pytest.mark.slow
@pytest.mark.parametrize("scheme", resampling.SCHEMES)
def test_reciprocal_is_unbiased_in_every_scheme(scheme: str) -> None:
    log_z = hmm_log_z("bootstrap", exact_paths.draw_hmm_path, scheme=scheme)
    assert_mean_one_log(-log_z, -exact_models.hmm_log_z())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["auxiliary", "twisted"])
def test_reciprocal_is_unbiased_however_particles_move(kind: str) -> None:
    log_z = hmm_log_z(kind, exact_paths.draw_hmm_path, scheme="systematic", below=0.7, ancestors=True)
    assert_mean_one_log(-log_z, -exact_models.hmm_log_z())


@pytest.mark.slow
def test_reciprocal_is_unbiased_on_the_kalman_model(precision: str) -> None:
    model = condition(exact_paths.walk(STEPS, "guided"), exact_paths.draw_walk_path(STEPS), ancestor_sampling=True)
    log_z = run(jax.random.key(2), model, 6, num_runs=RUNS, resampling="systematic").log_z
    assert log_z.dtype == precision
    assert_mean_one_log(-log_z, -exact_paths.walk_log_z(STEPS))


def test_a_path_that_is_not_exact_is_caught() -> None:
    shifted = lambda key: (exact_paths.draw_hmm_path(key) + 1) % 3  # noqa: E731
    with pytest.raises(AssertionError):
        assert_mean_one_log(-hmm_log_z("guided", shifted), -exact_models.hmm_log_z())


@pytest.mark.slow
def test_the_path_stays_in_slot_zero() -> None:
    path = jnp.asarray([0, 1, 1, 2, 0, 2])
    model = condition(exact_models.hmm("bootstrap"), path)
    done = run(jax.random.key(3), model, 8, num_runs=3, resample_below=1.0, history="full")
    assert (done.history["particles"].state[:, :, 0] == np.asarray(path)).all()
    assert (done.history["ancestors"][:, :, 0] == 0).all()


def test_log_joint_of_every_path_sums_to_z() -> None:
    paths, _ = exact_paths.hmm_paths()
    model = exact_models.hmm("twisted")
    values = jax.jit(jax.vmap(lambda path: log_joint(model, path)))(jnp.asarray(paths))
    np.testing.assert_allclose(jax.nn.logsumexp(values), exact_models.hmm_log_z(), rtol=1e-5)


@pytest.mark.slow
def test_bad_paths_and_models_are_refused() -> None:
    model = exact_models.hmm("bootstrap")
    with pytest.raises(TargetError, match="path"):
        condition(model, jnp.zeros(5, jnp.int32))
    with pytest.raises(TargetError, match="log_weight"):
        condition(exact_models.hmm("weighted"), jnp.zeros(6, jnp.int32))
    with pytest.raises(ArgumentError, match="composed"):
        condition(condition(model, jnp.zeros(6, jnp.int32)), jnp.zeros(6, jnp.int32))
    folded = compose(FoldedChain(), exact_models.emission, num_steps=5)
    with pytest.raises(TargetError, match="ancestor sampling"):
        condition(folded, jnp.zeros(6, jnp.int32), ancestor_sampling=True)


class FoldedChain(exact_models.Chain):
    """A chain with an advance of its own."""

    def advance(self, t, state, x):  # noqa: ANN001, ANN201
        """x itself, all the same."""
        return x
