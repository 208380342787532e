r"""A path from a base to a target, written as a start, a potential and one move.

A family gives a start that it can draw from, the log potential :math:`\Phi` of its particles, and one move that leaves
:math:`\gamma_t(x) = \mu(x)\, e^{\lambda_t \Phi(x)}` invariant. The path does the rest: the choice of exponents, the
look-ahead, how often the move is repeated, the end, the leading run and waste-free chains. The final particles are draws that
moved at the target itself.

Sources: Del Moral, Doucet & Jasra (2006), section 3.3.2; waste-free: Dau & Chopin (2022), algorithm 2.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from smcinfer.core.feynman_kac import Mutation
from smcinfer.core.plan import Plan
from smcinfer.core.status import Status, raise_bit
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, Particles, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.keys import plain, small
from smcinfer.paths.moves import Moves, chain, repeat, rise_of_mean
from smcinfer.paths.rising import Rising, Travelled

# A waste-free chain is too short where its mean keeps more than this share of the potential's variance: at 1/2 a chain
# is worth two independent states, and the variance within it says little about the variance of its mean.
CHAIN_SHARE = 0.5


class Path(Rising):
    """A Feynman-Kac model along a path of exponents, written as a start, a potential and one move.

    Subclasses write `start`, `log_potential` and `move`, and where there is something to tune `parameters` and `tune`. With
    these alone they have adaptive exponents, the certificate, checkpoints and the progress bar.

    Attributes:
        moves: how often a move is repeated at each exponent.
        chain_length: where given, waste-free: resample N / chain_length particles and keep every state of their chains.
        record_params: keep the parameters of every step in the history.
    """

    moves: Moves = eqx.field(kw_only=True, default=Moves())
    chain_length: int | None = eqx.field(static=True, kw_only=True, default=None)
    record_params: bool = eqx.field(static=True, kw_only=True, default=False)

    reports: ClassVar[tuple[str, ...]] = ("acceptance",)
    """What `move` reports, by name: counts (``num_*``) are added up over the moves of a step, all else is averaged."""

    def __check_init__(self) -> None:
        if self.chain_length is not None:
            validate.count("chain_length", self.chain_length, at_least=2)

    @abc.abstractmethod
    def move(
        self, key: KeyArray, particles: Particles, at: Any, params: PyTree[Any]
    ) -> tuple[Particles, dict[str, Scalar]]:
        """One move of every particle that leaves the law at ``at.exponent`` invariant, and what it reports.

        Args:
            key: one random key.
            particles: leading axis of particles, equally weighted.
            at: where the run stands.
            params: what `prepare` made of the parameters here.

        Returns:
            The moved particles, and a number for each name in `reports`.
        """

    def prepare(self, at: Any, params: PyTree[Any]) -> PyTree[Any]:
        """What all moves at one exponent share, computed once a step from its parameters."""
        del at
        return params

    def coordinates(self, particles: Particles) -> Float[Array, "n k"] | None:
        """What a move must forget besides the potential before it may stop; ``None`` for nothing."""
        del particles

    def stake(self, shared: Any) -> Scalar | float:
        """How much of log Z rests on what the next moves find, in [0, 1]."""
        del shared
        return 1.0

    @property
    def plan(self) -> Plan:
        """As the schedule asks; waste-free paths resample at every step."""
        plan = super().plan
        return dataclasses.replace(plan, resamples_always=plan.resamples_always or self.chain_length is not None)

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

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the base, at exponent zero."""
        begun = super().init(key, num_particles)
        unknown = jnp.full((), jnp.nan, begun.log_weights.dtype)
        none = {"num_move_steps": jnp.zeros((), jnp.int32), "autocorrelation": unknown, "gap": unknown}
        return dataclasses.replace(begun, info=begun.info | none)

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: Particles, shared: Travelled, resampled: Flag
    ) -> Mutation:
        """Moves at the new exponent; the weight is already counted."""
        del t
        particles, after, info, status = self.moved(key, particles, shared)
        # Particles that were not resampled carry weights, and those are not known here.
        info["gap"] = jnp.where(resampled, info["gap"], jnp.nan)
        return Mutation(particles, jnp.zeros_like(self.log_potential(particles)), after, info, status)

    def moved(
        self, key: KeyArray, particles: Particles, shared: Travelled, wanted: Array | bool = True
    ) -> tuple[Particles, Travelled, dict[str, Any], Int[Array, ""]]:
        """Particles moved until they have forgotten their start, or kept as whole chains.

        Args:
            key: one random key.
            particles: the (resampled) particles.
            shared: where the run stands.
            wanted: where false, take no move.

        Returns:
            The particles, what to keep, what the history records, and status bits.
        """
        key = small(key)
        params, zero = self.prepare(shared.at, shared.params), jnp.zeros((), jnp.result_type(float))
        before = self.log_potential(particles)

        def once(key: KeyArray, particles: Particles) -> tuple[Particles, dict[str, Scalar]]:
            particles, report = self.move(plain(key), particles, shared.at, params)
            return particles, self._checked(report, zero)

        look = (self.log_potential, self.coordinates)
        if self.chain_length is None:
            blank = dict.fromkeys(self.reports, zero)
            particles, done = repeat(key, particles, once, look, self.moves, blank, led=self.led, wanted=wanted)
            short = (done.num_steps >= self.moves.max_steps) & (done.remembered > self.moves.autocorrelation)
            short = short & (self.moves.autocorrelation > 0)
        else:
            particles, done = chain(key, particles, once, look, self.chain_length)
            short = done.remembered > CHAIN_SHARE
        status = raise_bit(jnp.zeros((), jnp.int32), Status.MOVES_TOO_SHORT, short)
        if "cap_reached" in done.report:
            status = raise_bit(status, Status.LOOP_CAP_REACHED, done.report["cap_reached"] > 0)
        info = self.info(dataclasses.replace(shared, report=done.report))
        info |= {"num_move_steps": done.num_steps, "autocorrelation": done.autocorrelation}
        rise = self.stake(shared) * rise_of_mean(before, self.log_potential(particles))
        info["gap"] = jnp.where(wanted, rise, jnp.nan).astype(before.dtype)
        # Where nothing moved the report is NaN: an acceptance that was tuned by once must not be tuned by again.
        return particles, dataclasses.replace(shared, report=done.report), info, status

    def _checked(self, report: dict[str, Scalar], like: Scalar) -> dict[str, Scalar]:
        if set(report) != set(self.reports):
            raise ArgumentError(
                "move of the model reports other things than it says in `reports`",
                expected=sorted(self.reports),
                got=sorted(report),
            )
        return {name: jnp.asarray(report[name], like.dtype) for name in self.reports}

    def info(self, shared: Travelled) -> dict[str, Any]:
        """What the history records of a step."""
        return super().info(shared) | ({"params": shared.params} if self.record_params else {})
