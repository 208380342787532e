r"""Rules for likelihood levels: how high the next one is.

A level is a height h of the potential and a tie v in [0, 1]. A particle of potential :math:`\Phi` that carries a uniform u
stands above it where

.. math:: \Phi > h \quad\text{or}\quad \Phi = h \text{ and } u < v,

so that a level can pass through a plateau, on which any share of the particles may be left behind.
"""

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Bool, Float, Int, LogWeights, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.paths.schedules import Schedule


class Level(eqx.Module):
    """A level, and whether the path ends there.

    Attributes:
        t: the step.
        height: h, nats.
        tie: v.
        last: whether all that stands above is left behind at this step, and nothing moves.
        enough: whether what stands above can add next to nothing.
    """

    t: Int[Array, ""]
    height: Scalar
    tie: Scalar
    last: Bool[Array, ""]
    enough: Bool[Array, ""]

    def shown(self) -> dict[str, Scalar]:
        """What the history records of it."""
        return {"level": self.height}

    def above(self, log_potential: LogWeights, ties: Float[Array, " n"]) -> Bool[Array, " n"]:
        """Which particles stand above.

        Args:
            log_potential: of each, nats.
            ties: u of each.
        """
        return (log_potential > self.height) | ((log_potential == self.height) & (ties < self.tie))

    def log_indicator(self, log_potential: Array) -> Array:
        """Log of the probability over u that a potential stands above: the law of the particles there, less the base."""
        on = jnp.where(log_potential == self.height, jnp.log(self.tie), -jnp.inf)
        return jnp.where(log_potential > self.height, 0.0, on).astype(log_potential.dtype)


class Levels(Schedule):
    """A rule for levels in place of exponents; every step resamples."""

    @property
    def resample_below(self) -> float:
        """One: those left behind are replaced at every step."""
        return 1.0

    @property
    def resamples_always(self) -> bool:
        """Particles that are left behind cannot be carried along."""
        return True

    def tie(self, before: Level, height: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """The tie of the next level; 0 leaves all on its height behind.

        Args:
            before: the level so far.
            height: of the next.
            log_weights: Float["n"], normalised.
            log_potential: Float["n"], nats.
        """
        del before, log_weights, log_potential
        return jnp.zeros_like(height)


class Survival(Levels):
    """Adaptive: a level above which a given share of the particles stands, plateaus included.

    Attributes:
        share: in (0, 1), of the particles that go on.
    """

    share: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        validate.number("survival", self.share, above=0.0, below=1.0)

    def next(self, t: Int[Array, ""], exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """The quantile of the potential that leaves the share on it or above."""
        del t, exponent
        order = jnp.argsort(-log_potential)
        reached = jnp.cumsum(jnp.exp(log_weights[order])) >= self.share * (1 - 1e-6)
        return log_potential[order[jnp.argmax(reached)]]

    def tie(self, before: Level, height: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """Those on the height fill up what is lacking above it."""
        weights = jnp.exp(log_weights)
        higher = jnp.sum(jnp.where(log_potential > height, weights, 0.0))
        level = jnp.sum(jnp.where(log_potential == height, weights, 0.0))
        part = jnp.clip((self.share - higher) / level, 0.0, 1.0)
        # On the plateau that the last level went through, ties are uniform below its own.
        return jnp.where(height == before.height, part * before.tie, part)


class Heights(Levels):
    """Given beforehand: nothing about the path depends on the particles.

    Attributes:
        heights: Float["num_levels"], increasing, nats.
    """

    heights: Float[Array, " num_levels"]

    def __check_init__(self) -> None:
        values = self.heights
        if isinstance(values, Tracer):
            return
        if values.ndim != 1 or values.size == 0 or not bool(jnp.all(jnp.diff(values) > 0)):
            raise ArgumentError("levels are no levels", expected="increasing numbers, nats", got=values.tolist())

    @property
    def horizon(self) -> int | None:
        """A step for each level, and one in which what is left is gathered."""
        return self.heights.shape[0] + 1

    def next(self, t: Int[Array, ""], exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """The t-th height, whatever the particles."""
        del exponent, log_weights, log_potential
        return self.heights[jnp.minimum(t, self.heights.shape[0]) - 1]


def by_share(levels: object) -> Levels:
    """A rule from the share that survives, a list of heights or a `Levels`."""
    if isinstance(levels, Levels):
        return levels
    if isinstance(levels, int | float):
        return Survival(float(levels))
    try:
        return Heights(jnp.asarray(levels, jnp.result_type(float)))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "survival is no rule for levels", expected="a share in (0, 1), or a list of levels", got=repr(levels)
        ) from error
