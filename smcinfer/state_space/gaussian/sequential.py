r"""Gaussian filters step by step, and the smoother of Rauch, Tung and Striebel: one pair of loops for every transform.

.. math::
    K = C S^{-1}, \quad m = m^- + K (y - \hat y), \quad P = P^- - K S K^\top, \qquad
    G_t = \mathrm{Cov}(x_t, x_{t+1}) (P_{t+1}^-)^{-1}

Entries of an observation that are missing are marginalised exactly: their rows leave :math:`S` and :math:`C`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from smcinfer.ground.arrays import Array, Bool, Float, Scalar, Time
from smcinfer.state_space.gaussian.moments import Affine, Moments, Sent, Transform


class Filtered(NamedTuple):
    """Moments of every step, leading axis T + 1.

    Attributes:
        filtered: of p(x_t | y_0:t).
        predicted: of p(x_t | y_0:t-1).
        cross: Float["T+1 d d"], covariance of x_{t-1} and x_t given y_0:t-1; the first is not read.
        log_z_increments: Float["T+1"], log p(y_t | y_0:t-1), nats.
    """

    filtered: Moments
    predicted: Moments
    cross: Float[Array, "steps d d"]
    log_z_increments: Float[Array, " steps"]


class Vectors(NamedTuple):
    """A model as Gaussian filters see it: states and observations are vectors.

    Attributes:
        initial: moments of x_0.
        transition, observation: ``t -> conditional law``, what a transform takes.
        values: Float["T+1 k"], the data.
        present: Bool["T+1 k"], which entries are there.
    """

    initial: Moments
    transition: Callable[[Time], Any]
    observation: Callable[[Time], Any]
    values: Float[Array, "steps k"]
    present: Bool[Array, "steps k"]


def symmetric(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The symmetric part: rounding must not grow."""
    return (matrix + matrix.T) / 2


def learned(before: Moments, seen: Sent, y: Float[Array, " k"], present: Bool[Array, " k"]) -> tuple[Moments, Scalar]:
    """The moments once y is known, and its log density, nats.

    Args:
        before: of the state.
        seen: of the observation, given them.
        y: what was observed.
        present: which entries of it.
    """
    size = y.shape[0]
    both = present[:, None] & present[None, :]
    spread = jnp.where(both, seen.covariance, jnp.eye(size, dtype=y.dtype))
    surprise = jnp.where(present, y - seen.mean, 0.0)
    root = jnp.linalg.cholesky(symmetric(spread))
    cross = jnp.where(present, seen.cross, 0.0)
    # Cov(x, y) in the coordinates in which y has variance one: P - K S K' is P - L L', the closest to symmetric that there is.
    solved = jax.scipy.linalg.solve_triangular(root, jnp.column_stack([cross.T, surprise]), lower=True)
    white, whitened = solved[:, :-1], solved[:, -1]
    after = Moments(before.mean + white.T @ whitened, symmetric(before.covariance - white.T @ white))
    constant = jnp.sum(present) * jnp.log(2 * jnp.pi) + 2.0 * jnp.sum(jnp.log(jnp.diagonal(root)))
    return after, -0.5 * (whitened @ whitened + constant)


def linear(model: Vectors) -> Vectors:
    """The same model with its laws as matrices, had at all steps at once: what a loop then does is algebra.

    Args:
        model: affine in its state, with covariances that do not depend on it.
    """
    steps, start = jnp.arange(model.values.shape[0], dtype=jnp.int32), model.initial.mean
    of = lambda law: jax.vmap(lambda t: Affine.of(law(t), start.shape[0], start.dtype))  # noqa: E731
    moves, looks = of(model.transition)(jnp.maximum(steps, 1)), of(model.observation)(steps)
    row = lambda rows: lambda t: jax.tree.map(lambda leaf: leaf[t], rows)  # noqa: E731
    return model._replace(transition=row(moves), observation=row(looks))


def filtered(model: Vectors, transform: Transform) -> Filtered:
    """All steps of a Gaussian filter.

    Args:
        model: its vectors.
        transform: how moments are sent through its laws.
    """

    def once(before: Moments, at: tuple[Time, Array, Array]) -> tuple[Moments, tuple[Moments, Moments, Array, Scalar]]:
        t, y, present = at
        # Step 0 has no transition, and what is not one may have no derivative.
        sent = transform(model.transition(jnp.maximum(t, 1)), before)
        moved = Moments(sent.mean, symmetric(sent.covariance))
        predicted = jax.tree.map(lambda start, later: jnp.where(t == 0, start, later), model.initial, moved)
        after, increment = learned(predicted, transform(model.observation(t), predicted), y, present)
        return after, (after, predicted, sent.cross, increment)

    steps = jnp.arange(model.values.shape[0], dtype=jnp.int32)
    return Filtered(*jax.lax.scan(once, model.initial, (steps, model.values, model.present))[1])


def gain(predicted: Moments, cross: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """What x_{t-1} learns from x_t.

    Args:
        predicted: of x_t. Where part of it follows from the state before, its covariance has no inverse; least squares has an
            answer.
        cross: covariance of x_{t-1} and x_t.
    """
    return jnp.linalg.lstsq(predicted.covariance, cross.T)[0].T


def smoothed(found: Filtered) -> Moments:
    """Moments of p(x_t | y_0:T) of every step, by one loop backwards.

    Args:
        found: of the filter.
    """

    def once(later: Moments, at: tuple[Moments, Moments, Array]) -> tuple[Moments, Moments]:
        here, predicted, cross = at
        back = gain(predicted, cross)
        mean = here.mean + back @ (later.mean - predicted.mean)
        covariance = here.covariance + back @ (later.covariance - predicted.covariance) @ back.T
        now = Moments(mean, symmetric(covariance))
        return now, now

    last = jax.tree.map(lambda leaf: leaf[-1], found.filtered)
    here, ahead = (
        jax.tree.map(lambda leaf: leaf[:-1], found.filtered),
        jax.tree.map(lambda leaf: leaf[1:], found.predicted),
    )
    _, earlier = jax.lax.scan(once, last, (here, ahead, found.cross[1:]), reverse=True)
    return jax.tree.map(lambda rest, end: jnp.concatenate([rest, end[None]]), earlier, last)
