"""Polar slice sampling: radius and direction drawn at once, by rejection from an annulus around the slice."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, Flag, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels import affine, polar
from smcinfer.kernels.affine import SliceParams
from smcinfer.kernels.base import KernelState, Position, TemperedDensity
from smcinfer.kernels.lines import draw_level, is_inside
from smcinfer.kernels.metropolis import choose
from smcinfer.kernels.ticks import Machine, first_key, starting, tick_key

NUM_BISECTIONS = 40


class AnnulusMachine(Machine):
    """A transition under way.

    Attributes:
        axis: Float["dim"], the candidate's direction, stretched to the target's coordinates.
        coordinate: Float[""], the candidate's radius or its logarithm.
        lower, upper: Float[""], the annulus.
        level: Float[""], nats.
        tries: Int[""], points that may still be drawn.
        admitted: Bool[""], whether the chain may leave where it stands.
    """

    axis: Position
    coordinate: Scalar
    lower: Scalar
    upper: Scalar
    level: Scalar
    tries: Count
    admitted: Flag


class PolarSlice(polar.PolarKernel):
    r"""Polar slice sampling: for low dimensions, or a density whose radial form is known.

    .. math:: T \sim U(0, r^{d-1} \gamma_\lambda(x)), \qquad
        (r', \theta') \sim \text{uniform on } S_T \cap A, \quad S_T = \{r^{d-1} \gamma_\lambda(m + L r \theta) > T\}

    (with :math:`e^{ds} \gamma` for the log radius s), where A is an annulus, by drawing points of A until one is in
    :math:`S_T`; after ``max_tries`` of them the chain stays.

    *Why this is exact.* Given T and A, the points drawn do not depend on where in A the chain stands. With p the share of
    A that is in the slice, a chain in :math:`S_T \cap A` goes to the uniform law on it with probability
    :math:`1 - (1 - p)^M` and stays with probability :math:`(1 - p)^M`, the same numbers for every state there:
    a mixture of two kernels that are reversible for the uniform law. A chain outside A must then stay, for nothing in A
    could bring it back. Hence no bound on the slice is needed for exactness, only for reach:

    - by default A is laid at random about the current radius: :math:`[c - uw, c + (1 - u) w]`, with
      :math:`u \sim U(0, 1)`. All radii inside are as likely to have had it laid about them, so a move within it is
      reversible, and every radius can be reached in time;
    - ``annulus=(inner, outer)`` is the same for all: a chain beyond it stays there for good, and says so in `cap_reached`;
    - ``envelope`` bounds the log density by the radius: A is then where the envelope exceeds T, which holds all of
      :math:`S_T`: the sampler of the paper. Where the target is rotation invariant and the envelope is its density,
      every try is good. A chain that stands above the envelope stays, and says so.

    The expected number of tries is one over p, which falls exponentially with the dimension unless the slice fills the
    annulus: see `GibbsianPolarSlice` for the rest. Reversible.

    Args:
        radius: ``"log"`` or ``"linear"``: which radial coordinate is uniform on the slice.
        affine: as in `GibbsianPolarSlice`.
        width: of the annulus laid at random, in the radial coordinate; ``None`` spans the cloud's radii.
        annulus: inner and outer radius, in the kernel's coordinates.
        envelope: ``(radius, exponent) -> log density``, elementwise: an upper bound, nats, of the log density at that
            distance of the origin, for which the polar density has one mode; needs ``affine=False``.
        max_tries: points drawn before staying.

    Source: Roberts & Rosenthal (2002), section 3. The annulus laid at random: after Neal (2003), figure 8, without shrinkage.
    """

    annulus: tuple[float | int, float | int] | None = eqx.field(default=None, static=True)
    envelope: Callable[[Array, Array], Array] | None = eqx.field(default=None, static=True)
    max_tries: int = eqx.field(default=64, static=True)

    def __check_init__(self) -> None:
        affine.check_caps(max_tries=self.max_tries)
        given = [name for name in ("width", "annulus", "envelope") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ArgumentError("the annulus is given more than once", expected="one of them", got=", ".join(given))
        inner, outer = self.annulus or (1.0, 2.0)
        lowest_is_sound = inner > 0 or (inner == 0 and self.radius == "linear")
        if not (lowest_is_sound and inner < outer < float("inf")):
            raise ArgumentError(
                "annulus is out of range",
                expected="0 < inner < outer (inner may be 0 for the linear radius)",
                got=self.annulus,
            )
        if self.envelope is not None and self.affine:
            raise ArgumentError(
                "an envelope speaks of the target's own coordinates",
                expected="affine=False",
                got=f"affine={self.affine!r}",
            )

    def begin(self, key: KeyArray, state: KernelState, density: TemperedDensity, params: SliceParams) -> AnnulusMachine:
        """The level, the annulus, and the first point of it."""
        level_key, annulus_key, draw_key = jax.random.split(first_key(key), 3)
        radius, _, defined = polar.split(affine.whiten(params.cloud, state.position))
        here = polar.to_coordinate(self.radius, radius)
        log_here = jnp.where(defined, self.log_polar_density(state, here, density), -jnp.inf)
        level = draw_level(level_key, log_here)
        dim = state.position.shape[0]
        lower, upper, admitted = self._lay_annulus(annulus_key, here, level, dim, density.exponent, params)
        # A chain of weight zero stands nowhere: any point of the annulus may take it in.
        admitted |= ~jnp.isfinite(log_here)
        axis, coordinate = self._draw(draw_key, state.position, lower, upper, params)
        return AnnulusMachine(
            **starting(key, state),
            axis=axis,
            coordinate=coordinate,
            lower=lower,
            upper=upper,
            level=level,
            tries=jnp.where(admitted, self.max_tries, 1).astype(jnp.int32),
            admitted=admitted,
        )

    def point(self, machine: AnnulusMachine, params: SliceParams) -> Position:
        """The candidate of the annulus, in the target's coordinates."""
        return affine.centred(params.cloud, polar.to_radius(self.radius, machine.coordinate) * machine.axis)

    def receive(
        self, machine: AnnulusMachine, reached: KernelState, density: TemperedDensity, params: SliceParams
    ) -> AnnulusMachine:
        """Take the candidate, or draw another."""
        log_density = self.log_polar_density(reached, machine.coordinate, density)
        found = machine.admitted & is_inside(reached, log_density, machine.level)
        lost = ~found & (machine.tries <= 1)
        key = tick_key(machine)
        axis, coordinate = self._draw(key, reached.position, machine.lower, machine.upper, params)
        return replace(
            machine,
            tick=machine.tick + 1,
            current=choose(found, reached, machine.current),
            finished=found | lost,
            acceptance=machine.acceptance + found,
            capped=machine.capped | lost,
            axis=axis,
            coordinate=coordinate,
            tries=machine.tries - 1,
        )

    def _draw(
        self, key: KeyArray, like: Position, lower: Scalar, upper: Scalar, params: SliceParams
    ) -> tuple[Position, Scalar]:
        """A uniform direction, stretched, and a uniform radial coordinate of the annulus."""
        noise_key, radius_key = jax.random.split(key)
        direction = affine.unit_vector(jax.random.normal(noise_key, like.shape, like.dtype))
        coordinate = lower + jax.random.uniform(radius_key, dtype=like.dtype) * (upper - lower)
        return affine.stretch(params.cloud, direction), coordinate

    def _lay_annulus(
        self, key: KeyArray, here: Scalar, level: Scalar, dim: int, exponent: Scalar, params: SliceParams
    ) -> tuple[Scalar, Scalar, Flag]:
        """Ends of the annulus in the radial coordinate, and whether it is the one of all points in it."""
        if self.annulus is not None:
            inner, outer = (jnp.asarray(radius, here.dtype) for radius in self.annulus)
            lower, upper = polar.to_coordinate(self.radius, inner), polar.to_coordinate(self.radius, outer)
            return lower, upper, (here >= lower) & (here <= upper)
        if self.envelope is not None:
            envelope = self.envelope

            def height(log_radius: Array) -> Array:
                radius = jnp.exp(log_radius)
                jacobian = polar.log_jacobian(self.radius, polar.to_coordinate(self.radius, radius), dim)
                return jacobian + envelope(radius, exponent) - level

            start = jnp.log(polar.to_radius(self.radius, here))
            ends = [polar.to_coordinate(self.radius, jnp.exp(end)) for end in interval_above(height, start)]
            return ends[0], ends[1], height(start) >= 0
        width, offset = params.width.astype(here.dtype), jax.random.uniform(key, dtype=here.dtype)
        # Cutting off what no slice reaches into, radii below zero, cuts it off for every radius alike.
        lower = jnp.maximum(here - offset * width, polar.FLOOR[self.radius])
        return lower, here + (1.0 - offset) * width, jnp.ones((), bool)


def interval_above(height: Callable[[Array], Array], start: Scalar) -> tuple[Scalar, Scalar]:
    """Ends of the interval about ``start`` where a function with one mode is not negative, to rounding, from outside.

    Args:
        height: elementwise; not negative at ``start``. A NaN counts as negative.
        start: Float[""].
    """
    distances = jnp.exp2(jnp.arange(-8.0, 10.0, dtype=start.dtype))

    def end(side: float) -> Scalar:
        below = ~(height(start + side * distances) >= 0)
        first = jnp.where(jnp.any(below), jnp.argmax(below), distances.shape[0] - 1)
        inner = jnp.where(first > 0, distances[jnp.maximum(first - 1, 0)], 0.0)

        def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            inner, outer = bounds
            middle = 0.5 * (inner + outer)
            above = height(start + side * middle) >= 0
            return jnp.where(above, middle, inner), jnp.where(above, outer, middle)

        _, outer = jax.lax.fori_loop(0, NUM_BISECTIONS, halve, (inner, distances[first]))
        return start + side * outer

    return end(-1.0), end(1.0)
