r"""A potential that is turned up: what every family on a path of exponents has in common, however its particles move.

.. math:: \gamma_t(x) = \mu(x)\, e^{\lambda_t \Phi(x)}, \qquad 0 = \lambda_0 < \lambda_1 < \dots < \lambda_T = 1

Before step t the schedule picks :math:`\lambda_t` from the weighted particles. The step weighs each of them by
:math:`e^{(\lambda_t - \lambda_{t-1}) \Phi}`, which is known before it moves, so that resampling already sees it.

Source: Del Moral, Doucet & Jasra (2006), section 3.3.2.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population, follow_leader
from smcinfer.core.plan import Plan
from smcinfer.core.weights import normalise
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.paths.schedules import ESS, Schedule, times

# Moves forget most of where they were at each step, so noise that is three steps old no longer matters to log Z.
LAG = 3
MAX_STEPS = 1000


class Place(eqx.Module):
    """Where a run stands on its path: the step, its exponent, and how far that is from the one before."""

    t: Int[Array, ""]
    exponent: Scalar
    rise: Scalar

    def shown(self) -> dict[str, Scalar]:
        """What the history records of it."""
        return {"exponent": self.exponent}


class Travelled(eqx.Module):
    """What a run keeps between steps.

    Attributes:
        at: its place: a `Place` by exponents, a `smcinfer.paths.levels.Level` by levels.
        params: of the moves.
        report: of the last moves.
    """

    at: Any
    params: PyTree[Any]
    report: dict[str, Scalar]


class Rising(FeynmanKac):
    """A Feynman-Kac model whose potential is turned up; subclasses write `start`, `log_potential` and `mutate`.

    Attributes:
        schedule: how exponents are chosen.
        max_steps: the most exponents that an adaptive schedule may take; 1000 where ``None``.
        led: run 0 chooses exponents, parameters and numbers of moves for all, so that log Z of the others is exactly
            unbiased; else every run chooses for itself, with a bias of order 1/N.
    """

    schedule: Schedule = eqx.field(kw_only=True, default=ESS())
    max_steps: int | None = eqx.field(static=True, kw_only=True, default=None)
    led: bool = eqx.field(static=True, kw_only=True, default=True)

    weighted_for: ClassVar[str] = "the target at exponent one, base times potential; log Z is of its total mass"
    reports: ClassVar[tuple[str, ...]] = ()
    """What the moves of a step report, by name; counts are called ``num_*``."""

    def __check_init__(self) -> None:
        validate.flag("led", self.led)
        if self.max_steps is not None:
            validate.count("max_steps", self.max_steps)
            if self.schedule.horizon is not None:
                raise ArgumentError(
                    "a schedule of given steps takes no max_steps", expected="max_steps=None", got=self.max_steps
                )

    @abc.abstractmethod
    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the base with their log weights; its info, where it has any, is what `reports` names, at t = 0."""

    @abc.abstractmethod
    def log_potential(self, particles: Particles) -> LogWeights:
        """log Phi of every particle at full strength, nats; cheap, because the particles keep it."""

    def parameters(self) -> PyTree[Any]:
        """Parameters of the moves before any was made; ``None`` where there is nothing to tune."""
        return

    def tune(
        self, params: PyTree[Any], particles: Particles, log_weights: LogWeights, report: dict[str, Scalar]
    ) -> PyTree[Any]:
        """Parameters for the next moves.

        Args:
            params: the parameters so far.
            particles: before they move.
            log_weights: Float["num_particles"], normalised, as the next exponent weighs them.
            report: of the last moves; NaN before there were any.
        """
        del particles, log_weights, report
        return params

    def log_increments(self, particles: Particles, at: Place) -> LogWeights:
        """What the step to ``at`` weighs, known before the particles move: the rise of the exponent times the potential."""
        return times(at.rise, self.log_potential(particles))

    @property
    def plan(self) -> Plan:
        """Resamples as the schedule asks; moves forget quickly, so the error bar looks back over a few steps."""
        rule = self.schedule
        return Plan(self.weighted_for, rule.resample_below, resamples_always=rule.resamples_always, lag=LAG)

    @property
    def num_steps(self) -> int:
        """Steps of a given schedule, or the most that an adaptive one may take."""
        return self.schedule.horizon or self.max_steps or MAX_STEPS

    @property
    def fixed_horizon(self) -> bool:
        """Whether the schedule was given beforehand."""
        return self.schedule.horizon is not None

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the base, at exponent zero."""
        started = self.start(key, num_particles)
        zero = jnp.zeros((), started.log_weights.dtype)
        report = {name: zero if name.startswith("num_") else jnp.full_like(zero, jnp.nan) for name in self.reports}
        shared = Travelled(self.foot(zero), self.parameters(), report)
        known = {name: jnp.asarray(value, zero.dtype) for name, value in started.info.items()}
        return Mutation(started.particles, started.log_weights, shared, self.info(shared) | known, started.status)

    def foot(self, zero: Scalar) -> Place:
        """Where the path starts, in the precision of ``zero``."""
        return Place(jnp.zeros((), jnp.int32), zero, zero)

    def adapt(self, t: Int[Array, ""], population: Population, shared: Travelled) -> Travelled:
        """The next exponent, and parameters tuned to the cloud weighted for it."""
        particles, log_weights, before = population.particles, population.log_weights, shared.at.exponent
        potential = outside(self.log_potential(particles))
        exponent = self.schedule.next(t, before, log_weights, potential).astype(before.dtype)
        terms = outside(self.log_increments(particles, Place(t, exponent, exponent - before)))
        params = self.tune(shared.params, particles, normalise(log_weights + terms)[0], shared.report)
        exponent, params = follow_leader((exponent, params)) if self.led else (exponent, params)
        return Travelled(Place(t, exponent, exponent - before), params, shared.report)

    def look_ahead(self, t: Int[Array, ""], particles: Particles, shared: Travelled) -> LogWeights:
        """The step's weight for the rise of the exponent."""
        del t
        return self.log_increments(particles, shared.at)

    def info(self, shared: Travelled) -> dict[str, Any]:
        """What the history records of a step."""
        return shared.at.shown() | shared.report

    def done(self, shared: Travelled) -> Flag:
        """Whether the path has reached one (and the particles have moved there)."""
        return shared.at.exponent >= 1.0

    def progress(self, t: Int[Array, ""], shared: Travelled) -> Scalar:
        """Where the path is: by steps where they are given, else on a scale that spends as much bar near zero as near one."""
        if self.fixed_horizon:
            return super().progress(t, shared)
        return jnp.maximum(shared.at.exponent, 0.0) ** 0.25


def outside(log_values: LogWeights) -> LogWeights:
    """Values of a potential in which NaN and plus infinity count as outside the support."""
    return jnp.where(jnp.isnan(log_values) | (log_values == jnp.inf), -jnp.inf, log_values)
