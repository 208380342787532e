r"""Paths by genealogy: what the last particles descend from, all the way or some steps back.

.. math:: b_T = i, \qquad b_{t-1} = A_t^{b_t}

Tracing all the way gives exact draws' weights to whole paths, but few distinct ancestors survive many resamplings. The
fixed-lag smoother looks at :math:`x_t` from :math:`t + L` and no further: many survive, and what later data say of
:math:`x_t` is left out.

Sources: Kitagawa (1996), section 5; Kitagawa & Sato (2001).
"""

from typing import Any

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, PyTree


def trace(ancestors: Int[Array, "steps n"], last: Int[Array, " k"]) -> Int[Array, "steps k"]:
    """Which particle of every step each of some last particles descends from.

    Args:
        ancestors: Int["T+1 n"]; entry [t, i] is the particle of t - 1 that particle i of t came from (row 0 is not read).
        last: Int["k"], particles of step T.

    Returns:
        Int["T+1 k"], one column a path.
    """

    def back(chosen: Array, parents: Array) -> tuple[Array, Array]:
        return parents[chosen], chosen

    first, later = jax.lax.scan(back, last, ancestors[1:], reverse=True)
    return jnp.concatenate([first[None], later])


def gather(states: PyTree[Any], chosen: Int[Array, "steps k"]) -> PyTree[Any]:
    """States of chosen particles: every leaf from ``(T+1, n, ...)`` to ``(T+1, k, ...)``."""
    return jax.tree.map(lambda leaf: jax.vmap(lambda row, index: row[index])(leaf, chosen), states)


def fixed_lag(
    ancestors: Int[Array, "steps n"], log_weights: Float[Array, "steps n"], lag: int
) -> tuple[Int[Array, "steps n"], Float[Array, "steps n"]]:
    r"""Ancestors at every t of the particles of :math:`\min(t + L, T)`, and the weights of those.

    Args:
        ancestors: Int["T+1 n"] as in `trace`.
        log_weights: Float["T+1 n"], normalised, nats.
        lag: L, steps.

    Returns:
        Indices into the particles of each t, and their log weights, both ``(T+1, n)``.
    """
    steps, size = ancestors.shape
    lag = min(lag, steps - 1)
    here = jnp.arange(size, dtype=ancestors.dtype)

    def forward(window: Array, parents: Array) -> tuple[Array, Array]:
        # Row l: the particle of l steps ago that each particle descends from.
        window = jnp.concatenate([here[None], window[:-1][:, parents]])
        return window, window[lag]

    start = jnp.broadcast_to(here, (lag + 1, size))
    window, seen = jax.lax.scan(forward, start, ancestors[1:])
    # Row s - 1 of seen looks back from step s; the last L steps are only looked at from the end.
    chosen = jnp.concatenate([seen[lag - 1 :] if lag else jnp.concatenate([here[None], seen]), window[:lag][::-1]])
    return chosen, log_weights[jnp.minimum(jnp.arange(steps) + lag, steps - 1)]
