r"""A twist from a few exact draws and no training to speak of: a linear probe on features of the state.

.. math:: \log \psi_t(x_{0:t}) = w^\top f(x_{0:t}) + b_t, \qquad
          (w, b) = \arg\max \sum_t E_\sigma[\log s(w^\top f + b_t)] + E_{p_0}[\log s(-w^\top f - b_t)]
          - \tfrac{\lambda}{2} |w|^2

the logistic regression, of the target's prefixes against the base law's, that SIXO has for one neuron. It is convex: a
few Newton steps solve it. The twist weighs particles and does not propose; it is one number for a state, whatever the
state draws.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.compose import Composed
from smcinfer.core.nouns import Time, Twist
from smcinfer.ground.arrays import Array, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.programs import compiled

Features = Callable[[Any], Array]
"""``state -> Float["F"]``, frozen: the hidden state of a network, say."""


class LinearProbe(Twist):
    """A linear function of frozen features (made by `probe`).

    Attributes:
        features: ``state -> Float["F"]``.
        weight: Float["F"].
        bias: Float["T+1"], nats.
    """

    features: Features
    weight: Float[Array, " F"]
    bias: Float[Array, " steps"]

    def __call__(self, t: Time, state: PyTree[Any]) -> Scalar:
        """log psi_t of one state, nats."""
        return self.weight @ self.features(state) + self.bias[t]


@compiled
def _seen(model: Composed, features: Features, draw: Callable[[Any], Any], keys: Array) -> Float[Array, "K S F"]:
    """Features along paths: after x_first .. x_{T-1}."""
    process = model.process
    law = process.initial()

    def one(key: KeyArray) -> Array:
        path = draw(key)
        if law is None:
            state, later = process.advance(jnp.zeros((), jnp.int32), None, None), path
        else:
            state = process.advance(jnp.zeros((), jnp.int32), None, jax.tree.map(lambda leaf: leaf[0], path))
            later = jax.tree.map(lambda leaf: leaf[1:], path)

        def step(carry: tuple[Array, PyTree[Any]], x: PyTree[Any]) -> tuple[Any, Array]:
            t, state = carry
            state = process.advance(t, state, x)
            return (t + 1, state), features(state)

        _, after = jax.lax.scan(step, (jnp.ones((), jnp.int32), state), later)
        return jnp.concatenate([features(state)[None], after])[:-1]

    return jax.vmap(one)(keys)


class _BaseDraw(eqx.Module):
    """Paths of the base law."""

    model: Composed

    def __call__(self, key: KeyArray) -> PyTree[Any]:
        process = self.model.process
        law = process.initial()
        keys = jax.random.split(key, self.model.num_steps + 1)
        x = None if law is None else law.sample(keys[0])
        state = process.advance(jnp.zeros((), jnp.int32), None, x)

        def step(carry: tuple[Array, PyTree[Any]], key: Any) -> tuple[Any, PyTree[Any]]:
            t, state = carry
            x = process.transition(t, state).sample(key)
            return (t + 1, process.advance(t, state, x)), x

        _, later = jax.lax.scan(step, (jnp.ones((), jnp.int32), state), keys[1:])
        if x is None:
            return later
        return jax.tree.map(lambda one, rest: jnp.concatenate([jnp.asarray(one)[None], rest]), x, later)


def probe(
    key: KeyArray,
    model: Composed,
    features: Features,
    exact_draw: Callable[[Any], Any],
    *,
    num_draws: int = 256,
    ridge: float = 1.0,
    num_newton: int = 12,
) -> LinearProbe:
    """Fit a `LinearProbe` by ridge-penalised logistic regression.

    Args:
        key: of the draws.
        model: the target, rewarded at its end; its process and length are used.
        features: ``state -> Float["F"]``.
        exact_draw: ``key -> path``, exact draws of the target (as in `smcinfer.bounds.sandwich`).
        num_draws: paths of each kind.
        ridge: lambda, for features of about unit size.
        num_newton: Newton steps.

    Raises:
        ArgumentError: for numbers out of range.
        TargetError: for features that are no vector.
    """
    if num_draws < 2 or ridge <= 0:
        raise ArgumentError("no such regression", expected="num_draws >= 2, ridge > 0", got=(num_draws, ridge))
    keys = jax.random.split(key, 2)
    positive = _seen(model, features, exact_draw, jax.random.split(keys[0], num_draws))
    negative = _seen(model, features, _BaseDraw(model), jax.random.split(keys[1], num_draws))
    if positive.ndim != 3:
        raise TargetError("features are no vector", expected="Float['F'] of one state", got=positive.shape[2:])
    weight, bias = _logistic(positive, negative, ridge, num_newton)
    last = jnp.zeros((model.num_steps + 1 - bias.shape[0],), bias.dtype)
    return LinearProbe(features, weight, jnp.concatenate([bias, last]))


@compiled
def _logistic(positive: Array, negative: Array, ridge: float, num_newton: int) -> tuple[Array, Array]:
    """Weights and one bias a step; the steps' biases are lightly penalised too, so that every system can be solved."""
    num, steps, dim = positive.shape
    times = jnp.broadcast_to(jnp.eye(steps, dtype=positive.dtype), (num, steps, steps))
    rows = [jnp.concatenate([part, times], axis=2).reshape(num * steps, -1) for part in (positive, negative)]
    design = jnp.concatenate(rows)
    label = jnp.concatenate([jnp.ones(num * steps, design.dtype), jnp.zeros(num * steps, design.dtype)])
    penalty = jnp.concatenate([jnp.full((dim,), ridge), jnp.full((steps,), 1e-3)]).astype(design.dtype)

    def newton(_: Array, theta: Array) -> Array:
        chance = jax.nn.sigmoid(design @ theta)
        gradient = design.T @ (chance - label) + penalty * theta
        curvature = (design * (chance * (1.0 - chance))[:, None]).T @ design + jnp.diag(penalty)
        return theta - jnp.linalg.solve(curvature, gradient)

    theta = jax.lax.fori_loop(0, num_newton, newton, jnp.zeros((dim + steps,), design.dtype))
    return theta[:dim], theta[dim:]
