r"""Noise schedules: how much of the data is left, and how much noise there is, at a time.

.. math:: x_u = \alpha(u)\, x_0 + \sigma(u)\, \varepsilon, \qquad \varepsilon \sim N(0, I)

*The one convention of time.* Diffusion time ``u`` is a float: data at the small end, noise at the large one. A run
takes the steps ``t = 0 .. T`` of a decreasing `grid` of diffusion times: step 0 is the noisiest, step T the last. The
same law as a stochastic differential equation of the forward process is

.. math:: dx = f x\, du + g\, dW, \qquad f = (\log \alpha)', \quad g^2 = (\sigma^2)' - 2 f \sigma^2 .

Only the ratio :math:`\rho = \sigma / \alpha` matters to a model: :math:`x / \alpha` is the data with noise of size
:math:`\rho` (`NoiseSchedule.noise_ratio`), whatever the schedule.

*Where the data are.* A network is trained on noised points, down to some least noise, and the data are one step
further: ``cleanest`` is the least noisy time that a network knows, ``start`` the time without noise. A chain that ended
at ``cleanest`` would leave noise in its samples.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError

Times = Float[Array, " num_times"]


class NoiseSchedule(eqx.Module):
    """``alpha`` and ``sigma`` of a diffusion, as functions of its time.

    Subclasses set ``end``, the noisiest time, and ``start``, the least noisy one, at which reverse processes stop.
    """

    start: eqx.AbstractVar[float]
    end: eqx.AbstractVar[float]

    @property
    def cleanest(self) -> float:
        """The least noisy time at which a network may be asked: ``start`` where it knows every time above that."""
        return self.start

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

    def grid(self, num_steps: int, *, begin: float | None = None, stop: float | None = None) -> Times:
        """``num_steps + 1`` decreasing times, even as far as a network knows them; the last step leads from there to the data.

        Args:
            num_steps: steps of a reverse process, at least 1.
            begin: the first time; ``end`` where ``None``.
            stop: the last time; ``start`` where ``None``.

        Returns:
            Float["num_steps+1"], in the unit of the schedule's time.

        Raises:
            ArgumentError: no steps, or times outside the schedule or in the wrong order.
        """
        first, last = self._ends(num_steps, begin, stop)
        # In double precision, so that a grid of a table's entries has whole numbers in it.
        if last < self.cleanest:
            return jnp.asarray(np.append(np.linspace(first, self.cleanest, num_steps), last), float)
        return jnp.asarray(np.linspace(first, last, num_steps + 1), float)

    def log_grid(self, num_steps: int, smallest: float = 0.01) -> Times:
        """``num_steps + 1`` decreasing times, even in the log of the noise ratio, then one last step to ``start``.

        Args:
            num_steps: steps of a reverse process, at least 2.
            smallest: noise ratio before the last step, unless a network knows none as small.

        Returns:
            Float["num_steps+1"], in the unit of the schedule's time.

        Raises:
            ArgumentError: no steps.
        """
        first, start = self._ends(num_steps, None, None)
        most, known, least = (
            float(self.noise_ratio(jnp.asarray(time, float))) for time in (first, self.cleanest, start)
        )
        to_data = start < self.cleanest or least < smallest
        target = np.geomspace(most, max(smallest, known), num_steps + (not to_data))
        low, high = np.full(target.size, self.cleanest), np.full(target.size, first)
        ratio = jax.jit(jax.vmap(self.noise_ratio))
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = np.asarray(ratio(jnp.asarray(middle, float))) < target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        times = np.concatenate([[first], high[1:], [start] if to_data else []])
        if known >= smallest:
            times[num_steps - to_data] = self.cleanest
        return jnp.asarray(times, float)

    def _ends(self, num_steps: int, begin: float | None, stop: float | None) -> tuple[float, float]:
        """First and last time of a grid, checked."""
        validate.count("num_steps", num_steps)
        first, last = self.end if begin is None else begin, self.start if stop is None else stop
        if not self.start <= last < self.end:
            raise ArgumentError(
                "the last time is outside the schedule", expected=f"in [{self.start}, {self.end})", got=last
            )
        if not max(last, self.cleanest) < first <= self.end and not (num_steps == 1 and last < first <= self.end):
            raise ArgumentError(
                "the first time is outside the schedule",
                expected=f"in ({max(last, self.cleanest)}, {self.end}], with a network that knows it",
                got=first,
            )
        return first, last


def remaining_variance(noise_ratio: Scalar, data_std: Scalar | float) -> Scalar:
    r"""Variance of normal data given a noisy point, :math:`\rho^2 d^2 / (\rho^2 + d^2)`: that of the data under much noise.

    Args:
        noise_ratio: Float[""], rho, above zero; it may be infinite.
        data_std: Float[""], d, in the unit of the data.
    """
    # Divided through by the squared ratio, which may overflow.
    return data_std**2 / (1.0 + (data_std / noise_ratio) ** 2)


def check_schedule(schedule: NoiseSchedule, times: Times | None = None) -> None:
    """Raise `ArgumentError` unless alpha is positive and falls, and the noise ratio grows, along the times.

    Args:
        schedule: any schedule; the user's own, perhaps.
        times: Float["num_times"], decreasing; a grid of 100 steps where ``None``.
    """
    if not isinstance(schedule, NoiseSchedule):
        raise ArgumentError(
            "this is no noise schedule",
            expected="diffusion.Cosine(), diffusion.tabulated(alpha_bar), ... or a NoiseSchedule of your own",
            got=type(schedule).__name__,
        )
    if not schedule.start < schedule.end:
        raise ArgumentError(
            "the schedule ends before it starts",
            expected="start < end: data at the small end of time, noise at the large one",
            got=(schedule.start, schedule.end),
        )
    grid = schedule.grid(100) if times is None else times
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise ArgumentError("times of the wrong shape", expected="a vector of two or more", got=grid.shape)
    clock = np.asarray(grid, np.float64)
    values = {
        "the grid of times": -clock,
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
    if clock[-2] < schedule.cleanest * (1.0 - 1e-6) - 1e-6 or clock[-1] < schedule.start - 1e-6:
        raise ArgumentError(
            "the network would be asked at a time that it does not know",
            expected=f"times down to {schedule.cleanest:.4g}, then the data at {schedule.start:.4g} in one step",
            got=clock[-3:].tolist(),
        )


def _with_slope(function, time: Scalar) -> tuple[Array, Array]:  # noqa: ANN001
    time = jnp.asarray(time, float)
    return jax.jvp(function, (time,), (jnp.ones_like(time),))
