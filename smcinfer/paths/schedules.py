r"""How far the next temperature may go: rules for the exponents of a tempering path.

Every rule answers one question: given the current *weighted* particles and their potentials, what is the next exponent?
The adaptive ones bisect on an effective sample size of the step's own increments,

.. math:: \text{the largest } \delta \text{ with } \mathrm{ESS}(W_i e^{\delta \Phi_i})
    \ge \alpha\,\mathrm{ESS}(W_i 1\{\Phi_i > -\infty\}),

where the right side leaves out the particles that any positive exponent kills: else a prior that is half outside the
support could never take a first step.
"""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from smcinfer.core.weights import conditional_ess, ess
from smcinfer.ground.arrays import Array, Float, Int, LogWeights, Scalar
from smcinfer.ground.errors import ArgumentError

BISECTIONS = 60


class Schedule(eqx.Module):
    """A rule for exponents.

    ``resample_below`` is the fraction of N under which the driver should resample.
    """

    if TYPE_CHECKING:  # a type checker takes an abstract field for an argument of every constructor

        @property
        def resample_below(self) -> float:
            """The fraction of N."""
            ...

    else:
        resample_below: eqx.AbstractVar[float]

    @property
    def resamples_always(self) -> bool:
        """Whether the rule is sound only where every step resamples."""
        return False

    @property
    def horizon(self) -> int | None:
        """How many steps the path has where they are given beforehand; ``None`` where the particles decide."""
        return None

    @abc.abstractmethod
    def next(self, t: Int[Array, ""], exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """The exponent of step t, in (``exponent``, 1]."""


def _largest(criterion: Callable[[Scalar], Array], exponent: Scalar) -> Scalar:
    """The largest exponent at which ``criterion(delta)`` still holds, by bisection of its logarithm; always moves on."""

    def halve(_: Any, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bracket
        middle = 0.5 * (low + high)
        good = criterion(jnp.exp(middle))
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    rest = 1.0 - exponent
    # On a log scale: under a vague base potentials reach -1e50, and the first exponent is as small.
    bracket = (jnp.log(jnp.finfo(rest.dtype).tiny), jnp.log(jnp.maximum(rest, jnp.finfo(rest.dtype).tiny)))
    low = jnp.exp(jax.lax.fori_loop(0, BISECTIONS, halve, bracket)[0])
    # The bracket may be narrower than the exponent's own precision: a path must move or it never ends.
    stepped = jnp.maximum(exponent + low, jnp.nextafter(exponent, jnp.ones_like(exponent)))
    # The barrier keeps XLA from choosing the exponent again for each use.
    return jax.lax.optimization_barrier(jnp.where(criterion(rest), 1.0, jnp.minimum(stepped, 1.0)))


def times(delta: Scalar, log_potential: LogWeights) -> LogWeights:
    """delta * Phi, with zero times minus infinity zero."""
    return jnp.where(delta > 0, delta * log_potential, 0.0)


class ESS(Schedule):
    """Adaptive: the effective sample size of a step's weights is ``fraction`` of what it could be.

    Resamples at every step. Sources: Del Moral, Doucet & Jasra (2012); Jasra et al. (2011).

    Attributes:
        fraction: in (0, 1); 0.5 is the usual compromise between few steps and good weights.
    """

    fraction: float = eqx.field(static=True, default=0.5)

    @property
    def resample_below(self) -> float:
        """One: the particles are resampled at every step."""
        return 1.0

    @property
    def resamples_always(self) -> bool:
        """A rule on the ESS of all weights so far freezes wherever weights are carried over a step."""
        return True

    def __check_init__(self) -> None:
        _check_fraction(self.fraction)

    def next(self, t: Int[Array, ""], exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """Bisect on the effective sample size."""
        del t
        alive = jnp.where(log_potential > -jnp.inf, log_weights, -jnp.inf)
        target = self.fraction * ess(alive)
        return _largest(lambda delta: ess(log_weights + times(delta, log_potential)) >= target, exponent)


class ConditionalESS(Schedule):
    """Adaptive: the conditional effective sample size of a step's increments on the weighted particles.

    The step length then does not depend on how degenerate the weights already are, so resampling may be rarer than
    the steps. Source: Zhou, Johansen & Aston (2016), section 3.3.2.

    Attributes:
        fraction: in (0, 1).
        resample_below: resample where the ESS falls below this fraction of N.
    """

    fraction: float = eqx.field(static=True, default=0.9)
    resample_below: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        _check_fraction(self.fraction)

    def next(self, t: Int[Array, ""], exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """Bisect on the conditional effective sample size."""
        del t
        killed = jnp.where(log_potential > -jnp.inf, 0.0, -jnp.inf)
        target = self.fraction * conditional_ess(log_weights, killed)
        return _largest(lambda delta: conditional_ess(log_weights, times(delta, log_potential)) >= target, exponent)


class Exponents(Schedule):
    """Explicit: a given increasing list of exponents that ends at one.

    Nothing about the path then depends on the particles.

    Attributes:
        exponents: Float["num_steps"], increasing, in (0, 1], the last one 1.
        resample_below: resample where the ESS falls below this fraction of N.
    """

    exponents: Float[Array, " num_steps"]
    resample_below: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        values = self.exponents
        if isinstance(values, Tracer):
            return
        good = values.ndim == 1 and values.size > 0
        if not good or not bool(jnp.all(jnp.diff(values) > 0)) or float(values[0]) <= 0 or float(values[-1]) != 1.0:
            raise ArgumentError(
                "the schedule is not a path from 0 to 1",
                expected="increasing exponents in (0, 1] that end at 1",
                got=values.tolist() if values.size < 12 else f"{values[:4].tolist()} ... {values[-2:].tolist()}",
                hint="leave out the 0 the path starts from; jnp.linspace(0, 1, 21)[1:] is one",
            )

    @property
    def horizon(self) -> int | None:
        """One step for each exponent."""
        return self.exponents.shape[0]

    def next(self, t: Int[Array, ""], exponent: Scalar, log_weights: LogWeights, log_potential: LogWeights) -> Scalar:
        """The t-th exponent of the list, whatever the particles."""
        del exponent, log_weights, log_potential
        return self.exponents[jnp.minimum(t, self.exponents.shape[0]) - 1]


def _check_fraction(fraction: float) -> None:
    if not 0.0 < fraction < 1.0:
        raise ArgumentError("the ESS fraction is out of range", expected="a number in (0, 1)", got=fraction)


def by_name(schedule: "str | Schedule | Array | list[float] | tuple[float, ...] | None") -> Schedule:
    """A schedule from a name (``"ess"``, ``"conditional_ess"``), a list of exponents or a `Schedule`."""
    if isinstance(schedule, Schedule):
        return schedule
    if schedule is None or (isinstance(schedule, str) and schedule == "ess"):
        return ESS()
    if isinstance(schedule, str) and schedule == "conditional_ess":
        return ConditionalESS()
    expected = '"ess", "conditional_ess", a list of exponents, or a smcinfer.Schedule'
    if isinstance(schedule, type):
        hint = f"call it: {schedule.__name__}()"
        raise ArgumentError("schedule is a class", expected=expected, got=f"the class {schedule.__name__}", hint=hint)
    try:
        exponents = jnp.asarray(schedule, jnp.result_type(float))
    except (TypeError, ValueError) as error:
        raise ArgumentError("unknown schedule", expected=expected, got=repr(schedule)) from error
    return Exponents(exponents)
