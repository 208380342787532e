"""How good a twist is, by the bounds on log Z that it gives: the measure that learning is validated by."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.core import smc
from smcinfer.core.compose import Composed
from smcinfer.core.conditional import condition
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.settings import Settings
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.ground.programs import compiled
from smcinfer.twists.family import Family
from smcinfer.twists.learned import LearnedTwist, attach


def log_z_runs(
    key: KeyArray, model: FeynmanKac, num_particles: int, num_runs: int, resample_below: float = 0.5
) -> Float[Array, " num_runs"]:
    """log Z_hat of independent runs, to be called inside jit.

    Args:
        key: one random key.
        model: what is run, with a fixed number of steps.
        num_particles: particles of each run.
        num_runs: independent runs.
        resample_below: resample where the ESS falls below this fraction of the particles.

    Returns:
        Float["num_runs"], nats.
    """
    settings = Settings(num_particles, resample_below=resample_below, history="none")
    state, _ = smc.init(jax.random.split(key, num_runs), model, settings)
    state, _ = smc.scan(jnp.ones((), jnp.int32), state, model, settings, model.num_steps)
    return state.log_z + state.log_z_error


@compiled
def bounds_over(
    key: KeyArray,
    family: Family,
    twist: LearnedTwist | None,
    num_particles: int,
    num_contexts: int,
    resample_below: float = 0.5,
) -> tuple[Float[Array, " num_contexts"], Float[Array, " num_contexts"]]:
    """Lower and upper bound on log Z of each of several contexts, one run for each end, nats.

    The same key draws the same contexts, whatever the twist and the number of particles.

    Args:
        key: of contexts and runs.
        family: the targets.
        twist: learned for the family, or ``None`` for the base law.
        num_particles: of each run.
        num_contexts: how many.
        resample_below: of the runs.
    """

    def one(key: KeyArray) -> tuple[Scalar, Scalar]:
        draw_key, lower_key, upper_key = jax.random.split(key, 3)
        context, path = family.simulate(draw_key)
        model = attach(family.build(context), None if twist is None else twist.given(context))
        lower = log_z_runs(lower_key, model, num_particles, 1, resample_below)[0]
        return lower, log_z_runs(upper_key, condition(model, path), num_particles, 1, resample_below)[0]

    batch = min(max(1, 256 // num_particles), num_contexts)
    return jax.lax.map(one, jax.random.split(key, num_contexts), batch_size=batch)


@compiled
def shortfall(
    key: KeyArray,
    model: Composed,
    twist: LearnedTwist,
    exact_draw: Callable[[Any], Any] | None,
    num_particles: int,
    num_runs: int,
    resample_below: float = 0.5,
) -> Scalar:
    """How much a twist leaves to be gained on one target: the gap between its two bounds on log Z, nats. Lower is better.

    Args:
        key: one random key.
        model: the target.
        twist: what is judged; it brings the proposal that it induces.
        exact_draw: ``key -> path``, an exact draw of the target; where ``None`` the result is minus the lower bound, as there
            is no upper one.
        num_particles: particles of each run.
        num_runs: runs whose log Z_hat are averaged, for each bound.
        resample_below: resample where the ESS falls below this fraction of the particles.
    """
    lower_key, upper_key = jax.random.split(key)
    twisted = attach(model, twist)
    lower = jnp.mean(log_z_runs(lower_key, twisted, num_particles, num_runs, resample_below))
    if exact_draw is None:
        return -lower
    conditioned = condition(twisted, exact_draw)
    return jnp.mean(log_z_runs(upper_key, conditioned, num_particles, num_runs, resample_below)) - lower
