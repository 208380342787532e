r"""Tempering: a path of densities from a base that can be drawn to the target.

.. math:: \gamma_t(x) = \mu(x)\, e^{\lambda_t \Phi(x)}, \qquad 0 = \lambda_0 < \lambda_1 < \dots < \lambda_T = 1

Step t picks :math:`\lambda_t`, weighs each particle by :math:`e^{(\lambda_t - \lambda_{t-1}) \Phi}` (known before it moves),
resamples, and moves it by a kernel that leaves :math:`\gamma_t` invariant, so that the final particles are equally weighted
draws moved at the target itself.

Sources: Del Moral, Doucet & Jasra (2006), section 3.3.2; waste-free: Dau & Chopin (2022), algorithm 2.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population, follow_leader
from smcinfer.core.status import Status, raise_bit
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity
from smcinfer.paths.moves import MoveReport, Moves, chains, move
from smcinfer.paths.schedules import ESS, Exponents, Schedule, increments
from smcinfer.static.target import StaticTarget

# A waste-free chain is too short where its mean keeps more than this share of the potential's variance: at 1/2 a chain
# is worth two independent states, and the variance within it says little about the variance of its mean.
CHAIN_SHARE = 0.5


class Guarded(eqx.Module):
    """A potential in which NaN and plus infinity count as outside the support."""

    log_potential: Any

    def __call__(self, x: Float[Array, " dim"]) -> Scalar:
        """The potential at x, nats; minus infinity where it is undefined."""
        value = self.log_potential(x)
        return jnp.where(jnp.isnan(value) | (value == jnp.inf), -jnp.inf, value)


def guarded_density(target: StaticTarget, exponent: Scalar) -> TemperedDensity:
    """The target's tempered density with its potential guarded."""
    return TemperedDensity(
        target.log_base, Guarded(target.log_potential), exponent, target.base_mean, target.base_scale
    )


class TemperingShared(eqx.Module):
    """What a tempering run keeps between steps: the exponent, the step just taken in it, the kernel's parameters."""

    exponent: Scalar
    delta: Scalar
    params: PyTree[Any]
    acceptance: Scalar


