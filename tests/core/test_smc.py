"""The driver against exact normalisers, in every scheme, both loops and both precisions."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.core import resampling, smc
from smcinfer.core.feynman_kac import FeynmanKac, Mutation
from smcinfer.core.settings import HISTORY_LEVELS, Settings
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError
from smcinfer.run import runner
from smcinfer.run.runner import run
from tests import exact_models
from tests.statistics import assert_mean, assert_mean_one_log

RUNS = 2000


@pytest.mark.dealt
@pytest.mark.parametrize("scheme", resampling.SCHEMES)
def test_z_hat_is_unbiased_in_every_scheme(scheme: str, precision: str) -> None:
    done = run(jax.random.key(1), exact_models.hmm("bootstrap"), 8, num_runs=RUNS, resampling=scheme)
    assert done.log_z.dtype == precision
    assert_mean_one_log(done.log_z, exact_models.hmm_log_z())


@pytest.mark.dealt
@pytest.mark.parametrize("kind", exact_models.KINDS)
@pytest.mark.parametrize("resample_below", [0.0, 0.5, 1.0])
def test_z_hat_is_unbiased_however_particles_are_twisted_and_moved(kind: str, resample_below: float) -> None:
    done = run(jax.random.key(2), exact_models.hmm(kind), 8, num_runs=RUNS, resample_below=resample_below)
    assert_mean_one_log(done.log_z, exact_models.hmm_log_z())


@pytest.mark.slow
def test_weighted_particles_estimate_the_target(precision: str) -> None:
    """E[Z_hat sum_i W_i f(x_i)] = gamma(f): the filter's unnormalised marginal."""
    done = run(jax.random.key(3), exact_models.hmm("twisted"), 8, num_runs=RUNS)
    alpha = exact_models.INITIAL * exact_models.EMISSION[:, exact_models.OBSERVATIONS[0]]
    for observation in exact_models.OBSERVATIONS[1:]:
        alpha = (alpha @ exact_models.TRANSITION) * exact_models.EMISSION[:, observation]
    one_hot = jax.nn.one_hot(done.particles.state, 3)
    estimates = jnp.exp(done.log_z)[:, None] * jnp.einsum("rn,rnk->rk", jnp.exp(done.log_weights), one_hot)
    assert_mean(estimates, alpha)


@pytest.mark.slow
def test_exact_twist_has_no_variance() -> None:
    done = run(jax.random.key(4), exact_models.hmm("exact_twist"), 16, num_runs=8)
    # Only the first step is drawn from the prior; all that follows is known.
    assert float(jnp.std(done.history["log_z_increment"][:, 2:].sum(1))) < 1e-5


@pytest.mark.slow
def test_twist_in_weights_alone_telescopes_without_resampling() -> None:
    plain = run(jax.random.key(5), exact_models.hmm("bootstrap"), 16, num_runs=4, resample_below=0.0)
    twisted = run(jax.random.key(5), exact_models.hmm("twisted_weights"), 16, num_runs=4, resample_below=0.0)
    np.testing.assert_allclose(plain.log_z, twisted.log_z, rtol=1e-5)


@pytest.mark.slow
def test_linear_gaussian_against_kalman(precision: str) -> None:
    model, log_z = exact_models.linear_gaussian()
    done = run(jax.random.key(6), model, 64, num_runs=1000)
    assert_mean_one_log(done.log_z, log_z)


class DropsWeights(FeynmanKac):
    """A mutant: forgets the weights of a step that does not resample."""

    inner: FeynmanKac
    num_steps: int = eqx.field(static=True)

    def init(self, key, num_particles):  # noqa: ANN001, ANN201
        """Weights are set to zero in the log at the start."""
        mutation = self.inner.init(key, num_particles)
        return dataclasses.replace(mutation, log_weights=jnp.zeros_like(mutation.log_weights))

    def mutate(self, key, t, particles, shared, resampled):  # noqa: ANN001, ANN201
        """As the model."""
        return self.inner.mutate(key, t, particles, shared, resampled)


def test_a_driver_that_loses_weights_is_caught() -> None:
    model = exact_models.hmm("bootstrap")
    done = run(jax.random.key(7), DropsWeights(model, model.num_steps), 8, num_runs=RUNS)
    with pytest.raises(AssertionError):
        assert_mean_one_log(done.log_z, exact_models.hmm_log_z())


@pytest.mark.slow
def test_mean_of_log_z_is_not_what_is_unbiased() -> None:
    done = run(jax.random.key(8), exact_models.hmm("bootstrap"), 4, num_runs=RUNS)
    with pytest.raises(AssertionError):
        assert_mean(done.log_z, exact_models.hmm_log_z())


class OnHost(FeynmanKac):
    """A random walk computed in numpy: nothing of it can be traced."""

    num_steps: int = eqx.field(static=True, default=4)

    @property
    def on_host(self) -> bool:
        """Always."""
        return True

    def init(self, key, num_particles):  # noqa: ANN001, ANN201
        """Start at zero."""
        return Mutation(jnp.zeros(num_particles), jnp.zeros(num_particles))

    def mutate(self, key, t, particles, shared, resampled):  # noqa: ANN001, ANN201
        """A step of plus or minus one; weight e^x."""
        seed = int(jax.random.randint(key, (), 0, 2**30))
        x = np.asarray(particles) + np.random.default_rng(seed).choice([-1.0, 1.0], len(particles))
        return Mutation(jnp.asarray(x, jnp.float32), jnp.asarray(0.3 * x, jnp.float32))


