"""Particle MCMC: chains started at an exact draw of the joint law stay in it, and SMC squared finds the evidence."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from scipy.special import logsumexp

from smcinfer.core.compose import Composed, compose, process
from smcinfer.core.conditional import Conditioned, Fixed
from smcinfer.core.settings import Settings
from smcinfer.ground.errors import ArgumentError, CheckpointError, Interrupted, TargetError
from smcinfer.kernels import HMC, RandomWalk
from smcinfer.run import watch
from smcinfer.run.runner import run
from smcinfer.state_space.parameters.gibbs import ParticleGibbs, particle_gibbs
from smcinfer.state_space.parameters.parametric import Parametric, filter_path, log_z, next_path, parametric
from smcinfer.state_space.parameters.pmmh import PMMH, pmmh
from smcinfer.state_space.parameters.smc2 import SMC2, smc2
from smcinfer.static.prior import Prior
from tests.signatures import unchecked
from tests.statistics import assert_ks, assert_mean, assert_mean_one_log

STEPS, Q, R = 4, 0.5, 0.7
LAW = dist.Normal(0.6, 0.5)
REPLICATES = 2000


def walk(a: Any, y: Any) -> Composed:
    """A scalar linear Gaussian model with unknown persistence."""
    base = process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(a * x, Q))
    return compose(base, lambda t, x: dist.Normal(x, R).log_prob(y[t]), num_steps=STEPS)


def joint_draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Persistence, path and data from their joint law."""
    a_key, x_key, y_key = jax.random.split(key, 3)
    a = LAW.sample(a_key)
    noise = jax.random.normal(x_key, (STEPS + 1,)) * jnp.array([1.0] + [Q] * STEPS)
    path = [noise[0]]
    for t in range(STEPS):
        path.append(a * path[-1] + noise[t + 1])
    path = jnp.stack(path)
    return a, path, path + R * jax.random.normal(y_key, (STEPS + 1,))


def target(y: jax.Array) -> Parametric:
    """The joint law of persistence and path given data that may be traced."""
    return Parametric(Prior.of(LAW), lambda a: walk(a, y), STEPS)


def assert_still_joint(a: Any, path: Any, y: Any) -> None:
    """Persistence, innovations and observation noise have the laws they were drawn from, and are uncorrelated."""
    a, path, y = (np.asarray(v, np.float64) for v in (a, path, y))
    innovations = (path[:, 1:] - a[:, None] * path[:, :-1]) / Q
    noise = (y - path) / R
    normal = scipy.stats.norm.cdf
    assert_ks(a, lambda v: scipy.stats.norm.cdf(v, 0.6, 0.5), num_comparisons=4)
    assert_ks(path[:, 0], normal, num_comparisons=4)
    assert_ks(innovations[:, 1], normal, num_comparisons=4)
    assert_ks(noise[:, 2], normal, num_comparisons=4)
    assert_mean(np.concatenate([noise**2 - 1, innovations**2 - 1, innovations[:, 1:] * noise[:, 1:4]], axis=1), 0.0)


