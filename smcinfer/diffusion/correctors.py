r"""Feynman-Kac correctors: powers, products and guidance of diffusion models, with the weights that make them exact.

.. math::
    \pi(x) \propto \prod_i q_i(x)^{b_i}\, e^{\beta r(x)}, \qquad Z = \int \prod_i q_i(x)^{b_i}\, e^{\beta r(x)}\, dx

along the noised densities :math:`\prod_i q_{i,u}^{b_i} e^{\beta_u r}`. With :math:`g_i = \nabla \log q_{i,u}`,
:math:`G = \sum b_i g_i`, :math:`B = \sum b_i`, reverse time :math:`\tau`, any amount of noise z and any pull a,

.. math::
    dx &= \bigl( -f + a g^2 G + \tfrac{z^2}{2} g^2 \beta \nabla r \bigr) d\tau + z g\, dW \\
    d\log w &= \Bigl[ (B - 1) \operatorname{div} f + \beta' r - \beta \langle \nabla r, f \rangle
        - \tfrac{g^2}{2} \sum_i b_i |g_i|^2 \\
        &\quad + \bigl(a - \tfrac{z^2}{2}\bigr) g^2 \bigl(|G|^2 + \beta \langle G, \nabla r \rangle \bigr)
        + \bigl(a - \tfrac{1 + z^2}{2}\bigr) g^2 \operatorname{div} G \Bigr] d\tau .

Two choices are made of a. With :math:`a = (1 + z^2) / 2` the divergence of the scores cancels (Skreta et al.), so
scores are all it takes. With the *matched* noise :math:`z^2 = a = 1 / B` a Gaussian density is followed without any
weight at all: far out, where all densities are nearly Gaussian, particles then keep their weights, and what is left
to weigh is the shape of the data. It costs the divergence, one derivative a dimension, unless B is one, where the two
agree. In many dimensions random probes estimate it (Hutchinson 1990): with signs :math:`\zeta_k`,

.. math::
    \operatorname{div} G \approx \frac1K \sum_k \zeta_k^\top (\partial G) \zeta_k, \qquad
    \log w \mathrel{-}= \tfrac12 s^2 / K

with :math:`s^2` the variance of the step's log weight among probes: the exponential of an unbiased estimate is too large by
half its variance, and this takes it off. What is left is of the order of :math:`s^4`; the history has :math:`s / \sqrt K`
as ``probe_noise``.

In the coordinates :math:`y = x / \alpha` the drift f is gone and the noise ratio squared is the clock; its terms are
then exact, and what is left is integrated step by step, with the data held where the pull is strong and the noise held
where it is matched. That integral has a bias of the order of the step. Where the log densities are known too, the
weights of the discrete chain are exact ratios and there is no bias at any number of steps:

.. math:: w_t = \frac{\pi_t(y_t)\, N(y_{t-1};\, y_t,\, v)}{\pi_{t-1}(y_{t-1})\, N(y_t;\, \mu(y_{t-1}),\, v)},
          \qquad v = (\rho_{t-1}^2 - \rho_t^2) / B .

Source: Skreta et al. (2025), propositions 3.1 to 3.3.
"""

from collections.abc import Callable
from typing import override

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.diffusion.divergence import divergence
from smcinfer.diffusion.model import Model
from smcinfer.diffusion.process import GaussianSteps
from smcinfer.diffusion.rewards import Reward
from smcinfer.diffusion.schedule import NoiseSchedule
from smcinfer.ground.arrays import Array, Float, Point, Scalar, Time

LogDensity = Callable[[Array, Array], Array]
"""``(x, time) -> Float[""]``: log of a noised density."""


class Corrected(eqx.Module):
    """Where one particle of a corrected diffusion stands.

    Attributes:
        x: Float["*shape"], the point.
        noise: Float["*shape"], the noise of all models together, sum of b times epsilon.
        slope: Float["*shape"], beta times the gradient of the reward in y, or ``None``.
        log_target: Float[""], log of the unnormalised target where densities are known, else zero.
        log_weight: Float[""], what the step that arrived here earned, nats.
        probe_variance: Float[""], variance of the log weight of the step from here that random probes cause, or ``None``.
    """

    x: Point
    noise: Point
    slope: Point | None
    log_target: Scalar
    log_weight: Scalar
    probe_variance: Scalar | None = None


