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

from smcinfer.core.recursions import Report, Way, scan
from smcinfer.ground.arrays import Array, Bool, Float, PyTree, Scalar, Time
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


FEW = 4
"""Entries of an observation up to which they are taken in one by one."""


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
    both = present[:, None] & present[None, :]
    spread = symmetric(jnp.where(both, seen.covariance, jnp.eye(y.shape[0], dtype=y.dtype)))
    surprise, cross = jnp.where(present, y - seen.mean, 0.0), jnp.where(present, seen.cross, 0.0)
    told = _entry_by_entry if y.shape[0] <= FEW else _all_at_once
    after, log_size, distance = told(before, spread, cross, surprise)
    constant = jnp.sum(present) * jnp.log(2 * jnp.pi)
    return after, -0.5 * (distance + log_size + constant)


Told = tuple[Moments, Scalar, Scalar]
"""Moments once an observation is known, log determinant of its covariance, squared length of its surprise in units of it."""


def _all_at_once(
    before: Moments, spread: Float[Array, "k k"], cross: Float[Array, "d k"], surprise: Float[Array, " k"]
) -> Told:
    """All entries by one Cholesky root."""
    root = jnp.linalg.cholesky(spread)
    # Cov(x, y) in the coordinates in which y has variance one: P - K S K' is P - L L', the closest to symmetric that there is.
    solved = jax.scipy.linalg.solve_triangular(root, jnp.column_stack([cross.T, surprise]), lower=True)
    white, whitened = solved[:, :-1], solved[:, -1]
    after = Moments(before.mean + white.T @ whitened, symmetric(before.covariance - white.T @ white))
    return after, 2.0 * jnp.sum(jnp.log(jnp.diagonal(root))), whitened @ whitened


def _entry_by_entry(
    before: Moments, spread: Float[Array, "k k"], cross: Float[Array, "d k"], surprise: Float[Array, " k"]
) -> Told:
    """The same elimination written out, an entry a turn: for short vectors a call of a library takes longer than the work."""
    mean, covariance = before
    log_size = distance = jnp.zeros((), mean.dtype)
    for entry in range(surprise.shape[0]):
        variance, learns, shares = spread[entry, entry], cross[:, entry], spread[:, entry]
        share = surprise[entry] / variance
        mean = mean + learns * share
        covariance = covariance - learns[:, None] * (learns / variance)
        log_size, distance = log_size + jnp.log(variance), distance + surprise[entry] * share
        surprise, cross, spread = (
            surprise - shares * share,
            cross - learns[:, None] * (shares / variance),
            spread - shares[:, None] * (shares / variance),
        )
    return Moments(mean, symmetric(covariance)), log_size, distance


def linear(model: Vectors) -> Vectors:
    """The same model with its laws as matrices, had at all steps at once: what a loop then does is algebra.

    Args:
        model: affine in its state, with covariances that do not depend on it.
    """
    steps, start = jnp.arange(model.values.shape[0], dtype=jnp.int32), model.initial.mean

    def matrices(law: Callable[[Time], Any], steps: Array) -> Callable[[Time], Affine]:
        at = lambda t: Affine.of(law(t), start.shape[0], start.dtype)  # noqa: E731
        if constant(at, steps[0]):
            always = at(steps[0])
            return lambda _: always
        rows = jax.vmap(at)(steps)
        return lambda t: jax.tree.map(lambda leaf: leaf[t], rows)

    moves, looks = matrices(model.transition, jnp.maximum(steps, 1)), matrices(model.observation, steps)
    return model._replace(transition=moves, observation=looks)


def constant(function: Callable[[Time], PyTree[Any]], t: Time) -> bool:
    """Whether a function's value is the same at every step, as far as its text can tell.

    Args:
        function: of a step alone.
        t: a step.
    """
    jaxpr = jax.make_jaxpr(function)(t).jaxpr
    return not any(variable is jaxpr.invars[0] for used in (*jaxpr.eqns, jaxpr) for variable in _read(used))


def _read(part: Any) -> list[Any]:
    return part.outvars if hasattr(part, "eqns") else part.invars


def filtered(model: Vectors, transform: Transform, way: Way | None = None) -> tuple[Filtered, Report]:
    """All steps of a Gaussian filter, and how its recursion was evaluated.

    Args:
        model: its vectors.
        transform: how moments are sent through its laws.
        way: as in `smcinfer.core.recursions.scan`.
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
    _, found, report = scan(once, model.initial, (steps, model.values, model.present), way)
    return Filtered(*found), report


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