def gibbs_chains(step: Any, num_steps: int = 3) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Chains of paths and persistence, each with data of its own, after a few steps from the joint law."""

    @jax.jit
    @jax.vmap
    def chain(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        start_key, move_key = jax.random.split(key)
        a, path, y = joint_draw(start_key)

        def once(carry: Any, key: jax.Array) -> Any:
            return step(key, carry, y), None

        (a, path), _ = jax.lax.scan(once, (a, path), jax.random.split(move_key, num_steps))
        return a, path, y

    return chain(jax.random.split(jax.random.key(7), REPLICATES))


def gibbs_step(ancestor_sampling: bool) -> Any:
    """A transition of the particle Gibbs sampler with four particles."""
    settings = Settings(4, "systematic", 0.9, history="full")
    kernel = RandomWalk()
    params = kernel.parameters(1)

    def step(key: jax.Array, carry: Any, y: jax.Array) -> Any:
        sampler = ParticleGibbs(target(y), kernel, settings, ancestor_sampling, 1)
        state, _ = sampler.step(key, type(sampler.begin(key, jnp.asarray(0)))(carry[0][None], carry[1]), params)
        return state.position[0], state.path

    return step


@pytest.mark.slow
@pytest.mark.parametrize("ancestor_sampling", [True, False])
def test_particle_gibbs_leaves_the_joint_law_invariant(ancestor_sampling: bool) -> None:
    assert_still_joint(*gibbs_chains(gibbs_step(ancestor_sampling)))


class Forgetful(Conditioned):
    """A mutant: draws whom the path descends from without looking at where the path goes next."""

    def reconnect(self, key, t, population, shared):  # noqa: ANN001, ANN201
        """By weight alone."""
        return jax.random.categorical(key, population.log_weights)


def test_ancestors_drawn_blindly_are_caught() -> None:
    settings = Settings(4, "systematic", 0.9, history="full")

    def step(key: jax.Array, carry: Any, y: jax.Array) -> Any:
        model = walk(carry[0], y)
        return carry[0], filter_path(key, Forgetful(model, Fixed(carry[1]), True, STEPS), settings)

    with pytest.raises(AssertionError):
        assert_still_joint(*gibbs_chains(step))


def marginal_chains(refresh: bool) -> jax.Array:
    """Persistence after PMMH steps from the joint law; the first estimate comes from a filter through the true path."""
    settings = Settings(3, "multinomial", 1.0, history="none")
    kernel = RandomWalk()
    params = kernel.parameters(1)

    @jax.jit
    @jax.vmap
    def chain(key: jax.Array) -> jax.Array:
        start_key, first_key, move_key = jax.random.split(key, 3)
        a, path, y = joint_draw(start_key)
        sampler = PMMH(target(y), kernel, settings)
        estimate = through(first_key, walk(a, y), path, settings)
        state = sampler.begin(key, jnp.asarray(0))
        state = type(state)(a[None], sampler.target.prior.log_density(a[None]), estimate)

        def once(state: Any, key: jax.Array) -> Any:
            again_key, step_key = jax.random.split(key)
            if refresh:
                value = sampler.target.log_likelihood(again_key, state.position, settings)
                state = type(state)(state.position, state.log_base, value)
            return sampler.step(step_key, state, params)[0], None

        return jax.lax.scan(once, state, jax.random.split(move_key, 8))[0].position[0]

    return chain(jax.random.split(jax.random.key(8), REPLICATES))


def through(key: jax.Array, model: Composed, path: jax.Array, settings: Settings) -> jax.Array:
    """log Z_hat of a filter forced through an exact path: its law is that of an accepted estimate."""
    from smcinfer.core import smc

    conditioned = Conditioned(model, Fixed(path), False, STEPS)
    state, _ = smc.init(key[None], conditioned, settings)
    state, _ = smc.scan(jnp.asarray(1), state, conditioned, settings, STEPS)
    return log_z(state)


@pytest.mark.slow
def test_pmmh_leaves_the_prior_invariant_over_data() -> None:
    assert_ks(marginal_chains(False), lambda v: scipy.stats.norm.cdf(v, 0.6, 0.5))


@pytest.mark.slow
def test_an_estimate_made_again_at_each_step_is_caught() -> None:
    with pytest.raises(AssertionError):
        assert_ks(marginal_chains(True), lambda v: scipy.stats.norm.cdf(v, 0.6, 0.5))


DATA = np.array([0.4, 1.3, 0.6, 1.1, 1.5])


def model(y: Any = DATA) -> Parametric:
    """Persistence unknown, data fixed."""
    return parametric({"a": LAW}, lambda theta: walk(theta["a"], jnp.asarray(y)))


def grid() -> tuple[np.ndarray, np.ndarray]:
    """A fine grid of the persistence, and the log of prior times exact likelihood times the cell."""
    points = np.linspace(-2.4, 3.6, 3001)
    size = STEPS + 1
    logs = []
    for a in points:
        lower = np.linalg.inv(np.eye(size) - a * np.eye(size, k=-1))
        covariance = lower @ np.diag([1.0] + [Q**2] * STEPS) @ lower.T + R**2 * np.eye(size)
        logs.append(scipy.stats.multivariate_normal(np.zeros(size), covariance).logpdf(DATA))
    prior = scipy.stats.norm(0.6, 0.5).logpdf(points)
    return points, np.array(logs) + prior + np.log(points[1] - points[0])


@pytest.mark.slow
def test_smc2_finds_evidence_and_posterior() -> None:
    points, logs = grid()
    exact = logsumexp(logs)
    found = smc2(
        jax.random.key(9), model(), num_particles=12, num_inner=6, num_runs=400, resample_below=1.0, progress=False
    )
    assert_mean_one_log(found.log_z_runs, exact)
    first = np.exp(found.log_z_runs - exact) * np.einsum("rn,rn->r", np.exp(found.log_weights), found.particles["a"])
    assert_mean(first, np.sum(np.exp(logs - exact) * points))
    assert found.history["moved"].any() and "SMC2" in str(found)


class SeesTwice(SMC2):
    """A mutant: moves at the data up to t, and then weighs y_t again."""

    def _filtered(self, key, position, last):  # noqa: ANN001, ANN202
        return super()._filtered(key, position, jnp.where(last > 0, last + 1, last))


@pytest.mark.slow
def test_moves_that_see_an_observation_twice_are_caught() -> None:
    settings = Settings(6, history="none")
    mutant = SeesTwice(model(), RandomWalk(), settings, 3, STEPS)
    log_z = run(jax.random.key(9), mutant, 12, num_runs=2000, resample_below=1.0).log_z
    with pytest.raises(AssertionError):
        assert_mean_one_log(log_z, logsumexp(grid()[1]))


@pytest.mark.slow
def test_particle_gibbs_and_pmmh_agree_with_the_grid(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    points, logs = grid()
    mean = np.sum(np.exp(logs - logsumexp(logs)) * points)
    sd = np.sqrt(np.sum(np.exp(logs - logsumexp(logs)) * (points - mean) ** 2))
    options: dict[str, Any] = {"num_chains": 32, "num_draws": 100, "num_warmup": 75, "progress": False}
    file = tmp_path / "chains.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(watch, "bar", ctrl_c)
        with pytest.raises(Interrupted, match="warm-up"):
            pmmh(jax.random.key(10), model(), num_particles=32, checkpoint=file, **options)
    marginal = pmmh(jax.random.key(10), model(), num_particles=32, checkpoint=file, **options)
    whole = pmmh(jax.random.key(10), model(), num_particles=32, **options)
    np.testing.assert_array_equal(marginal.draws["a"], whole.draws["a"])
    with pytest.raises(CheckpointError):
        pmmh(jax.random.key(11), model(), num_particles=32, checkpoint=file, **options)
    gibbs = particle_gibbs(jax.random.key(12), model(), num_particles=5, kernel=HMC(), **options)
    for chains in (marginal, gibbs):
        means = chains.draws["a"].mean(axis=1)
        assert_mean(means, mean)
        assert_mean(((chains.draws["a"] - mean) ** 2).mean(axis=1), sd**2)
        assert "R-hat" in str(chains) and "draws x 32 chains" in str(chains)
    assert "noise" in str(whole) and "path" in str(gibbs)
    assert gibbs.draws["x"].shape == (32, 100, STEPS + 1)
    assert set(gibbs.to_arviz()["posterior"].data_vars) == {"a", "x"}


@contextlib.contextmanager
def ctrl_c(enabled: bool, description: str) -> Iterator[Any]:
    """A progress bar that stands for a person who presses Ctrl-C in the warm-up."""
    del enabled, description
    yield lambda fraction, message: fraction > 0.2 and signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_paths_alone_by_particle_gibbs(precision: str) -> None:
    known = walk(0.8, jnp.asarray(DATA))
    found = particle_gibbs(
        jax.random.key(13), known, num_particles=4, num_chains=64, num_draws=100, num_warmup=20, progress=False
    )
    size = STEPS + 1
    lower = np.linalg.inv(np.eye(size) - 0.8 * np.eye(size, k=-1))
    prior = lower @ np.diag([1.0] + [Q**2] * STEPS) @ lower.T
    mean = prior @ np.linalg.solve(prior + R**2 * np.eye(size), DATA)
    assert found.draws["x"].dtype == precision
    assert_mean(found.draws["x"].mean(axis=1), mean)


@pytest.mark.slow
def test_a_path_that_is_not_kept_is_caught() -> None:
    settings = Settings(4, "systematic", 0.9, history="full")
    fresh = lambda key, carry, y: (carry[0], filter_path(key, walk(carry[0], y), settings))  # noqa: E731
    kept = lambda key, carry, y: (  # noqa: E731
        carry[0],
        next_path(key, walk(carry[0], y), carry[1], settings, ancestor_sampling=False),
    )
    assert_still_joint(*gibbs_chains(kept))
    with pytest.raises(AssertionError):
        assert_still_joint(*gibbs_chains(fresh))


def test_bad_arguments_are_refused() -> None:
    with unchecked(), pytest.raises(TargetError, match="build raised"):
        parametric({"a": LAW}, lambda theta: walk(theta["b"], jnp.asarray(DATA)))
    with unchecked(), pytest.raises(TargetError, match="composed"):
        parametric({"a": LAW}, lambda theta: theta["a"])
    with unchecked(), pytest.raises(TargetError, match="improper|discrete"):
        parametric(dist.Bernoulli(0.5), lambda a: walk(a, jnp.asarray(DATA)))
    known = walk(0.8, jnp.asarray(DATA))
    for bad, message in [
        ({"num_particles": 1}, "num_particles"),
        ({"num_moves": 0}, "num_moves"),
    ]:
        with unchecked(), pytest.raises(ArgumentError, match=message):
            particle_gibbs(jax.random.key(0), known, **bad)
    with unchecked(), pytest.raises(ArgumentError, match="num_draws"):
        particle_gibbs(jax.random.key(0), known, num_draws=0)
    for door in (pmmh, smc2):
        for kernel in (HMC(), "nuts", RandomWalk):
            with unchecked(), pytest.raises(ArgumentError, match="random walk"):
                door(jax.random.key(0), model(), kernel=kernel)  # pyright: ignore
        with unchecked(), pytest.raises(ArgumentError, match="num_particles is not a whole number"):
            door(jax.random.key(0), model(), num_particles="64")  # pyright: ignore
    with unchecked(), pytest.raises(ArgumentError, match="num_inner"):
        smc2(jax.random.key(0), model(), num_inner=2.5)  # pyright: ignore
    with unchecked(), pytest.raises(ArgumentError, match="led"):
        smc2(jax.random.key(0), model(), led="yes")  # pyright: ignore
    with unchecked(), pytest.raises(ArgumentError, match="history"):
        smc2(jax.random.key(0), model(), history="full")
