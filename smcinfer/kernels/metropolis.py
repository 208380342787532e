"""The accept step: one Metropolis-Hastings decision that no NaN and no infinity gets through."""

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, KeyArray, PyTree, Scalar
from smcinfer.kernels.base import KernelState, TemperedDensity


def metropolis(
    key: KeyArray,
    current: KernelState,
    proposed: KernelState,
    density: TemperedDensity,
    log_correction: Array | float = 0.0,
) -> tuple[KernelState, Scalar]:
    r"""Accept ``proposed`` with the Metropolis-Hastings probability, else stay.

    .. math:: \alpha(x, y) = \min\{1, \gamma_\lambda(y)\, q(y, x) / (\gamma_\lambda(x)\, q(x, y))\}

    A proposal whose density, position or correction is not finite is rejected. A chain that stands
    where the density is zero or undefined (a particle of weight zero) takes any proposal that is not.

    Args:
        key: consumed here.
        current, proposed: states with their parts evaluated.
        density: the invariant density.
        log_correction: Float[""], :math:`\log q(y, x) - \log q(x, y)`, nats; zero for symmetric proposals.

    Returns:
        The next state and :math:`\alpha`.

    Source: Hastings (1970).
    """
    log_old = density.combine(current.log_base, current.log_potential)
    log_new = density.combine(proposed.log_base, proposed.log_potential)
    possible = jnp.isfinite(log_new) & jnp.all(jnp.isfinite(proposed.position))
    standing = jnp.isfinite(log_old)
    log_ratio = jnp.where(standing, log_new - log_old + log_correction, 0.0)
    log_ratio = jnp.where(possible & jnp.isfinite(log_ratio), jnp.minimum(log_ratio, 0.0), -jnp.inf)
    # Minus an exponential draw is the log of a uniform that can never be zero.
    accept = -jax.random.exponential(key, dtype=log_ratio.dtype) <= log_ratio
    return choose(accept, proposed, current), jnp.exp(log_ratio)


def choose(condition: Array, on_true: PyTree, on_false: PyTree) -> PyTree:
    """Leaf by leaf ``on_true`` where the condition holds, in the dtypes of ``on_false``.

    Args:
        condition: Bool[""], or of a shape that every leaf broadcasts with.
        on_true, on_false: pytrees of one structure.
    """
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old).astype(old.dtype), on_true, on_false)
