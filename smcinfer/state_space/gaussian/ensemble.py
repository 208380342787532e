r"""Ensemble Kalman filters: moments estimated from members that are moved by the model itself.

.. math:: x^i \leftarrow x^i + K (y - y^i), \qquad K = \hat C_{xy} \hat S^{-1}

In the stochastic filter :math:`y^i` is drawn from the law of an observation of member i, so the observation need not be
Gaussian. The transform filter moves the mean by K and shrinks the deviations so that their covariance is exactly
:math:`P - K S K^\top`: no noise of drawn observations. Both tend to the Kalman filter in a linear Gaussian model as members
grow, and keep a bias elsewhere.

Sources: Evensen (1994), Burgers, van Leeuwen & Evensen (1998); Bishop, Etherton & Majumdar (2001) for the transform.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Bool, Float, KeyArray, Time
from smcinfer.state_space.gaussian.moments import Moments, Sent
from smcinfer.state_space.gaussian.sequential import Filtered, learned

Members = Float[Array, "n d"]


class Moved(NamedTuple):
    """A model as an ensemble filter sees it: draws of vectors.

    Attributes:
        initial: ``key -> vector``, a draw of x_0.
        transition: ``(key, t, x) -> vector``, a draw of x_t.
        look: ``(key, t, x) -> vector``, a draw of y_t.
        observation: ``(t, x) -> Moments`` of y_t.
        values, present: data, and which entries are there, ``(T+1, k)``.
    """

    initial: Callable[[KeyArray], Array]
    transition: Callable[[KeyArray, Time, Array], Array]
    look: Callable[[KeyArray, Time, Array], Array]
    observation: Callable[[Time, Array], Moments]
    values: Float[Array, "steps k"]
    present: Bool[Array, "steps k"]


def filtered(key: KeyArray, model: Moved, num_members: int, *, transform: bool) -> Filtered:
    """All steps of an ensemble filter.

    Args:
        key: one random key.
        model: draws of its laws.
        num_members: of the ensemble.
        transform: whether deviations are shrunk, instead of being moved by drawn observations.
    """

    def once(members: Members, at: tuple[KeyArray, Time, Array, Array]) -> tuple[Members, Any]:
        key, t, y, present = at
        move_key, look_key = jax.random.split(key)
        move_keys, look_keys = jax.random.split(move_key, num_members), jax.random.split(look_key, num_members)
        moved = jax.vmap(lambda key, x: model.transition(key, jnp.maximum(t, 1), x))(move_keys, members)
        ahead = jnp.where(t == 0, members, moved)
        before, cross = _moments(ahead), _covariance(members, moved)
        law = jax.vmap(lambda x: model.observation(t, x))(ahead)
        noise = jnp.mean(law.covariance, axis=0)
        seen = Sent(jnp.mean(law.mean, axis=0), _covariance(law.mean, law.mean) + noise, _covariance(ahead, law.mean))
        after, increment = learned(before, seen, y, present)
        if transform:
            members = _shrunk(ahead, law.mean, noise, after.mean, present)
        else:
            drawn = jax.vmap(lambda key, x: model.look(key, t, x))(look_keys, ahead)
            members = ahead + _surprise(y, drawn, present) @ _gain(seen, present).T
        return members, (_moments(members), before, cross, increment)

    init_key, step_key = jax.random.split(key)
    steps = jnp.arange(model.values.shape[0], dtype=jnp.int32)
    start = jax.vmap(model.initial)(jax.random.split(init_key, num_members))
    rows = (jax.random.split(step_key, steps.shape[0]), steps, model.values, model.present)
    return Filtered(*jax.lax.scan(once, start, rows)[1])


def _covariance(x: Members, y: Float[Array, "n k"]) -> Float[Array, "d k"]:
    return (x - x.mean(axis=0)).T @ (y - y.mean(axis=0)) / (x.shape[0] - 1)


def _moments(members: Members) -> Moments:
    return Moments(members.mean(axis=0), _covariance(members, members))


def _surprise(y: Array, drawn: Float[Array, "n k"], present: Bool[Array, " k"]) -> Float[Array, "n k"]:
    return jnp.where(present, y - drawn, 0.0)


def _gain(seen: Sent, present: Bool[Array, " k"]) -> Float[Array, "d k"]:
    both = present[:, None] & present[None, :]
    spread = jnp.where(both, seen.covariance, jnp.eye(present.shape[0], dtype=seen.mean.dtype))
    return jnp.linalg.solve(spread, jnp.where(present, seen.cross, 0.0).T).T


def _shrunk(
    ahead: Members,
    seen: Float[Array, "n k"],
    noise: Float[Array, "k k"],
    mean: Float[Array, " d"],
    present: Bool[Array, " k"],
) -> Members:
    """Members around the new mean, with the new covariance: deviations times the root of what is left of them."""
    size = ahead.shape[0]
    deviations = jnp.where(present, seen - seen.mean(axis=0), 0.0) / jnp.sqrt(size - 1.0)
    both = present[:, None] & present[None, :]
    precise = jnp.linalg.solve(jnp.where(both, noise, jnp.eye(present.shape[0], dtype=noise.dtype)), deviations.T)
    values, vectors = jnp.linalg.eigh(jnp.eye(size, dtype=noise.dtype) + deviations @ precise)
    root = vectors @ jnp.diag(1.0 / jnp.sqrt(values)) @ vectors.T
    return mean + root @ (ahead - ahead.mean(axis=0))
