"""Double wells side by side: the number of modes doubles with every one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.special import ive

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.models.hard_targets.facts import HardTarget, first_coordinate, tabulated
from smcinfer.static import log_density


def double_well(dim: int = 8, num_wells: int = 4, *, separation: float = 3.0, base_scale: float = 2.0) -> HardTarget:
    r"""Some coordinates in a well with two bottoms, the rest standard normal.

    .. math:: \log \gamma(x) = -\sum_{i \le m} (x_i^2 - \delta)^2 - \tfrac12 \sum_{i > m} x_i^2

    .. math:: \int e^{-(x^2 - \delta)^2} dx = \tfrac{\pi}{2} \sqrt{\delta}\, e^{-\delta^2 / 2}
        \bigl[I_{1/4}(\delta^2 / 2) + I_{-1/4}(\delta^2 / 2)\bigr]

    The :math:`2^m` modes are at :math:`x_i = \pm\sqrt\delta`, all of the same mass. Coordinates are independent, so exact
    draws invert the distribution function of one well, tabulated to 1e-9. The scalar is the first coordinate.

    Args:
        dim: d.
        num_wells: m, from 1 to d, and at most 12 (modes are listed).
        separation: :math:`\delta`, the square of the distance of a bottom from zero.
        base_scale: standard deviation of the Gaussian that a tempered run starts from.

    Source: the integral is Gradshteyn & Ryzhik, 3.323.3, continued to a negative coefficient.
    """
    validate.count("num_wells", num_wells, at_most=min(dim, 12))
    validate.number("separation", separation, above=0.0)
    validate.number("base_scale", base_scale, above=0.0)
    half = 0.5 * separation**2
    # Scaled Bessel functions: e^{-half} is in them already.
    integral = 0.5 * np.pi * separation**0.5 * (ive(0.25, half) + ive(-0.25, half))
    reach = (separation + 7.0) ** 0.5
    grid = np.linspace(-reach, reach, 200_001)
    well = tabulated(grid, np.exp(-((grid**2 - separation) ** 2)))

    def density(x: Float[Array, " dim"]) -> Scalar:
        wells, rest = x[:num_wells], x[num_wells:]
        return -jnp.sum((wells**2 - separation) ** 2) - 0.5 * jnp.sum(rest**2)

    def draw(key: KeyArray, n: int) -> Float[Array, "n dim"]:
        well_key, rest_key = jax.random.split(key)
        uniform = jax.random.uniform(well_key, (n, num_wells))
        inside = jnp.interp(uniform, jnp.asarray(well.cdf(grid), float), jnp.asarray(grid, float))
        return jnp.concatenate([inside, jax.random.normal(rest_key, (n, dim - num_wells))], axis=1)

    signs = np.array(list(itertools.product([1.0, -1.0], repeat=num_wells)))
    modes = np.zeros((len(signs), dim))
    modes[:, :num_wells] = separation**0.5 * signs
    return HardTarget(
        target=log_density(density, dist.Normal(0.0, base_scale).expand([dim]).to_event(1)),
        log_density=density,
        log_z=float(num_wells * np.log(integral) + 0.5 * (dim - num_wells) * np.log(2 * np.pi)),
        draw=draw,
        scalar=first_coordinate,
        scalar_name="x1",
        law=well,
        modes=jnp.asarray(modes, float),
    )
