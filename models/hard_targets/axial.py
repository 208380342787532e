"""Axial modes: one mode on each side of every axis, so 2d of them, with deep valleys between."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.models.hard_targets.facts import HardTarget, tabulated
from smcinfer.static import log_density

# Lengths of the cycles of each cycle type of four things, and how many of the 24 permutations have it.
CYCLES = np.array([[1, 1, 1, 1], [2, 1, 1, 0], [2, 2, 0, 0], [3, 1, 0, 0], [4, 0, 0, 0]])
PERMUTATIONS = np.array([1.0, 6.0, 3.0, 8.0, 6.0])


def axial_modes(dim: int = 100, *, base_scale: float = 2.0) -> HardTarget:
    r"""A heavy power of the largest coordinate against exponential tails.

    .. math:: \log \gamma(x) = 4 \log |x|_\infty - |x|_1, \qquad Z = 2^d\, E[M^4]

    with M the largest of d standard exponentials. The modes are at :math:`\pm 4 e_i`, all of mass :math:`1/2d`; the mode
    of a point is its largest coordinate and the sign of that. The scalar is the largest coordinate's size.

    Exact draws: :math:`M = \sum_i E_i / i` with standard exponentials :math:`E_i` (Renyi), so that :math:`M^4` expands
    into positive terms, :math:`E[M^4] = 24\, h_4(1, 1/2, \dots, 1/d)` with :math:`h_4` the complete homogeneous symmetric
    polynomial. A term is drawn as Polya counts them: a cycle type of four things, then one index a cycle of length l
    with weight :math:`i^{-l}`. Given the term, :math:`E_i` is a gamma with shape one plus how often i occurs, and
    the partial sums of :math:`E_i / i` from i = d down are the sizes of the coordinates in increasing order.

    Args:
        dim: d, at least 2.
        base_scale: scale of the Laplace law that a tempered run starts from; above 1, so that its tails cover.
    """
    validate.count("dim", dim, at_least=2)
    validate.number("base_scale", base_scale, above=0.0)
    inverse = 1.0 / np.arange(1, dim + 1)
    power_sums = np.array([1.0, *(np.sum(inverse**k) for k in range(1, 5))])
    terms = PERMUTATIONS * np.prod(power_sums[CYCLES], axis=1)
    # Cycles of length zero fill up the table: they pick an index too, and count it zero times.
    log_weights = np.log(inverse) * np.arange(5)[:, None]

    def density(x: Float[Array, " dim"]) -> Scalar:
        size = jnp.abs(x)
        return 4.0 * jnp.log(jnp.max(size)) - jnp.sum(size)

    def draw(key: KeyArray, n: int) -> Float[Array, "n dim"]:
        type_key, index_key, gamma_key, order_key, sign_key = jax.random.split(key, 5)
        types = jax.random.categorical(type_key, jnp.log(jnp.asarray(terms, float)), shape=(n,))
        lengths = jnp.asarray(CYCLES)[types]
        indices = jax.random.categorical(index_key, jnp.asarray(log_weights, float)[lengths], axis=-1)
        counts = jnp.zeros((n, dim)).at[jnp.arange(n)[:, None], indices].add(lengths.astype(float))
        gammas = jax.random.gamma(gamma_key, 1.0 + counts) * jnp.asarray(inverse, float)
        sizes = jnp.cumsum(gammas[:, ::-1], axis=1)
        shuffled = jax.random.permutation(order_key, sizes, axis=1, independent=True)
        return shuffled * jax.random.rademacher(sign_key, (n, dim), dtype=shuffled.dtype)

    grid = np.linspace(0.0, 60.0 + 2.0 * np.log(dim), 400_001)
    largest = grid**4 * np.exp(-grid) * (-np.expm1(-grid)) ** (dim - 1)
    axes = 4.0 * np.eye(dim)
    return HardTarget(
        target=log_density(density, dist.Laplace(0.0, base_scale).expand([dim]).to_event(1)),
        log_density=density,
        log_z=float(dim * np.log(2.0) + np.log(np.sum(terms))),
        draw=draw,
        scalar=lambda x: jnp.max(jnp.abs(x)),
        scalar_name="largest coordinate",
        law=tabulated(grid, largest),
        modes=jnp.asarray(np.stack([axes, -axes], axis=1).reshape(2 * dim, dim), float),
    )
