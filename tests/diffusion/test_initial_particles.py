"""Initial particles on a Gaussian model, where the noise that leads to a reward and log Z are known exactly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from smcinfer import diffusion
from smcinfer.diffusion import initial
from smcinfer.diffusion.initial.chains import Chain
from smcinfer.ground.errors import ArgumentError
from smcinfer.run.runner import run
from tests.statistics import assert_ks, assert_mean_one_log

DIM, STEPS, MEAN, STD, SLOPE = 2, 3, 0.5, 0.8, 1.4
SCHEDULE = diffusion.Cosine(end=0.8)


def gaussian() -> diffusion.Model:
    """The exact denoiser of N(MEAN, STD^2)."""

    def denoise(x, time):
        alpha, sigma = SCHEDULE.alpha(time), SCHEDULE.sigma(time)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return MEAN + gain * (x - alpha * MEAN)

    return diffusion.diffusion_model(denoise, SCHEDULE, (DIM,), parameterisation="x0")


def target() -> diffusion.Alignment:
    made = diffusion.alignment(gaussian(), lambda x: SLOPE * jnp.sum(x), num_steps=STEPS)
    assert isinstance(made, diffusion.Alignment)
    return made


def log_z(aligned: diffusion.Alignment) -> float:
    """Exact: the chain is linear, so the sample is Gaussian and the reward's exponential has a closed mean."""
    process = aligned.watched
    mean, variance = 0.0, float(process.start_std) ** 2

    def moments(t: int, x: float) -> tuple[float, float]:
        point = jnp.full((DIM,), x)
        state = process.advance(jnp.asarray(t - 1), None, point)
        at, spread = process.moments(jnp.asarray(t), state)
        return float(at[0]), float(spread)

    for t in range(1, STEPS + 1):
        (zero, spread), (one, _) = moments(t, 0.0), moments(t, 1.0)
        mean, variance = zero + (one - zero) * mean, (one - zero) ** 2 * variance + spread
    return DIM * (SLOPE * mean + 0.5 * SLOPE**2 * variance)


def tilted_noise(aligned: diffusion.Alignment) -> tuple[float, float]:
    """Mean and standard deviation of each coordinate of the noise tilted by the foreseen reward, which is linear."""
    std = float(aligned.watched.start_std)
    look = initial.Foreseen(aligned.watched)
    slope = float(look(jnp.array([1.0, 0.0])) - look(jnp.zeros(2)))
    return slope * std**2, std


def estimates(aligned: diffusion.Alignment, seed: int = 0) -> np.ndarray:
    return np.asarray(run(jax.random.key(seed), aligned, 8, num_runs=1500).log_z)


KEY = jax.random.key(11)
WEIGHTED = {
    "chains": lambda path: initial.chains(KEY, path, num_steps=2, num_tries=3, share=0.7, pooled=False),
    "pooled chains": lambda path: initial.chains(KEY, path, "mala", num_steps=2, num_tries=2),
    "selected": lambda path: initial.selected(path, 4, share=0.5),
    "annealed": lambda path: initial.annealed_chains(KEY, path, "pcn", num_steps=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("start", WEIGHTED)
def test_a_weighted_start_keeps_log_z(start: str) -> None:
    path = target()
    assert_mean_one_log(estimates(WEIGHTED[start](path)), log_z(path))


@pytest.mark.slow
def test_an_unweighted_search_does_not() -> None:
    path = target()
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean_one_log(estimates(initial.best_of(path, 4)), log_z(path))


@pytest.mark.slow
def test_the_reward_twice_is_seen() -> None:
    """The mutation: the tilt of the start is not taken back, so that the reward counts at the start and again."""
    path = target()
    start = initial.chains(KEY, path, num_steps=2, num_tries=3, step_size=0.8, pooled=False)

    class Twice(Chain):
        def __call__(self, key):  # noqa: ANN001, ANN204
            x, log_w = super().__call__(key)
            return x, log_w + self.share * initial.Foreseen(self.process)(x)

    honest = start.proposal.start
    twice = Twice(*(getattr(honest, field) for field in Chain.__dataclass_fields__))
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean_one_log(estimates(eqx.tree_at(lambda tree: tree.proposal.start, start, twice)), log_z(path))


def ends(kernel: str, step_size: float | None) -> tuple[np.ndarray, scipy.stats.rv_continuous]:
    """First coordinates of many long chains from plain noise, and what they should follow."""
    path = target()
    start = initial.chains(KEY, path, kernel, num_steps=60, step_size=step_size).proposal.start
    x, _ = jax.jit(jax.vmap(start))(jax.random.split(jax.random.key(3), 3000))
    mean, std = tilted_noise(path)
    return np.asarray(x)[:, 0], scipy.stats.norm(mean, std)


@pytest.mark.dealt
@pytest.mark.parametrize("kernel", ["pcnl", "pcn", "mala"])
def test_chains_reach_the_tilted_noise(kernel: str) -> None:
    draws, law = ends(kernel, None)
    assert_ks(draws, law.cdf, num_comparisons=3)


def test_unadjusted_chains_do_not() -> None:
    draws, law = ends("ula", 1.4)
    with pytest.raises(AssertionError, match="do not follow"):
        assert_ks(draws, law.cdf)


@pytest.mark.slow
def test_pooled_and_converged_chains_weigh_alike() -> None:
    for how in ({"pooled": True}, {"pooled": False, "converged": True}):
        start = initial.chains(KEY, target(), num_steps=2, step_size=0.5, **how)
        x, log_w = start.draw_initial(jax.random.key(0), 16)
        weights = start.start(x, log_w).log_weights
        np.testing.assert_allclose(weights, weights[0], atol=1e-4)


def test_evaluations_are_counted() -> None:
    path = target()
    for start, count in (
        (initial.best_of(path, 5), 5),
        (initial.chains(KEY, path, num_steps=3, num_tries=4, step_size=0.5), 7),
        (initial.annealed_chains(KEY, path, num_steps=6, step_size=0.5), 7),
    ):
        assert start.proposal.start.num_evaluations == count


def test_bad_input() -> None:
    path = target()
    with pytest.raises(ArgumentError, match="look-ahead"):
        initial.best_of(diffusion.alignment(gaussian(), jnp.sum, num_steps=2, look="none"), 3)
    with pytest.raises(ArgumentError, match="initial draws"):
        initial.chains(KEY, diffusion.alignment(gaussian(), jnp.sum, num_steps=2, strength="ess"))
    with pytest.raises(ArgumentError, match="unknown kernel"):
        initial.chains(KEY, path, "langevin")
    with pytest.raises(ArgumentError, match="share"):
        initial.selected(path, 3, share=0.0)
    with pytest.raises(ArgumentError, match="steps"):
        initial.chains(KEY, path, num_steps=0)
    with pytest.raises(ArgumentError, match="num_tries"):
        initial.best_of(path, 0)
    with pytest.raises(ArgumentError, match="unadjusted"):
        initial.annealed_chains(KEY, path, "ula")
    with pytest.raises(ArgumentError, match="step_size"):
        initial.chains(KEY, path, step_size=-1.0)
