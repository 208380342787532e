"""Hit-and-run slice sampling: a uniform point of the level's slice along a random line."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.kernels import affine
from smcinfer.kernels.affine import SliceParams
from smcinfer.kernels.base import KernelState, Position, TemperedDensity
from smcinfer.kernels.lines import Search, advance, cut_short, draw_level, is_inside, line, ran_out
from smcinfer.kernels.metropolis import choose
from smcinfer.kernels.ticks import Machine, TickKernel, first_key, starting, tick_uniforms

# The first interval in standard deviations of the cloud along the line.
WIDTH_IN_SPREADS = 3.0


class LineMachine(Machine):
    """A transition under way.

    Attributes:
        direction: Float["dim"], of the line, stretched to the target's coordinates.
        level: Float[""], nats.
        search: over the distance along it.
    """

    direction: Position
    level: Scalar
    search: Search


class HitAndRun(TickKernel):
    r"""Hit-and-run slice sampling in the whitened coordinates of the particle cloud.

    .. math:: \ell = \log \gamma_\lambda(x) - \mathrm{Exp}(1), \qquad y = x + t L u, \qquad
        t \sim U\{t : \log \gamma_\lambda(x + t L u) > \ell\}

    with u uniform on the sphere, by stepping out and shrinkage. About 5 density evaluations a transition, no gradient,
    nothing to tune by acceptance. Mixes like a random walk: d transitions see about d directions. Reversible.

    Args:
        affine: ``True`` works in coordinates in which the cloud has mean zero and unit covariance, ``"diagonal"`` unit
            variances, ``False`` in the target's own.
        width: of the first interval, in those coordinates; ``None`` spans the cloud.
        max_steps_out: the interval is at most this many widths long.
        max_shrinks: points tried before staying.

    Source: Smith (1984); Belisle, Romeijn & Smith (1993); slices on lines: Neal (2003), section 4.
    """

    affine: bool | str = eqx.field(default=True, static=True)
    width: float | int | None = eqx.field(default=None, static=True)
    max_steps_out: int = eqx.field(default=64, static=True)
    max_shrinks: int = eqx.field(default=64, static=True)

    def __check_init__(self) -> None:
        affine.check_affine(self.affine)
        affine.check_width(self.width)
        affine.check_caps(max_steps_out=self.max_steps_out, max_shrinks=self.max_shrinks)

    def parameters(self, dim: int) -> SliceParams:
        """A unit cloud, and a width that spans it unless one is given."""
        width = jnp.asarray(WIDTH_IN_SPREADS if self.width is None else self.width, jnp.result_type(float))
        return SliceParams(affine.first_cloud(dim, self.affine), width)

    def tune(
        self, params: SliceParams, positions: Float[Array, "n dim"], log_weights: Float[Array, " n"], acceptance: Scalar
    ) -> SliceParams:
        """The cloud's shape, and a width that spans it along a line."""
        del acceptance
        cloud = affine.refit(params.cloud, positions, log_weights)
        if self.width is not None:
            return SliceParams(cloud, params.width)
        fallback = params.width / WIDTH_IN_SPREADS
        spread = affine.spread_along_lines(fallback, cloud, positions, log_weights)
        return SliceParams(cloud, WIDTH_IN_SPREADS * spread)

    def begin(self, key: KeyArray, state: KernelState, density: TemperedDensity, params: SliceParams) -> LineMachine:
        """The level, the line, and the first interval on it."""
        noise_key, level_key, line_key = jax.random.split(first_key(key), 3)
        position = state.position
        direction = affine.unit_vector(jax.random.normal(noise_key, position.shape, position.dtype))
        uniforms = jax.random.uniform(line_key, (3,), position.dtype)
        here = jnp.zeros((), position.dtype)
        return LineMachine(
            **starting(key, state),
            direction=affine.stretch(params.cloud, direction),
            level=draw_level(level_key, density.combine(state.log_base, state.log_potential)),
            search=line(uniforms, here, params.width, self.max_steps_out, self.max_shrinks),
        )

    def point(self, machine: LineMachine, params: SliceParams) -> Position:
        """On the line at the candidate distance."""
        del params
        return machine.current.position + machine.search.candidate * machine.direction

    def receive(
        self, machine: LineMachine, reached: KernelState, density: TemperedDensity, params: SliceParams
    ) -> LineMachine:
        """Step out, shrink, or finish."""
        inside = is_inside(reached, density.combine(reached.log_base, reached.log_potential), machine.level)
        found = inside & machine.search.trying
        after = advance(machine.search, inside, tick_uniforms(machine, 1)[0], params.width)
        lost = ran_out(machine.search, after, inside)
        return replace(
            machine,
            tick=machine.tick + 1,
            current=choose(found, reached, machine.current),
            finished=found | lost,
            acceptance=machine.acceptance + found,
            capped=machine.capped | lost | cut_short(machine.search, after, params.width, self.max_steps_out),
            search=after,
        )