class Corrector(GaussianSteps):
    """Models multiplied with powers, as a process whose state carries the weight of its last step (made by `corrected`).

    Attributes:
        models: of one schedule and shape.
        powers: Float["T+1 num_models"], b; constant in time unless log densities are given.
        times: Float["T+1"], decreasing.
        variance: Float[""], of x under every model at the first time.
        noise_scale, pull: z and a.
        log_densities: of every model, ``(x, time) -> Float[""]``, or ``None`` for integrated weights.
        reward, strengths: log phi, and Float["T+1"], beta of it.
        matched: whether noise and pull are matched to B.
        divergence: whether the divergence of the scores enters the weights.
        num_probes: K, or 0 for the divergence itself.
    """

    models: tuple[Model, ...]
    powers: Float[Array, "num_times num_models"]
    times: Float[Array, " num_times"]
    variance: Scalar
    noise_scale: Scalar
    pull: Scalar
    log_densities: tuple[LogDensity, ...] | None
    reward: Reward | None
    strengths: Float[Array, " num_times"]
    matched: bool = eqx.field(static=True)
    divergence: bool = eqx.field(static=True)
    num_probes: int = eqx.field(static=True)

    @property
    @override
    def schedule(self) -> NoiseSchedule:
        return self.models[0].schedule

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return self.models[0].shape

    @property
    def start_std(self) -> Scalar:
        """Standard deviation of the power B of a normal law: narrower by the root of B."""
        return jnp.sqrt(self.variance / jnp.sum(self.powers[0]))

    @override
    def moments(self, t: Time, state: Corrected) -> tuple[Point, Scalar]:
        """Mean and variance of the step, solved in y with the noise held, or the data where the pull is strong."""
        schedule, before, now = self.schedule, self.times[t - 1], self.times[t]
        alpha, rho, earlier = schedule.alpha(now), schedule.noise_ratio(before), schedule.noise_ratio(now)
        passed, square, total = rho**2 - earlier**2, self.noise_scale**2, jnp.sum(self.powers[t - 1])
        if self.matched:
            pulled, spread = 2.0 * self.pull * (rho - earlier), passed
            if self.log_densities is None:
                # The last step ends at the mean of the data: noise held over it would stay in the sample.
                clean = earlier <= 0
                pulled, spread = jnp.where(clean, rho / total, pulled), jnp.where(clean, 0.0, spread)
        else:
            # Far out the step is a linear one that contracts by the power 2 a B of the noise ratio: solved exactly.
            power = 2.0 * self.pull * total
            power = jnp.where(jnp.abs(power - 1.0) < 1e-3, 1.001, power)
            shrink = earlier / rho
            pulled = rho / total * (1.0 - shrink**power)
            spread = (earlier**2 - shrink ** (2.0 * power) * rho**2) / (power - 1.0)
        mean = state.x / schedule.alpha(before) - pulled * state.noise
        if state.slope is not None:
            # Half the slope leaves its Laplacian out of the integrated weights; exact ones take the better, whole one.
            mean = mean + (0.5 if self.log_densities is None else 1.0) * square * passed * state.slope
        return alpha * mean, alpha**2 * square * spread

    @override
    def advance(self, t: Time, state: Corrected | None, x: Point) -> Corrected:
        """Run the models at the new point, and weigh the step."""
        exact = self.log_densities is not None

        def look(x: Point) -> tuple[Point, Point | None, Scalar, Scalar]:
            noise, slope, rate, variance = self._forces(t, x)
            clock = self._clock(t)
            spread = variance * clock**2
            gained = jnp.zeros(()) if exact else rate * clock - 0.5 * spread + self._reward_gain(t, x)
            return noise, slope, gained, spread

        def arrived(x: Point) -> tuple[Point, Point | None, Scalar, Scalar]:
            slope = None if self.reward is None else jnp.zeros_like(x)
            return jnp.zeros_like(x), slope, jnp.zeros(()), jnp.zeros(())

        noise, slope, log_weight, spread = jax.lax.cond(t >= self.num_steps, arrived, look, x)
        log_target = self._log_target(t, x) if exact else jnp.zeros(())
        if exact:
            log_weight = self._ratio(t, state, x, log_target)
        elif state is None:
            log_weight = log_weight + self._log_start()
        return Corrected(x, noise, slope, log_target, log_weight, spread if self.num_probes else None)

    def log_potential(self, t: Time, state: Corrected) -> Scalar:
        """What the step earned."""
        del t
        return state.log_weight

    def _forces(self, t: Time, x: Point) -> tuple[Point, Point | None, Scalar, Scalar]:
        """Noise, slope, the rate of the log weight per unit of the noise ratio squared, and its variance among probes."""
        time, powers = self.times[t], self.powers[t]
        rho, alpha = self.schedule.noise_ratio(time), self.schedule.alpha(time)

        def together(x: Point) -> tuple[Point, Scalar]:
            noises = [model.predict(x, time).noise for model in self.models]
            noise = sum((b * eps for b, eps in zip(powers, noises, strict=True)), jnp.zeros(self.shape))
            squares = sum((b * jnp.sum(eps**2) for b, eps in zip(powers, noises, strict=True)), jnp.zeros(()))
            return noise, squares

        excess = self.pull - 0.5 * self.noise_scale**2
        rate = variance = jnp.zeros(())
        if self.divergence:
            noise, derivative, squares = jax.linearize(together, x, has_aux=True)
            scale = -(excess - 0.5) * alpha / rho
            found, spread = divergence(derivative, x, self.num_probes)
            rate, variance = scale * found, scale**2 * spread
        else:
            noise, squares = together(x)
        rate = rate + (excess * jnp.sum(noise**2) - 0.5 * squares) / rho**2
        if self.reward is None:
            return noise, None, rate, variance
        slope = self.strengths[t] * alpha * jax.grad(self.reward)(x)
        return noise, slope, rate - excess * jnp.sum(noise * slope) / rho, variance

    def _clock(self, t: Time) -> Scalar:
        """The share of the integral that the rate at step t stands for.

        The trapezoidal rule in the log of the noise ratio, for far out the rate falls as the ratio squared grows. The
        last step is weighed by where it starts, so that nothing is asked of the models at the sample.
        """
        ratio = lambda t: self.schedule.noise_ratio(self.times[jnp.clip(t, 0, self.num_steps)])  # noqa: E731
        here = ratio(t)
        last = t + 1 >= self.num_steps
        behind = jnp.log(ratio(t - 1) / here)
        ahead = jnp.where(last, 0.0, jnp.log(here / jnp.where(last, here, ratio(t + 1))))
        return here**2 * (behind + ahead) + jnp.where(last, here**2 - ratio(t + 1) ** 2, 0.0)

    def _reward_gain(self, t: Time, x: Point) -> Scalar:
        """What the reward path gains from here to the next step at a fixed y."""
        if self.reward is None:
            return jnp.zeros(())
        scale = self.schedule.alpha(self.times[t + 1]) / self.schedule.alpha(self.times[t])
        return self.strengths[t + 1] * self.reward(scale * x) - self.strengths[t] * self.reward(x)

    def _log_start(self) -> Scalar:
        """log of the integral of N(0, h)^B, and of all that f does to the volume on the way."""
        total, dim = jnp.sum(self.powers[0]), int(np.prod(self.shape))
        start = 0.5 * dim * ((1.0 - total) * jnp.log(2.0 * jnp.pi * self.variance) - jnp.log(total))
        first, last = self.schedule.alpha(self.times[0]), self.schedule.alpha(self.times[-1])
        return start + (total - 1.0) * dim * jnp.log(first / last)

    def _log_target(self, t: Time, x: Point) -> Scalar:
        """log pi_t of a point, as a density of y."""
        time = self.times[t]
        terms = [b * f(x, time) for b, f in zip(self.powers[t], self.log_densities or (), strict=True)]
        reward = jnp.zeros(()) if self.reward is None else self.strengths[t] * self.reward(x)
        return sum(terms, reward) + int(np.prod(self.shape)) * jnp.log(self.schedule.alpha(time))

    def _ratio(self, t: Time, state: Corrected | None, x: Point, log_target: Scalar) -> Scalar:
        """The exact weight of the step (module equation), or of the start."""
        if state is None:
            alpha = self.schedule.alpha(self.times[0])
            return log_target - int(np.prod(self.shape)) * jnp.log(alpha) - self.initial().log_prob(x)
        mean, variance = self.moments(t, state)
        now, before = self.schedule.alpha(self.times[t]), self.schedule.alpha(self.times[t - 1])
        back = jnp.sum((now / before * state.x - x) ** 2)
        return log_target - state.log_target + 0.5 * (jnp.sum((x - mean) ** 2) - back) / variance
