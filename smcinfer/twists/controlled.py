r"""Controlled sequential Monte Carlo: a quadratic twist by regressions, from the last step to the first.

.. math:: (F_t, b_t, c_t) = \arg\min \sum_i \big(\log \phi_t(x_t^i) + \log C_{t+1}(x_t^i) - \log \chi_t(x_t^i)\big)^2

on the particles of a run with the twist so far; then run again with the new one. For linear Gaussian models one round is exact;
for others a few are enough, as each fits where the last one led.

Source: Heng, Bishop, Deligiannidis & Doucet (2020), algorithms 2 and 3.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed
from smcinfer.ground.arrays import Array, Float, KeyArray
from smcinfer.ground.programs import compiled
from smcinfer.twists.learned import attach
from smcinfer.twists.objectives.consistency import FLOOR
from smcinfer.twists.paths import Paths, watch
from smcinfer.twists.quadratic import QuadraticTwist
from smcinfer.twists.units import spread

RIDGE = 1e-6
"""Of the normal equations, in units where every regressor is about one."""


@compiled
def controlled(
    key: KeyArray,
    model: Composed,
    twist: QuadraticTwist,
    num_particles: int,
    num_rounds: int,
    resample_below: float = 0.5,
) -> tuple[QuadraticTwist, Float[Array, " num_rounds"]]:
    """Learn a quadratic twist by rounds of a run and its backward regressions.

    Args:
        key: of the runs.
        model: with Gaussian transitions.
        twist: where to start.
        num_particles, resample_below: of each run.
        num_rounds: how many.

    Returns:
        The twist, and log Z_hat of the run that each round learned from, nats.
    """

    def once(twist: QuadraticTwist, key: KeyArray) -> tuple[QuadraticTwist, Array]:
        cloud = watch(key, attach(model, twist), twist, num_particles, resample_below=resample_below)
        return backward(cloud.paths, twist), jnp.sum(cloud.log_z_increments)

    return jax.lax.scan(once, twist, jax.random.split(key, num_rounds))


def backward(paths: Paths, twist: QuadraticTwist) -> QuadraticTwist:
    """The regressions of one round, each on the particles of its step."""
    steps, num = paths.log_weights.shape
    first = twist.constant.shape[0] - steps
    centre, scale = spread(paths, jnp.full((steps, num), 1.0 / num, twist.constant.dtype))
    blank = dataclasses.replace(
        twist, centre=twist.centre.at[first:].set(centre), scale=twist.scale.at[first:].set(scale)
    )

    def once(carry: tuple[QuadraticTwist, Array], parts: tuple[Any, ...]) -> tuple[tuple[QuadraticTwist, Array], None]:
        after, last = carry
        t, x, seen, log_potential = parts
        to_come = jax.vmap(lambda seen: after.log_mean(t + 1, seen))(seen)
        goal = jnp.maximum(log_potential, FLOOR) + jnp.where(last, 0.0, to_come)
        z = (jnp.reshape(x, (num, -1)) - after.centre[t]) / after.scale[t]
        factor, shift, constant = fit_quadratic(z, goal)
        fitted = dataclasses.replace(
            after,
            factor=after.factor.at[t].set(factor),
            shift=after.shift.at[t].set(shift),
            constant=after.constant.at[t].set(constant),
        )
        return (fitted, jnp.asarray(False)), None

    parts = (paths.t, paths.x, paths.after, paths.log_potential)
    (fitted, _), _ = jax.lax.scan(once, (blank, jnp.asarray(True)), parts, reverse=True)
    return fitted


def fit_quadratic(z: Float[Array, "K d"], goal: Float[Array, " K"]) -> tuple[Array, Array, Array]:
    """F, b and c of the least squares fit of -|F^T z|^2 / 2 + b^T z + c, concave.

    The curvature of the free fit is made concave by dropping its wrong directions; b and c are then fitted again.
    """
    num, dim = z.shape
    rows, columns = np.triu_indices(dim)
    squares = z[:, rows] * z[:, columns]
    ones = jnp.ones((num, 1), z.dtype)
    top = jnp.max(goal)
    whole = _least_squares(jnp.concatenate([squares, z, ones], axis=1), goal - top)
    half = jnp.zeros((dim, dim), z.dtype).at[rows, columns].set(-whole[: len(rows)])
    bends, directions = jnp.linalg.eigh(half + half.T)
    factor = directions * jnp.sqrt(jnp.maximum(bends, 0.0))
    left = goal - top + 0.5 * jnp.sum((z @ factor) ** 2, axis=1)
    line = _least_squares(jnp.concatenate([z, ones], axis=1), left)
    return factor, line[:-1], line[-1] + top


def _least_squares(rows: Float[Array, "K m"], goal: Float[Array, " K"]) -> Float[Array, " m"]:
    gram = rows.T @ rows / rows.shape[0]
    ridge = RIDGE * jnp.eye(gram.shape[0], dtype=gram.dtype)
    return jnp.linalg.solve(gram + ridge, rows.T @ goal / rows.shape[0])