@pytest.mark.slow
def test_host_loop_is_unbiased() -> None:
    """sum over walks of exp(.3 sum_t x_t): steps at t count for all later weights."""
    log_z = sum(np.log(np.cosh(0.3 * (4 - t))) for t in range(4))
    done = run(jax.random.key(9), OnHost(), 64, num_runs=40)
    assert_mean_one_log(done.log_z, log_z)


def test_host_loop_and_scan_are_the_same_step() -> None:
    model, _ = exact_models.linear_gaussian(6)
    settings = Settings(32, history="full")
    keys = jax.random.split(jax.random.key(10), 3)
    state, _ = smc.init(keys, model, settings)
    scanned, _ = smc.scan(jnp.asarray(1), state, model, settings, 6)
    for t in range(1, 7):
        state, _ = smc.step(jnp.asarray(t), state, model, settings)
    np.testing.assert_allclose(state.log_z, scanned.log_z, rtol=1e-5)
    np.testing.assert_allclose(state.population.particles.state, scanned.population.particles.state, rtol=1e-4)


@pytest.mark.slow
def test_no_noise_is_used_twice() -> None:
    """The draws of all steps and runs share no value, and run r of R is the same for every R."""
    model, _ = exact_models.linear_gaussian(8)
    done = run(jax.random.key(11), model, 128, num_runs=4, resample_below=0.0, history="full")
    states = done.history["particles"].state
    noise = np.concatenate([states[:, :1], states[:, 1:] - np.float32(0.9) * states[:, :-1]], axis=1)
    rounded = np.round(noise / np.array([1.0] + [0.4] * 8)[None, :, None], 6).ravel()
    # Two of 4608 draws may fall on the same millionth by chance; a reused key would repeat hundreds.
    assert rounded.size - np.unique(rounded).size < 30
    again = run(jax.random.key(11), model, 128, num_runs=4, resample_below=0.0)
    np.testing.assert_array_equal(done.log_z, again.log_z)
    other = run(jax.random.key(12), model, 128, num_runs=4, resample_below=0.0)
    assert not np.isin(np.asarray(other.log_z), np.asarray(done.log_z)).any()


@pytest.mark.dealt
@pytest.mark.parametrize("level", HISTORY_LEVELS)
def test_history_levels(level: str) -> None:
    model, _ = exact_models.linear_gaussian(5)
    done = run(jax.random.key(13), model, 16, num_runs=2, history=level)
    scalars = {"ess", "log_z_increment", "resampled"}
    expected = {
        "none": set(),
        "scalars": scalars,
        "ancestors": scalars | {"ancestors"},
        "full": scalars | {"ancestors", "particles", "log_weights"},
    }[level]
    assert set(done.history) == expected
    if "ess" in expected:
        assert done.history["ess"].shape == (2, 6)
        np.testing.assert_allclose(done.history["log_z_increment"].sum(1), done.log_z, rtol=1e-5)
    if "ancestors" in expected:
        assert done.history["ancestors"].shape == (2, 6, 16)
        assert (done.history["ancestors"][:, 0] == np.arange(16)).all()
    if level == "full":
        assert done.history["particles"].state.shape == (2, 6, 16)


@pytest.mark.slow
def test_chunks_do_not_change_the_numbers() -> None:
    model, _ = exact_models.linear_gaussian(12)
    whole = run(jax.random.key(14), model, 32, num_runs=2)
    parts = run(jax.random.key(14), model, 32, num_runs=2, chunk_steps=5)
    np.testing.assert_allclose(whole.log_z, parts.log_z, rtol=1e-6)
    assert whole.history["ess"].shape == parts.history["ess"].shape == (2, 13)


def test_old_style_keys_and_bad_keys() -> None:
    model, _ = exact_models.linear_gaussian(2)
    np.testing.assert_array_equal(run(jax.random.PRNGKey(3), model, 8).log_z, run(jax.random.key(3), model, 8).log_z)
    for bad in (3, np.float32(1.0), jax.random.split(jax.random.key(0), 2)):
        with pytest.raises(ArgumentError, match="key"):
            runner.as_typed_key(bad)


def test_all_weights_zero_is_a_status_and_not_a_nan() -> None:
    model, _ = exact_models.linear_gaussian(4)
    dead = eqx.tree_at(lambda m: m.potential, model, lambda t, x: jnp.where(t == 2, -jnp.inf, 0.0 * x))
    done = run(jax.random.key(15), dead, 16, num_runs=2)
    assert (np.asarray(done.log_z) == -np.inf).all()
    assert all(Status(int(bits)) & Status.ALL_WEIGHTS_ZERO for bits in done.status)
    assert not np.isnan(np.asarray(done.log_weights)).any()


def test_nan_potential_is_a_status_and_weighs_zero() -> None:
    model, log_z = exact_models.linear_gaussian(4)
    nan = eqx.tree_at(lambda m: m.potential, model, lambda t, x: jnp.where(x > 0, jnp.nan, 0.0))
    done = run(jax.random.key(16), nan, 64, num_runs=2)
    assert np.isfinite(np.asarray(done.log_z)).all()
    assert all(Status(int(bits)) & Status.NON_FINITE_POTENTIAL for bits in done.status)
    assert (np.asarray(done.particles.state)[np.asarray(done.log_weights) > -np.inf] <= 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles"),
        ({"num_particles": 8, "num_runs": 0}, "num_runs"),
        ({"num_particles": 8, "resample_below": 1.5}, "resample_below"),
        ({"num_particles": 8, "history": "everything"}, "history"),
        ({"num_particles": 8, "resampling": "roulette"}, "roulette|scheme"),
    ],
)
def test_bad_settings_are_refused_before_any_work(arguments: dict, message: str) -> None:
    model, _ = exact_models.linear_gaussian(2)
    with pytest.raises(ArgumentError, match=message):
        run(jax.random.key(0), model, **arguments)