class Tempering(FeynmanKac):
    """The Feynman-Kac model of a tempering path.

    Attributes:
        target: what to reach.
        kernel: what moves.
        schedule: how exponents are chosen.
        moves: how long a move is.
        num_steps: the largest number of exponents.
        chain_length: where given, waste-free: resample N / chain_length and keep every state of their chains.
        led: run 0 chooses exponents, kernel parameters and lengths of moves for all, so that log Z is exactly unbiased;
            else every run chooses for itself, with a bias of order 1/N.
        record_params: keep every step's kernel parameters in the history.
    """

    target: StaticTarget
    kernel: Kernel
    schedule: Schedule = ESS()
    moves: Moves = Moves()
    num_steps: int = eqx.field(static=True, default=1000)
    chain_length: int | None = eqx.field(static=True, default=None)
    led: bool = eqx.field(static=True, default=True)
    record_params: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if self.num_steps < 1:
            raise ArgumentError("max_steps is out of range", expected="at least 1", got=self.num_steps)
        if self.chain_length is not None and self.chain_length < 2:
            raise ArgumentError("chain_length is out of range", expected="at least 2", got=self.chain_length)

    @property
    def fixed_horizon(self) -> bool:
        """A path whose exponents are given takes exactly that many steps."""
        return isinstance(self.schedule, Exponents)

    def num_ancestors(self, num_particles: int) -> int:
        """The number of chains where waste-free; else N."""
        length = self.chain_length or 1
        if num_particles % length:
            raise ArgumentError(
                "num_particles cannot be split into chains",
                expected=f"a multiple of chain_length, {length}",
                got=num_particles,
            )
        return num_particles // length

    def _info(self, shared: TemperingShared, report: MoveReport, num_moves: Array) -> dict[str, Any]:
        recorded = {"params": shared.params} if self.record_params else {}
        return recorded | {
            "exponent": shared.exponent,
            "acceptance": report.acceptance,
            "num_move_steps": num_moves,
            "num_evals": report.num_evals,
            "autocorrelation": report.autocorrelation,
            "cap_reached": report.cap_reached,
        }

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the base, at exponent zero."""
        dtype = jnp.result_type(float)
        zero = jnp.zeros((), dtype)
        positions = self.target.sample_base(key, num_particles).astype(dtype)
        states = jax.vmap(lambda x: self.kernel.init(x, guarded_density(self.target, zero)))(positions)
        raw = jax.vmap(self.target.log_potential)(positions)
        bad = jnp.any(jnp.isnan(raw) | (raw == jnp.inf))
        nothing = jnp.asarray(jnp.nan, dtype)
        shared = TemperingShared(zero, zero, self.kernel.parameters(self.target.dim), nothing)
        steps = jnp.zeros((), jnp.int32)
        report = MoveReport(nothing, steps, jnp.ones((), dtype), nothing, zero)
        status = raise_bit(jnp.zeros((), jnp.int32), Status.NON_FINITE_POTENTIAL, bad)
        weights = jnp.zeros((num_particles,), dtype)
        return Mutation(states, weights, shared, self._info(shared, report, steps), status)

    def adapt(self, t: Int[Array, ""], population: Population, shared: TemperingShared) -> TemperingShared:
        """The next exponent, and kernel parameters tuned to the cloud weighted for it."""
        states: KernelState = population.particles
        exponent = self.schedule.next(t, shared.exponent, population.log_weights, states.log_potential)
        _, weights = increments(exponent - shared.exponent, population.log_weights, states.log_potential)
        params = self.kernel.tune(shared.params, states.position, weights, shared.acceptance)
        exponent, params = follow_leader((exponent, params)) if self.led else (exponent, params)
        return TemperingShared(exponent, exponent - shared.exponent, params, shared.acceptance)

    def look_ahead(self, t: Int[Array, ""], particles: KernelState, shared: TemperingShared) -> LogWeights:
        """The exponent's step times the potential."""
        del t
        return increments(shared.delta, jnp.zeros_like(particles.log_potential), particles.log_potential)[0]

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: KernelState, shared: TemperingShared, resampled: Flag
    ) -> Mutation:
        """Move at the new exponent; the weight is already counted."""
        del t, resampled
        density = guarded_density(self.target, shared.exponent)
        status = jnp.zeros((), jnp.int32)
        if self.chain_length is None:
            states, report = move(key, particles, density, self.kernel, shared.params, self.moves, led=self.led)
            capped = (report.num_steps >= self.moves.max_steps) & (report.autocorrelation > self.moves.autocorrelation)
            asked = self.moves.autocorrelation > 0
            status = raise_bit(status, Status.MOVES_TOO_SHORT, capped & asked)
        else:
            states, report = chains(
                key, particles, density, self.kernel, shared.params, self.chain_length, led=self.led
            )
            status = raise_bit(status, Status.MOVES_TOO_SHORT, report.autocorrelation > CHAIN_SHARE)
        status = raise_bit(status, Status.LOOP_CAP_REACHED, report.cap_reached > 0)
        after = TemperingShared(shared.exponent, shared.delta, shared.params, report.acceptance)
        weights = jnp.zeros((states.position.shape[0],), shared.exponent.dtype)
        return Mutation(states, weights, after, self._info(after, report, report.num_steps), status)

    def done(self, shared: TemperingShared) -> Flag:
        """Whether the path has reached one (and the particles have moved there)."""
        return shared.exponent >= 1.0

    def unfinished(self, shared: TemperingShared) -> Flag:
        """Whether the path stopped before one."""
        return ~self.done(shared)

    def progress(self, t: Int[Array, ""], shared: TemperingShared) -> Scalar:
        """Where the path is, on a scale that spends as much bar near zero as near one."""
        del t
        return jnp.maximum(shared.exponent, 0.0) ** 0.25


def tempering(
    target: StaticTarget,
    kernel: Kernel,
    schedule: Schedule | None = None,
    *,
    moves: Moves | None = None,
    max_steps: int = 1000,
    chain_length: int | None = None,
    led: bool = True,
    record_params: bool = False,
) -> Tempering:
    """A `Tempering` model whose horizon fits its schedule.

    Args:
        target: what to reach.
        kernel: what moves.
        schedule: how exponents are chosen; `ESS` where ``None``.
        moves: how long a move is; ignored by waste-free runs.
        max_steps: the most exponents an adaptive schedule may take.
        chain_length: waste-free chains of this many states; particles are resampled to ``num_particles / chain_length``.
        led: whether run 0 only chooses, for all the others.
        record_params: keep every step's kernel parameters in the history.
    """
    schedule = schedule or ESS()
    steps = schedule.exponents.shape[0] if isinstance(schedule, Exponents) else max_steps
    return Tempering(target, kernel, schedule, moves or Moves(), steps, chain_length, led, record_params)
