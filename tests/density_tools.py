"""What the tests of targets share: compiled batches, base draws, integrals on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp


def each(function, *batches):
    """A function of one particle over a batch, compiled once."""
    return jax.jit(jax.vmap(function))(*batches)


def base_draws(target, seed, n):
    """Draws of a target's base, compiled once."""
    return jax.jit(lambda key: target.sample_base(key, n))(jax.random.key(seed))


def log_grid_integral(log_base, dim, reach, num):
    """Log of the integral of a density over a cube, by the midpoint rule."""
    edges = np.linspace(-reach, reach, num + 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    points = jnp.asarray(np.stack(np.meshgrid(*[middle] * dim, indexing="ij"), -1).reshape(-1, dim))
    return float(logsumexp(each(log_base, points)) + dim * np.log(edges[1] - edges[0]))
