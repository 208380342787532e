r"""A path of tolerances: simulated data must come closer and closer to the data.

.. math:: \gamma_t(\theta, s_{1:M}) = p(\theta) \prod_m p(s_m \mid \theta)
    \ \cdot\ \frac1M \sum_m 1\{d(s_m, y) \le \epsilon_t\}

The next tolerance is the smallest that leaves ``fraction`` of the effective sample size. The normaliser of the law at
:math:`\epsilon` is the probability, under the prior, that simulated data come that close.

Source: Del Moral, Doucet & Jasra (2012), section 3.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import Mutation, Population, follow_leader
from smcinfer.core.weights import ess
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Particles, Scalar
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place, Travelled
from smcinfer.paths.schedules import BISECTIONS


class TolerancePath(Path):
    """A path whose place is a tolerance that falls; subclasses write `start`, `distances` and `move`.

    In `Place` the tolerance stands for the exponent, and ``rise`` for how far it fell.

    Attributes:
        tolerance: where to stop; ``None`` to stop where moves are accepted too rarely.
        fraction: of the effective sample size that a step keeps, in (0, 1).
        least_acceptance: stop where the moves of a step are accepted less often.
    """

    tolerance: float | None = eqx.field(static=True, kw_only=True, default=None)
    fraction: float = eqx.field(static=True, kw_only=True, default=0.5)
    least_acceptance: float = eqx.field(static=True, kw_only=True, default=0.03)

    reports: ClassVar[tuple[str, ...]] = ("acceptance", "num_evals")

    def __check_init__(self) -> None:
        validate.number("fraction", self.fraction, above=0.0, below=1.0)
        validate.fraction("least_acceptance", self.least_acceptance)
        if self.tolerance is not None:
            validate.number("tolerance", self.tolerance, at_least=0.0)

    @abc.abstractmethod
    def distances(self, particles: Particles) -> Float[Array, "n m"]:
        """How far the simulations of each particle are from the data, NaN where one failed."""

    def log_near(self, particles: Particles, tolerance: Scalar) -> LogWeights:
        """Log of the share of simulations that are within a tolerance."""
        near = jnp.mean((_known(self.distances(particles)) <= tolerance).astype(tolerance.dtype), axis=1)
        return jnp.log(near)

    def log_potential(self, particles: Particles) -> LogWeights:
        """Minus the least distance: what moves must forget."""
        return -jnp.min(_known(self.distances(particles)), axis=1)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the prior and their simulations; any distance will do."""
        begun = super().init(key, num_particles)
        shared: Any = begun.shared
        wide = jnp.full_like(shared.at.exponent, jnp.inf)
        shared = dataclasses.replace(shared, at=Place(shared.at.t, wide, jnp.zeros_like(wide)))
        known = {name: begun.info[name] for name in ("num_evals", "num_move_steps", "autocorrelation", "gap")}
        return dataclasses.replace(begun, shared=shared, info=self.info(shared) | known)

    def adapt(self, t: Int[Array, ""], population: Population, shared: Travelled) -> Travelled:
        """The next tolerance, and parameters tuned to the particles that are within it."""
        particles, log_weights, before = population.particles, population.log_weights, shared.at.exponent
        tolerance = self._next(particles, log_weights, before)
        terms = self.log_increments(particles, Place(t, tolerance, before - tolerance))
        params = self.tune(shared.params, particles, log_weights + terms, shared.report)
        tolerance, params = follow_leader((tolerance, params)) if self.led else (tolerance, params)
        return Travelled(Place(t, tolerance, before - tolerance), params, shared.report)

    def _next(self, particles: Particles, log_weights: LogWeights, before: Scalar) -> Scalar:
        """The smallest tolerance that keeps the effective sample size, below the last one wherever a distance is."""
        distances = _known(self.distances(particles))
        wanted = self.fraction * ess(log_weights)
        far = jnp.max(jnp.where(jnp.isfinite(distances), distances, -jnp.inf))
        high, low = jnp.minimum(before, far), jnp.min(distances)
        was = self.log_near(particles, before)

        def halve(_: Any, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            low, high = bracket
            middle = 0.5 * (low + high)
            now = self.log_near(particles, middle)
            kept = jnp.where(now > -jnp.inf, log_weights + now - was, -jnp.inf)
            good = (jnp.max(kept) > -jnp.inf) & (ess(kept) >= wanted)
            return jnp.where(good, low, middle), jnp.where(good, middle, high)

        found = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))[1]
        # Distances that repeat (counts, say): the path must go on wherever something is nearer.
        nearer = jnp.max(jnp.where(distances < before, distances, -jnp.inf))
        found = jnp.where(nearer > -jnp.inf, jnp.minimum(found, nearer), found)
        return found if self.tolerance is None else jnp.maximum(found, self.tolerance).astype(found.dtype)

    def log_increments(self, particles: Particles, at: Place) -> LogWeights:
        """What the fall of the tolerance weighs."""
        now, was = self.log_near(particles, at.exponent), self.log_near(particles, at.exponent + at.rise)
        return jnp.where(now > -jnp.inf, now - was, -jnp.inf)

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: Particles, shared: Travelled, resampled: Flag
    ) -> Mutation:
        """Moves at the new tolerance; whether they were accepted too rarely, the leader says for all."""
        moved = super().mutate(key, t, particles, shared, resampled)
        after: Any = moved.shared
        if not self.led:
            return moved
        return dataclasses.replace(moved, shared=Travelled(after.at, after.params, follow_leader(after.report)))

    def info(self, shared: Travelled) -> dict[str, Any]:
        """What the history records of a step: the tolerance, where other paths have an exponent."""
        return {"tolerance" if name == "exponent" else name: value for name, value in super().info(shared).items()}

    def done(self, shared: Travelled) -> Flag:
        """Whether the tolerance is reached, or moves are accepted too rarely to go on."""
        stalled = shared.report["acceptance"] < self.least_acceptance
        return stalled if self.tolerance is None else stalled | (shared.at.exponent <= self.tolerance)

    def unfinished(self, shared: Travelled) -> Flag:
        """Whether a tolerance that was asked for was not reached."""
        if self.tolerance is None:
            return jnp.asarray(False)
        return shared.at.exponent > self.tolerance

    def progress(self, t: Int[Array, ""], shared: Travelled) -> Scalar:
        """How many steps are left nobody knows: half of the bar is ten steps."""
        return jnp.where(self.done(shared), 1.0, t / (t + 10.0))


def _known(distances: Float[Array, "n m"]) -> Float[Array, "n m"]:
    return jnp.where(jnp.isnan(distances), jnp.inf, distances)
