r"""Smoothing by the transition density: paths drawn backwards, or the marginals of all particles reweighted.

.. math::
    P(b_t = i \mid b_{t+1}) \propto V_t^i\, p_0(x_{t+1}^{b_{t+1}} \mid x_t^i), \qquad
    S_t^i = V_t^i \sum_j S_{t+1}^j \frac{p_0(x_{t+1}^j \mid x_t^i)}{\sum_l V_t^l\, p_0(x_{t+1}^j \mid x_t^l)}

with :math:`V_t \propto W_t / \psi_t` the filter's weights without the twist. Every step looks at all particles again, so no
genealogy coalesces. Drawing M paths costs O(M N) a step, the marginals cost O(N^2); both are taken in blocks, so that memory
stays bounded.

Sources: Godsill, Doucet & West (2004); Doucet, Godsill & Andrieu (2000), section 5.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from smcinfer.core.compose import Composed
from smcinfer.core.weights import normalise
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree

BLOCK_ENTRIES = 1 << 20
"""Transition densities held at once: blocks of draws (or of particles) times all particles."""


def filter_log_weights(particles: Any, log_weights: Float[Array, "steps n"]) -> Float[Array, "steps n"]:
    """The filter's normalised log weights, without the twist that looks at what is to come."""
    return jax.vmap(lambda weights, twist: normalise(weights - twist)[0])(log_weights, particles.log_twist)


def reach(model: Composed, t: Array, states: PyTree[Any], x: PyTree[Any]) -> Float[Array, " n"]:
    """log p0(x_t = x | x_{t-1}) from each of the states; NaN counts as unreachable.

    Args:
        model: a composed model whose state is x itself.
        t: Int[""], the step that leads to ``x``.
        states: x_{t-1} of n particles, every leaf with a leading axis of n.
        x: one state of step t.

    Returns:
        Float["n"], nats.
    """
    log_p = jax.vmap(lambda state: jnp.sum(model.process.transition(t, state).log_prob(x)))(states)
    return jnp.where(jnp.isnan(log_p), -jnp.inf, log_p)


def backward_sample(
    key: KeyArray, model: Composed, particles: Any, log_weights: Float[Array, "steps n"], num_draws: int
) -> Int[Array, "steps num_draws"]:
    """Equally weighted draws of whole paths, as indices into the particles of every step.

    Args:
        key: one key.
        model: a composed model whose state is x itself.
        particles: what the history recorded, every leaf ``(T+1, n, ...)``.
        log_weights: Float["T+1 n"], normalised, nats.
        num_draws: paths.

    Returns:
        Int["T+1 num_draws"], one column a path.
    """
    weights = filter_log_weights(particles, log_weights)
    steps, size = weights.shape
    batch = max(1, BLOCK_ENTRIES // size)
    end = jax.random.categorical(jax.random.fold_in(key, steps - 1), weights[-1], shape=(num_draws,)).astype(jnp.int32)

    def back(later: Array, at: tuple[Array, PyTree[Any], Array, PyTree[Any]]) -> tuple[Array, Array]:
        t, states, log_w, next_states = at

        def one(lane: tuple[Array, Array]) -> Array:
            lane_key, index = lane
            x = jax.tree.map(lambda leaf: leaf[index], next_states)
            return jax.random.categorical(lane_key, log_w + reach(model, t + 1, states, x)).astype(jnp.int32)

        keys = jax.random.split(jax.random.fold_in(key, t), num_draws)
        return jax.lax.map(one, (keys, later), batch_size=min(batch, num_draws)), later

    rows = jnp.arange(steps - 1)
    before, after = (
        jax.tree.map(lambda leaf: leaf[:-1], particles.state),
        jax.tree.map(lambda leaf: leaf[1:], particles.state),
    )
    first, later = jax.lax.scan(back, end, (rows, before, weights[:-1], after), reverse=True)
    return jnp.concatenate([first[None], later])


def marginals(model: Composed, particles: Any, log_weights: Float[Array, "steps n"]) -> Float[Array, "steps n"]:
    """Log weights of every step's particles for the law of x_t given all data (forward filtering, backward smoothing).

    Args:
        model, particles, log_weights: as in `backward_sample`.

    Returns:
        Float["T+1 n"], normalised within each step, nats.
    """
    weights = filter_log_weights(particles, log_weights)
    steps, size = weights.shape
    batch = min(size, max(1, BLOCK_ENTRIES // size))
    blocks = -(-size // batch)
    order = jnp.arange(blocks * batch).reshape(blocks, batch)

    def back(smoothed: Array, at: tuple[Array, PyTree[Any], Array, PyTree[Any]]) -> tuple[Array, Array]:
        t, states, log_w, next_states = at

        def block(total: Array, index: Array) -> tuple[Array, None]:
            def one(j: Array) -> Array:
                x = jax.tree.map(lambda leaf: leaf[j % size], next_states)
                log_p = log_w + reach(model, t + 1, states, x)
                whole = logsumexp(log_p)
                mass = jnp.where((j < size) & (whole > -jnp.inf), smoothed[j % size] - whole, -jnp.inf)
                return log_p + mass

            return jnp.logaddexp(total, logsumexp(jax.vmap(one)(index), axis=0)), None

        total, _ = jax.lax.scan(block, jnp.full_like(smoothed, -jnp.inf), order)
        return normalise(total)[0], smoothed

    rows = jnp.arange(steps - 1)
    before, after = (
        jax.tree.map(lambda leaf: leaf[:-1], particles.state),
        jax.tree.map(lambda leaf: leaf[1:], particles.state),
    )
    first, later = jax.lax.scan(back, weights[-1], (rows, before, weights[:-1], after), reverse=True)
    return jnp.concatenate([first[None], later])
