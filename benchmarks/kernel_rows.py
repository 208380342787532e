"""One row of the kernel benchmark: chains of one kernel on one target, and what they show."""

import time
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.mixing import iat
from smcinfer.kernels import Kernel
from smcinfer.models import logistic_regression
from smcinfer.models.hard_targets import HardTarget
from smcinfer.results.chains import Chains
from smcinfer.run.chains.run import mcmc
from smcinfer.static import laplace_reference

NUM_CHAINS = 64
Row = dict[str, float]


def on_hard_target(exact: HardTarget, kernel: Kernel, num_draws: int, num_warmup: int, pace: str = "auto") -> Row:
    """The figures of one kernel, its chains started at exact draws."""
    initial = jax.jit(exact.draw, static_argnums=1)(jax.random.key(1), NUM_CHAINS)
    options: dict[str, Any] = {"num_chains": NUM_CHAINS, "num_draws": num_draws, "num_warmup": num_warmup, "pace": pace}
    chains = mcmc(jax.random.key(2), exact.log_density, kernel, initial=initial, progress=False, **options)
    row = judge(exact, chains.draws["theta"], chains.evals_per_step, chains.settings["draw_seconds"])
    return row | pace_of(chains)


def pace_of(chains: Chains) -> Row:
    """What chains evaluated, waiting included, over what they needed; and the share of steps that reached a bound."""
    return {
        "run_over_mean_evals": chains.settings["ticks"] * NUM_CHAINS / chains.num_evals.sum(dtype=np.float64),
        "share_capped": float(chains.cap_reached.mean()),
    }


def efficiency(scalar: np.ndarray, evals: float, seconds: float) -> Row:
    """Cost and mixing of one scalar.

    Args:
        scalar: (chains, draws).
        evals: density evaluations a draw.
        seconds: run time of all draws.
    """
    time_constant = iat(np.asarray(scalar, np.float64))
    return {
        "num_draws": scalar.shape[1],
        "evals_per_step": evals,
        "iat": time_constant,
        "ess_per_1000_evals": 1000.0 / (evals * time_constant),
        "ess_per_second": scalar.size / time_constant / seconds,
    }


def judge(exact: HardTarget, draws: Any, evals: float, seconds: float) -> Row:
    """All figures of one run.

    Args:
        exact: the target.
        draws: (chains, draws, dim).
        evals: density evaluations a draw.
        seconds: run time of all draws.
    """
    scalar = np.asarray(jax.jit(jax.vmap(jax.vmap(exact.scalar)))(draws), np.float64)
    low, middle, high = exact.law.quantile(np.array([0.001, 0.5, 0.999]))
    found = np.quantile(scalar, [0.001, 0.999])
    row = efficiency(scalar, evals, seconds) | {
        "q001_error": (found[0] - low) / (middle - low),
        "q999_error": (found[1] - high) / (high - middle),
    }
    if exact.modes is None:
        return row
    # Mirror images share a number: to turn by half a circle keeps every radius, and is no feat.
    pairs = jax.jit(jax.vmap(jax.vmap(lambda x: jnp.minimum(exact.mode(x), exact.mode(-x)))))(draws)
    modes = jax.jit(jax.vmap(jax.vmap(exact.mode)))(draws)
    return row | {
        "evals_per_mode_jump": evals_per_jump(pairs, evals),
        "evals_per_mode_jump_counting_mirror_images": evals_per_jump(modes, evals),
    }


def evals_per_jump(labels: Any, evals: float) -> float:
    """Evaluations for each change of label, (chains, draws); with no change, as if there had been one."""
    jumps = np.count_nonzero(np.diff(np.asarray(labels), axis=1))
    return evals * labels[:, 1:].size / max(jumps, 1)


def blackjax_elliptical(exact: HardTarget, num_draws: int) -> Row:
    """Blackjax's elliptical slice sampler, the target written as a density over a standard normal."""

    def log_likelihood(x: jax.Array) -> jax.Array:
        return exact.log_density(x) + 0.5 * jnp.sum(x**2)

    sampler: Any = blackjax.elliptical_slice(log_likelihood, mean=jnp.zeros(exact.dim), cov=jnp.ones(exact.dim))

    @jax.jit
    def loop(key: jax.Array, initial: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(states: Any, key: jax.Array) -> tuple[Any, Any]:
            states, info = jax.vmap(sampler.step)(jax.random.split(key, NUM_CHAINS), states)
            return states, (states.position, info.subiter)

        return jax.lax.scan(step, jax.vmap(sampler.init)(initial), jax.random.split(key, num_draws))[1]

    initial = exact.draw(jax.random.key(1), NUM_CHAINS)
    compiled = loop.lower(jax.random.key(3), initial).compile()
    started = time.perf_counter()
    positions, evals = jax.block_until_ready(compiled(jax.random.key(3), initial))
    seconds = time.perf_counter() - started
    return judge(exact, jnp.swapaxes(positions, 0, 1), float(np.mean(evals)), seconds)


def on_breast_cancer(kernel: Kernel, num_draws: int, num_warmup: int) -> Row:
    """The logistic regression: the slowest coefficient's figures, and the IAT of the log likelihood."""
    target = logistic_regression.breast_cancer()
    # A vague prior is far away: chains start from a Gaussian of the mode's curvature.
    wide = laplace_reference(target.log_prob, target.dim)
    initial = wide.mean + (wide.sample(jax.random.key(5), (NUM_CHAINS,)) - wide.mean) / 3.0
    options: dict[str, Any] = {"num_chains": NUM_CHAINS, "num_draws": num_draws, "num_warmup": num_warmup}
    chains = mcmc(jax.random.key(4), target, kernel, initial=initial, progress=False, **options)
    beta = np.asarray(chains.draws["beta"], np.float64)
    slowest = max(range(beta.shape[2]), key=lambda index: iat(beta[:, :, index]))
    likelihood = np.asarray(jax.jit(lambda b: jax.lax.map(jax.vmap(target.log_potential), b))(chains.draws["beta"]))
    row = efficiency(beta[:, :, slowest], chains.evals_per_step, chains.settings["draw_seconds"])
    return row | {"iat_log_likelihood": iat(likelihood)} | pace_of(chains)
