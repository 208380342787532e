"""Gibbsian polar slice sampling: one level, then the direction on it, then the radius."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Flag, KeyArray, Scalar
from smcinfer.kernels import affine, polar
from smcinfer.kernels.affine import SliceParams
from smcinfer.kernels.base import KernelState, Position, TemperedDensity
from smcinfer.kernels.lines import Search, advance, circle, cut_short, draw_level, is_inside, line, ran_out
from smcinfer.kernels.metropolis import choose
from smcinfer.kernels.ticks import Machine, first_key, starting, tick_uniforms


class PolarMachine(Machine):
    """A transition under way: turning first, then moving along the radius.

    Attributes:
        axis: Float["dim"], the direction stretched to the target's coordinates.
        turn: Float["dim"], a direction at right angles to it, stretched likewise.
        coordinate: Float[""], the radius or its logarithm.
        level: Float[""], nats.
        search: over angles, then over the radial coordinate.
        turning: Bool[""], which of the two.
    """

    axis: Position
    turn: Position
    coordinate: Scalar
    level: Scalar
    search: Search
    turning: Flag


class GibbsianPolarSlice(polar.PolarKernel):
    r"""Gibbsian polar slice sampling in the whitened coordinates of the particle cloud.

    With :math:`x = m + L r \theta` and a radial coordinate, :math:`s = \log r` or r itself, of density
    :math:`e^{ds} \gamma` or :math:`r^{d-1} \gamma`:

    1. level: :math:`\ell = \log(e^{ds} \gamma_\lambda(x)) - \mathrm{Exp}(1)`;
    2. direction: on the great circle :math:`\theta \cos a + v \sin a`, v uniform at right angles to :math:`\theta`, shrink
       a bracket of angles about zero until :math:`e^{ds} \gamma` exceeds the level;
    3. radius: along the new direction, step out and shrink on the same level.

    Each of the two leaves the uniform law on the level's slice invariant and is reversible; the whole is invariant, not
    reversible. About 6 to 8 density evaluations a transition, no gradient, nothing to tune by acceptance. Good where
    tails are heavy and where modes lie around a centre; needs two dimensions at least.

    Args:
        radius: ``"log"`` moves the logarithm of the radius, ``"linear"`` the radius (as published). The logarithm
            needs no fitting of the width to the radius, and forgets radii of different magnitude sooner.
        affine: ``True`` works in coordinates in which the cloud has mean zero and unit covariance, ``"diagonal"`` unit
            variances, ``False`` in the target's own about the origin. Off-centre and stretched targets need it.
        width: of the first radial interval, in those coordinates; ``None`` spans the cloud's radii.
        max_steps_out: the radial interval is at most this many widths long.
        max_shrinks: points tried on the circle, and again on the radius, before staying there.

    Source: Schar, Habeck & Rudolf (2023), algorithms 1 to 3; the caps: Neal (2003). The log radius is our variant.
    """

    max_steps_out: int = eqx.field(default=64, static=True)
    max_shrinks: int = eqx.field(default=64, static=True)

    def __check_init__(self) -> None:
        affine.check_caps(max_steps_out=self.max_steps_out, max_shrinks=self.max_shrinks)

    def begin(self, key: KeyArray, state: KernelState, density: TemperedDensity, params: SliceParams) -> PolarMachine:
        """The level, the great circle, and the first angle on it."""
        noise_key, level_key, angle_key = jax.random.split(first_key(key), 3)
        position = state.position
        radius, direction, defined = polar.split(affine.whiten(params.cloud, position))
        noise = jax.random.normal(noise_key, position.shape, position.dtype)
        coordinate = polar.to_coordinate(self.radius, radius)
        log_density = self.log_polar_density(state, coordinate, density)
        return PolarMachine(
            **starting(key, state),
            axis=affine.stretch(params.cloud, direction),
            turn=affine.stretch(params.cloud, polar.tangent(direction, noise)),
            coordinate=coordinate,
            level=draw_level(level_key, jnp.where(defined, log_density, -jnp.inf)),
            search=circle(jax.random.uniform(angle_key, dtype=position.dtype), self.max_shrinks),
            turning=jnp.ones((), bool),
        )

    def point(self, machine: PolarMachine, params: SliceParams) -> Position:
        """On the circle at the candidate angle, or on the ray at the candidate radius."""
        coordinate = jnp.where(machine.turning, machine.coordinate, machine.search.candidate)
        return affine.centred(params.cloud, polar.to_radius(self.radius, coordinate) * self._axis(machine))

    def receive(
        self, machine: PolarMachine, reached: KernelState, density: TemperedDensity, params: SliceParams
    ) -> PolarMachine:
        """Shrink, step out, go over from the circle to the ray, or finish."""
        search, turning = machine.search, machine.turning
        uniforms = tick_uniforms(machine, 3)
        coordinate = jnp.where(turning, machine.coordinate, search.candidate)
        inside = is_inside(reached, self.log_polar_density(reached, coordinate, density), machine.level)
        found = inside & search.trying
        floor = polar.FLOOR[self.radius]
        after = advance(search, inside, uniforms[0], params.width, floor)
        lost = ran_out(search, after, inside)
        over = found | lost
        capped = lost | (~turning & cut_short(search, after, params.width, self.max_steps_out))
        return replace(
            machine,
            tick=machine.tick + 1,
            current=choose(found, reached, machine.current),
            finished=over & ~turning,
            acceptance=machine.acceptance + 0.5 * found,
            capped=machine.capped | capped,
            axis=jnp.where(found & turning, self._axis(machine), machine.axis),
            search=choose(over & turning, self.along_ray(uniforms, machine.coordinate, params), after),
            turning=turning & ~over,
        )

    def along_ray(self, uniforms: Array, coordinate: Scalar, params: SliceParams) -> Search:
        """The search over the radial coordinate, from three uniforms."""
        floor = polar.FLOOR[self.radius]
        return line(uniforms, coordinate, params.width, self.max_steps_out, self.max_shrinks, floor)

    def _axis(self, machine: PolarMachine) -> Position:
        """The stretched direction at the candidate angle; once turned, the one found."""
        angle = jnp.where(machine.turning, machine.search.candidate, 0.0)
        return machine.axis * jnp.cos(angle) + machine.turn * jnp.sin(angle)
