r"""Noise schedules: how much of the data is left, and how much noise there is, at a time.

.. math:: x_u = \alpha(u)\, x_0 + \sigma(u)\, \varepsilon, \qquad \varepsilon \sim N(0, I)

*The one convention of time.* Diffusion time ``u`` is a float: data at the small end, noise at the large one. A run
takes the steps ``t = 0 .. T`` of a decreasing `grid` of diffusion times: step 0 is the noisiest, step T the last. The
same law as a stochastic differential equation of the forward process is

.. math:: dx = f x\, du + g\, dW, \qquad f = (\log \alpha)', \quad g^2 = (\sigma^2)' - 2 f \sigma^2 .

Only the ratio :math:`\rho = \sigma / \alpha` matters to a model: :math:`x / \alpha` is the data with noise of size
:math:`\rho` (`Schedule.noise_ratio`), whatever the schedule.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError

Times = Float[Array, " num_times"]


class Schedule(eqx.Module):
    """``alpha`` and ``sigma`` of a diffusion, as functions of its time.

    Subclasses set ``end``, the noisiest time, and ``start``, the least noisy one at which reverse processes stop.
    """

    start: eqx.AbstractVar[float]
    end: eqx.AbstractVar[float]

    @abc.abstractmethod
    def alpha(self, time: Scalar) -> Scalar:
        """What is left of the data: not increasing in time."""

    @abc.abstractmethod
    def sigma(self, time: Scalar) -> Scalar:
        """Standard deviation of the noise."""

    def noise_ratio(self, time: Scalar) -> Scalar:
        """sigma over alpha: strictly increasing in time."""
        return self.sigma(time) / self.alpha(time)

    def drift(self, time: Scalar) -> Scalar:
        """f of the forward equation, per unit of time: the log derivative of alpha."""
        alpha, slope = _with_slope(self.alpha, time)
        return slope / alpha

    def diffusion_squared(self, time: Scalar) -> Scalar:
        """g squared of the forward equation, per unit of time."""
        sigma, slope = _with_slope(self.sigma, time)
        return 2.0 * sigma * (slope - self.drift(time) * sigma)

    def grid(self, num_steps: int, *, stop: float | None = None) -> Times:
        """``num_steps + 1`` decreasing times from ``end`` to ``stop``, even in time.

        Args:
            num_steps: steps of a reverse process, at least 1.
            stop: the last time; ``start`` where ``None``.
        """
        return jnp.linspace(self.end, self._stop(num_steps, stop), num_steps + 1)

    def log_grid(self, num_steps: int, smallest: float = 0.01) -> Times:
        """``num_steps + 1`` decreasing times, even in the log of the noise ratio, then one last step to ``start``.

        Args:
            num_steps: steps of a reverse process, at least 2.
            smallest: noise ratio before the last step; where the schedule's own smallest is larger, the grid ends with that.
        """
        self._stop(num_steps, None)
        ends = [float(self.noise_ratio(jnp.asarray(time, float))) for time in (self.end, self.start)]
        extra = ends[1] < smallest
        target = np.geomspace(ends[0], max(smallest, ends[1]), num_steps + (not extra))
        low, high = np.full(target.size, self.start), np.full(target.size, self.end)
        ratio = jax.jit(jax.vmap(self.noise_ratio))
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = np.asarray(ratio(jnp.asarray(middle, float))) < target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        times = np.concatenate([[self.end], high[1:], [self.start] if extra else []])
        return jnp.asarray(times, float)

    def _stop(self, num_steps: int, stop: float | None) -> float:
        if num_steps < 1:
            raise ArgumentError("num_steps is out of range", expected="at least 1", got=num_steps)
        last = self.start if stop is None else stop
        if not self.start <= last < self.end:
            raise ArgumentError(
                "the last time is outside the schedule", expected=f"in [{self.start}, {self.end})", got=stop
            )
        return last


class VariancePreserving(Schedule):
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

    def alpha(self, time: Scalar) -> Scalar:
        """exp of the log alpha above."""
        return jnp.exp(self._log_alpha(time))

    def sigma(self, time: Scalar) -> Scalar:
        """The square root of one minus alpha squared."""
        return _safe_sqrt(-jnp.expm1(2.0 * self._log_alpha(time)))


class Cosine(Schedule):
    r"""Nichol & Dhariwal (2021), without their offset: :math:`\alpha = \cos(\pi u / 2)`, :math:`\sigma = \sin(\pi u / 2)`.

    The default end leaves a thousandth of the data's scale, so that alpha is never zero.
    """

    start: float = 0.0
    end: float = 0.999

    def alpha(self, time: Scalar) -> Scalar:
        """The cosine."""
        return jnp.cos(0.5 * jnp.pi * time)

    def sigma(self, time: Scalar) -> Scalar:
        """The sine."""
        return jnp.sin(0.5 * jnp.pi * time)


class VarianceExploding(Schedule):
    r"""Song et al. (2021): noise is added to the data, its size geometric in time.

    .. math:: \alpha = 1, \qquad \sigma(u) = \sigma_{\min} (\sigma_{\max} / \sigma_{\min})^u
    """

    sigma_min: float = 0.01
    sigma_max: float = 10.0
    start: float = 0.0
    end: float = 1.0

    def alpha(self, time: Scalar) -> Scalar:
        """One."""
        return jnp.ones_like(time)

    def sigma(self, time: Scalar) -> Scalar:
        """Geometric in time."""
        return self.sigma_min * jnp.exp(jnp.log(self.sigma_max / self.sigma_min) * time)


class EDM(Schedule):
    r"""Karras et al. (2022): time is the size of the noise, :math:`\alpha = 1`, :math:`\sigma(u) = u`.

    Attributes:
        smallest, end: smallest noise above zero and largest noise of a grid.
        exponent: how the grid is spaced, :math:`u_t^{1/\varrho}` even; 7 is their choice.
    """

    smallest: float = 0.002
    end: float = 80.0
    exponent: float = 7.0
    start: float = 0.0

    def alpha(self, time: Scalar) -> Scalar:
        """One."""
        return jnp.ones_like(time)

    def sigma(self, time: Scalar) -> Scalar:
        """The time itself."""
        return time

    def grid(self, num_steps: int, *, stop: float | None = None) -> Times:
        """Times whose roots are evenly spaced down to the smallest noise, then a last step to ``stop``, zero by default."""
        last = self._stop(num_steps, stop)
        root = 1.0 / self.exponent
        above = jnp.linspace(self.end**root, max(self.smallest, 2 * last) ** root, num_steps) ** self.exponent
        return jnp.append(above, last)


class LinearFlow(Schedule):
    r"""Flow matching and rectified flows: :math:`\alpha = 1 - u`, :math:`\sigma = u`.

    The default end stays a thousandth away from pure noise, where alpha would be zero.
    """

    start: float = 0.0
    end: float = 0.999

    def alpha(self, time: Scalar) -> Scalar:
        """One minus time."""
        return 1.0 - time

    def sigma(self, time: Scalar) -> Scalar:
        """Time."""
        return time * jnp.ones(())


class Tabulated(Schedule):
    r"""A variance-preserving schedule given by a table, as many released networks have one.

    .. math:: \alpha(u) = \sqrt{\bar\alpha_u}, \qquad \sigma(u) = \sqrt{1 - \bar\alpha_u}

    with the time an index into the table; between its entries :math:`\bar\alpha` is interpolated in the log.

    Attributes:
        log_alpha_bar: Float["num_times"], log of the cumulative products, at times 0, 1, ...
    """

    log_alpha_bar: Float[Array, " num_times"]
    start: float = eqx.field(static=True, default=0.0)
    end: float = eqx.field(static=True, default=1.0)

    def _log_alpha_bar(self, time: Scalar) -> Scalar:
        return jnp.interp(time, jnp.arange(self.log_alpha_bar.shape[0]), self.log_alpha_bar)

    def alpha(self, time: Scalar) -> Scalar:
        """Interpolated in the log."""
        return jnp.exp(0.5 * self._log_alpha_bar(time))

    def sigma(self, time: Scalar) -> Scalar:
        """The square root of one minus alpha squared."""
        return _safe_sqrt(-jnp.expm1(self._log_alpha_bar(time)))


def tabulated(alpha_bar: Float[Array, " num_times"] | np.ndarray) -> Tabulated:
    """The schedule of a table of cumulative products (see `Tabulated`).

    Args:
        alpha_bar: Float["num_times"], decreasing from at most 1 to above 0; entry k belongs to time k.
    """
    table = np.asarray(alpha_bar, np.float64)
    if table.ndim != 1 or table.size < 2 or not ((table > 0).all() and (table <= 1).all()):
        raise ArgumentError(
            "alpha_bar is no table of cumulative products", expected="a vector of numbers in (0, 1]", got=table.shape
        )
    schedule = Tabulated(jnp.asarray(np.log(table), float), 0.0, float(table.size - 1))
    check_schedule(schedule)
    return schedule


def check_schedule(schedule: Schedule, times: Times | None = None) -> None:
    """Raise `ArgumentError` unless alpha is positive and falls, and the noise ratio grows, along the times.

    Args:
        schedule: any schedule; the user's own, perhaps.
        times: Float["num_times"], decreasing; a grid of 100 steps where ``None``.
    """
    if not schedule.start < schedule.end:
        raise ArgumentError(
            "the schedule ends before it starts",
            expected="start < end: data at the small end of time, noise at the large one",
            got=(schedule.start, schedule.end),
        )
    grid = schedule.grid(100) if times is None else times
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise ArgumentError("times of the wrong shape", expected="a vector of two or more", got=grid.shape)
    values = {
        "the grid of times": -np.asarray(grid, np.float64),
        "alpha": np.asarray(jax.vmap(schedule.alpha)(grid), np.float64),
        "the noise ratio sigma / alpha": -np.asarray(jax.vmap(schedule.noise_ratio)(grid), np.float64),
    }
    if not (values["alpha"] > 0).all():
        raise ArgumentError(
            "alpha must be positive at every time used",
            expected="alpha > 0",
            got=f"{values['alpha'].min():.4g}",
            hint="end a little before alpha reaches zero",
        )
    for name, rising in values.items():
        steps = np.diff(rising)
        wrong = ~(steps >= 0) if name == "alpha" else ~(steps > 0)
        if wrong.any():
            at = int(np.argmax(wrong))
            direction = "grow" if name.startswith("alpha") else "fall"
            raise ArgumentError(
                f"{name} is not monotone on the way from noise to data",
                expected=f"it must {direction} with every step",
                got=f"{abs(rising[at]):.6g} then {abs(rising[at + 1]):.6g} at times {grid[at]:.4g}, {grid[at + 1]:.4g}",
            )


def _with_slope(function, time: Scalar) -> tuple[Array, Array]:  # noqa: ANN001
    time = jnp.asarray(time, float)
    return jax.jvp(function, (time,), (jnp.ones_like(time),))


def _safe_sqrt(square: Scalar) -> Scalar:
    """The root, with derivative zero instead of infinity at zero."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
