"""The noise schedules that networks are trained under: by formula, and by a table."""

import math
from typing import override

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from smcinfer.diffusion.schedule import NoiseSchedule, Times, check_schedule
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError


class VariancePreserving(NoiseSchedule):
    r"""Ho et al. (2020), Song et al. (2021): noise replaces data at a rate that grows linearly.

    .. math:: \log \alpha(u) = -\tfrac14 u^2 (\beta_1 - \beta_0) - \tfrac12 u \beta_0, \qquad \alpha^2 + \sigma^2 = 1

    Attributes:
        beta_min, beta_max: rates at times 0 and 1, per unit of time.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    start: float = 0.0
    end: float = 1.0

    def _log_alpha(self, time: Scalar) -> Scalar:
        return -0.25 * time**2 * (self.beta_max - self.beta_min) - 0.5 * time * self.beta_min

    @override
    def alpha(self, time: Scalar) -> Scalar:
        return jnp.exp(self._log_alpha(time))

    @override
    def sigma(self, time: Scalar) -> Scalar:
        return _safe_sqrt(-jnp.expm1(2.0 * self._log_alpha(time)))


class Cosine(NoiseSchedule):
    r"""Nichol & Dhariwal (2021), without their offset: :math:`\alpha = \cos(\pi u / 2)`, :math:`\sigma = \sin(\pi u / 2)`.

    The default end leaves a thousandth of the data's scale, so that alpha is never zero.
    """

    start: float = 0.0
    end: float = 0.999

    @override
    def alpha(self, time: Scalar) -> Scalar:
        return jnp.cos(0.5 * jnp.pi * time)

    @override
    def sigma(self, time: Scalar) -> Scalar:
        return jnp.sin(0.5 * jnp.pi * time)


class VarianceExploding(NoiseSchedule):
    r"""Song et al. (2021): noise is added to the data, its size geometric in time.

    .. math:: \alpha = 1, \qquad \sigma(u) = \sigma_{\min} (\sigma_{\max} / \sigma_{\min})^u, \quad 0 \le u \le 1

    Networks are trained down to the noise :math:`\sigma_{\min}`, at time zero. Below it the noise falls along the tangent,
    to none at time :math:`-1 / \log(\sigma_{\max} / \sigma_{\min})`: the last step of a chain leads there, to the data.

    Attributes:
        sigma_min, sigma_max: smallest and largest noise, in the unit of the data.
    """

    sigma_min: float = 0.01
    sigma_max: float = 10.0
    end: float = 1.0

    def __check_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise ArgumentError(
                "the noise does not grow", expected="0 < sigma_min < sigma_max", got=(self.sigma_min, self.sigma_max)
            )

    @property
    def start(self) -> float:
        """The time without noise, a little below zero."""
        return -1.0 / math.log(self.sigma_max / self.sigma_min)

    @property
    def cleanest(self) -> float:
        """Zero, where the noise is the smallest that a network has seen."""
        return 0.0

    @override
    def alpha(self, time: Scalar) -> Scalar:
        return jnp.ones_like(time)

    @override
    def sigma(self, time: Scalar) -> Scalar:
        grown = jnp.log(self.sigma_max / self.sigma_min) * time
        # Exactly nothing at the start, whatever rounding makes of the tangent there.
        tangent = jnp.where(time <= self.start, 0.0, 1.0 + grown)
        return self.sigma_min * jnp.where(grown < 0, tangent, jnp.exp(jnp.maximum(grown, 0.0)))


class EDM(NoiseSchedule):
    r"""Karras et al. (2022): time is the size of the noise, :math:`\alpha = 1`, :math:`\sigma(u) = u`.

    Attributes:
        smallest, end: smallest noise above zero and largest noise of a grid.
        exponent: how the grid is spaced, :math:`u_t^{1/\varrho}` even; 7 is their choice.
    """

    smallest: float = 0.002
    end: float = 80.0
    exponent: float = 7.0
    start: float = 0.0

    @override
    def alpha(self, time: Scalar) -> Scalar:
        return jnp.ones_like(time)

    @override
    def sigma(self, time: Scalar) -> Scalar:
        return time

    @override
    def grid(self, num_steps: int, *, begin: float | None = None, stop: float | None = None) -> Times:
        """Times whose roots are evenly spaced down to the smallest noise, then a last step to ``stop``, zero by default."""
        first, last = self._ends(num_steps, begin, stop)
        root = 1.0 / self.exponent
        least = min(max(self.smallest, 2 * last), first)
        above = np.linspace(first**root, least**root, num_steps) ** self.exponent
        return jnp.asarray(np.append(above, last), float)


class LinearFlow(NoiseSchedule):
    r"""Flow matching and rectified flows: :math:`\alpha = 1 - u`, :math:`\sigma = u`.

    The default end stays a thousandth away from pure noise, where alpha would be zero.
    """

    start: float = 0.0
    end: float = 0.999

    @override
    def alpha(self, time: Scalar) -> Scalar:
        return 1.0 - time

    @override
    def sigma(self, time: Scalar) -> Scalar:
        return time * jnp.ones(())


class Tabulated(NoiseSchedule):
    r"""A variance-preserving schedule given by a table, as many released networks have one.

    .. math:: \alpha(u) = \sqrt{\bar\alpha_u}, \qquad \sigma(u) = \sqrt{1 - \bar\alpha_u}

    with the time an index into the table; between its entries :math:`\bar\alpha` is interpolated in the log. All entries are
    of noised points: the data, :math:`\bar\alpha = 1`, stand one place before them.

    Attributes:
        log_alpha_bar: Float["num_times+1"], log of the cumulative products: zero for the data, then those of the table.
        start: the time of the data: -1, or 0 where the table itself begins with them.
        end: the time of the last entry.
    """

    log_alpha_bar: Float[Array, " num_times"]
    start: float = eqx.field(static=True)
    end: float = eqx.field(static=True)

    @property
    def cleanest(self) -> float:
        """The time of the first noised entry: a network is asked at none before it."""
        return self.start + 1.0

    def _log_alpha_bar(self, time: Scalar) -> Scalar:
        return jnp.interp(time - self.start, jnp.arange(self.log_alpha_bar.shape[0]), self.log_alpha_bar)

    @override
    def alpha(self, time: Scalar) -> Scalar:
        return jnp.exp(0.5 * self._log_alpha_bar(time))

    @override
    def sigma(self, time: Scalar) -> Scalar:
        return _safe_sqrt(-jnp.expm1(self._log_alpha_bar(time)))


def tabulated(alpha_bar: Float[Array, " num_times"] | np.ndarray) -> Tabulated:
    """The schedule of a table of cumulative products (see `Tabulated`).

    Args:
        alpha_bar: Float["num_times"], falling from at most 1 to above 0. Entry k belongs to the time k that the network is
            handed. A first entry below one is of the least noisy points, and the data stand at time -1; a first entry of
            exactly one is the data.

    Raises:
        ArgumentError: no vector, entries outside (0, 1], or entries that do not fall.
    """
    table = np.asarray(alpha_bar, np.float64)
    if table.ndim != 1 or table.size < 2 or not ((table > 0).all() and (table <= 1).all()):
        raise ArgumentError(
            "alpha_bar is no table of cumulative products",
            expected="a vector of two or more numbers in (0, 1]",
            got=table.shape if table.ndim != 1 or table.size < 2 else f"from {table.max():.4g} to {table.min():.4g}",
            hint="where the last entry is zero, nothing is left of the data there: leave it out, alpha_bar[:-1]",
        )
    if not (np.diff(table) < 0).all():
        at = int(np.argmax(~(np.diff(table) < 0)))
        raise ArgumentError(
            "alpha_bar is not monotone",
            expected="cumulative products that fall with every entry",
            got=f"{table[at]:.6g} then {table[at + 1]:.6g} in places {at} and {at + 1}",
        )
    has_data = table[0] == 1.0
    logs = np.log(table) if has_data else np.append(0.0, np.log(table))
    schedule = Tabulated(jnp.asarray(logs, float), 0.0 if has_data else -1.0, float(table.size - 1))
    check_schedule(schedule)
    return schedule


def _safe_sqrt(square: Scalar) -> Scalar:
    """The root, with derivative zero instead of infinity at zero."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
