r"""The Kalman filter and smoother parallel in time: associative elements, combined in a tree of depth log T.

An element stands for several steps: what they make of the state before them, and what their data say of it,

.. math::
    p(x_t \mid y_{s+1:t}, x_s) = N(A x_s + b, C), \qquad p(y_{s+1:t} \mid x_s) \propto \exp(\eta^\top x_s - x_s^\top J x_s / 2)

Source: Sarkka & Garcia-Fernandez (2021), sections III and IV. In float32 it loses positive definiteness sooner than the
sequential filter: run long series in float64.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Float
from smcinfer.state_space.gaussian.moments import Affine, Moments, Sent, affine
from smcinfer.state_space.gaussian.sequential import Filtered, Vectors, gain, learned, symmetric


class _Element(NamedTuple):
    """Several steps of a filter (module equation)."""

    matrix: Float[Array, "*steps d d"]
    offset: Float[Array, "*steps d"]
    covariance: Float[Array, "*steps d d"]
    shift: Float[Array, "*steps d"]
    precision: Float[Array, "*steps d d"]


class _Back(NamedTuple):
    """Several steps of a smoother: x_s given x_t is ``N(matrix x_t + offset, covariance)``."""

    matrix: Float[Array, "*steps d d"]
    offset: Float[Array, "*steps d"]
    covariance: Float[Array, "*steps d d"]


def filtered(model: Vectors) -> Filtered:
    """All steps of the Kalman filter at once.

    Args:
        model: with its laws as matrices (`linear`).
    """
    steps = jnp.arange(model.values.shape[0], dtype=jnp.int32)
    dim = model.initial.mean.shape[0]
    moved, looks = jax.vmap(model.transition)(jnp.maximum(steps, 1)), jax.vmap(model.observation)(steps)
    first = _first(model.initial, jax.tree.map(lambda leaf: leaf[0], looks), model.values[0], model.present[0])
    later = jax.vmap(_element)(*jax.tree.map(lambda leaf: leaf[1:], (moved, looks, model.values, model.present)))
    elements = jax.tree.map(lambda start, rest: jnp.concatenate([start[None], rest]), first, later)
    whole = jax.lax.associative_scan(jax.vmap(_combined), elements)
    after = Moments(whole.offset, whole.covariance)

    def before(t: Array, here: Moments) -> tuple[Moments, Array]:
        sent = affine(model.transition(t), here)
        return Moments(sent.mean, symmetric(sent.covariance)), sent.cross

    predicted, cross = jax.vmap(before)(steps[1:], jax.tree.map(lambda leaf: leaf[:-1], after))
    predicted = jax.tree.map(lambda start, rest: jnp.concatenate([start[None], rest]), model.initial, predicted)
    cross = jnp.concatenate([jnp.zeros((1, dim, dim), cross.dtype), cross])

    def increment(t: Array, here: Moments, y: Array, present: Array) -> Array:
        return learned(here, affine(model.observation(t), here), y, present)[1]

    return Filtered(after, predicted, cross, jax.vmap(increment)(steps, predicted, model.values, model.present))


def smoothed(found: Filtered) -> Moments:
    """Moments of p(x_t | y_0:T) of every step, all at once.

    Args:
        found: of the filter, sequential or not.
    """

    def element(here: Moments, predicted: Moments, cross: Array) -> _Back:
        back = gain(predicted, cross)
        lost = here.covariance - back @ predicted.covariance @ back.T
        return _Back(back, here.mean - back @ predicted.mean, symmetric(lost))

    here, ahead = (
        jax.tree.map(lambda leaf: leaf[:-1], found.filtered),
        jax.tree.map(lambda leaf: leaf[1:], found.predicted),
    )
    earlier = jax.vmap(element)(here, ahead, found.cross[1:])
    last = _Back(jnp.zeros_like(found.cross[0]), found.filtered.mean[-1], found.filtered.covariance[-1])
    elements = jax.tree.map(lambda rest, end: jnp.concatenate([rest, end[None]]), earlier, last)

    def combined(later: _Back, sooner: _Back) -> _Back:
        covariance = sooner.matrix @ later.covariance @ sooner.matrix.T + sooner.covariance
        return _Back(sooner.matrix @ later.matrix, sooner.matrix @ later.offset + sooner.offset, symmetric(covariance))

    whole = jax.lax.associative_scan(jax.vmap(combined), elements, reverse=True)
    return Moments(whole.offset, whole.covariance)


def _first(initial: Moments, look: Affine, y: Float[Array, " k"], present: Bool[Array, " k"]) -> _Element:
    """Step 0: no state goes before it."""
    matrix, offset, noise = look
    cross = initial.covariance @ matrix.T
    seen = Sent(matrix @ initial.mean + offset, matrix @ cross + noise, cross)
    after, _ = learned(initial, seen, y, present)
    nothing = jnp.zeros_like(initial.covariance)
    return _Element(nothing, after.mean, after.covariance, jnp.zeros_like(initial.mean), nothing)


def _element(move: Affine, look: Affine, y: Float[Array, " k"], present: Bool[Array, " k"]) -> _Element:
    """One step: its move, and what its observation says."""
    (forward, drift, spread), (matrix, offset, noise) = move, look
    both = present[:, None] & present[None, :]
    matrix = jnp.where(present[:, None], matrix, 0.0)
    total = jnp.where(both, matrix @ spread @ matrix.T + noise, jnp.eye(y.shape[0], dtype=y.dtype))
    surprise = jnp.where(present, y - matrix @ drift - offset, 0.0)
    learns = jnp.linalg.solve(symmetric(total), matrix @ spread).T
    stays = jnp.eye(drift.shape[0], dtype=y.dtype) - learns @ matrix
    informed = jnp.linalg.solve(symmetric(total), matrix @ forward)
    return _Element(
        stays @ forward,
        drift + learns @ surprise,
        symmetric(stays @ spread),
        informed.T @ surprise,
        symmetric((matrix @ forward).T @ informed),
    )


def _combined(sooner: _Element, later: _Element) -> _Element:
    """Two runs of steps, one after the other, as one."""
    eye = jnp.eye(sooner.offset.shape[0], dtype=sooner.offset.dtype)
    through = jnp.linalg.solve((eye + sooner.covariance @ later.precision).T, later.matrix.T).T
    back = jnp.linalg.solve((eye + later.precision @ sooner.covariance).T, sooner.matrix).T
    return _Element(
        through @ sooner.matrix,
        through @ (sooner.offset + sooner.covariance @ later.shift) + later.offset,
        symmetric(through @ sooner.covariance @ later.matrix.T + later.covariance),
        back @ (later.shift - later.precision @ sooner.offset) + sooner.shift,
        symmetric(back @ later.precision @ sooner.matrix + sooner.precision),
    )
