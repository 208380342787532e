r"""A path of likelihood levels: nested sampling as sequential Monte Carlo.

.. math:: \eta_t \propto \mu\, 1\{\Phi > \ell_t\}, \qquad P_t = \mu(\Phi > \ell_t), \qquad
    Z = \sum_t P_t\, E_{\eta_t}\bigl[e^\Phi 1\{\Phi \le \ell_{t+1}\}\bigr]

The particles that a level leaves behind are a shell of the space; each of them weighs :math:`\hat P_t e^\Phi / N` for good, and
those above take their places. :math:`\hat P` is the product of the shares that survived. For levels given beforehand, or
chosen by a leading run, every term is unbiased, and so is their sum. The draws are taken from all shells: as many as there are
particles are kept on the way, each with the same weight.

Levels rise beyond those that matter: a narrow peak may begin near the top of a broad one, where hardly any of the mass that
is known stands.

Source: Skilling (2006); Salomone, South, Drovandi, Johansen & Kroese (2018), section 3.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from smcinfer.core.feynman_kac import Mutation, Population, follow_leader
from smcinfer.core.plan import Plan
from smcinfer.core.resampling import systematic
from smcinfer.core.weights import normalise
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, PyTree, Scalar
from smcinfer.ground.keys import plain, small
from smcinfer.paths.levels import Level, Levels, Survival
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Travelled, outside

FLAT = 0.25
"""Range of the potential above a level, nats, within which no peak is left that could hide another beside it."""

FURTHER = 5
"""Power of the tolerance at which a path ends that has not become flat."""

LOST = -20.0
"""Log of the share of the base below which a path gives up that has met no potential above minus infinity."""


class Standing(eqx.Module):
    """Particles on their way up.

    Attributes:
        states: what the family moves, leading axis of particles.
        ties: Float["n"], u of each, uniform below the level's tie for those on its height.
        family: Int["n"], ancestor at t = 0.
    """

    states: PyTree[Any]
    ties: Float[Array, " n"]
    family: Int[Array, " n"]


class Behind(eqx.Module):
    """What levels have left behind so far.

    Attributes:
        log_mass: log P_hat, of what stands above.
        log_z: log of the estimate so far, all that stands above included, nats.
        log_below: log of its part that was left behind, nats.
        families: Float["n"], shares of that part by ancestor at t = 0.
        kept: equally weighted draws of that part, leading axis of particles.
    """

    log_mass: Scalar
    log_z: Scalar
    log_below: Scalar
    families: Float[Array, " n"]
    kept: PyTree[Any]

    @property
    def told(self) -> Scalar:
        """What the driver shows as log Z: the estimate so far; the mass above while there is none."""
        return jnp.where(self.log_z > -jnp.inf, self.log_z, self.log_mass)


class Fallen(eqx.Module):
    """What a step leaves behind, and what the driver is to make of it.

    Attributes:
        states: all particles before the step.
        log_weights: Float["2 n"], of the draws kept so far, and for good of these particles; minus infinity above the level.
        look: Float["n"], what the driver weighs the particles by before it resamples.
    """

    states: PyTree[Any]
    log_weights: Float[Array, " twice_n"]
    look: LogWeights


class Climbed(Travelled):
    """Where a run stands between its levels.

    Attributes:
        at: the `Level`.
        behind: what it left behind.
        gain: what the step adds to log Z beyond the share that its level lets through, nats.
        stake: the most that what stands above the level can make up of the estimate, in [0, 1].
        fallen: what the step leaves behind, until it is thinned.
    """

    at: Any
    behind: Behind
    gain: Scalar
    stake: Scalar
    fallen: Fallen | None = None


class LevelPath(Path):
    """A path of likelihood levels; subclasses write `start`, `log_potential` and `move`, whose ``at`` is a `Level`.

    A move leaves the base above the level invariant, ``log base + at.log_indicator(log potential)``.

    Attributes:
        schedule: how levels are chosen, a `Levels`.
        tolerance: what stands above may add at most this share to the estimate when the path ends, and must be flat
            (`FLAT`) or add no more than its fifth power.
    """

    schedule: Any = eqx.field(kw_only=True, default=Survival())
    tolerance: float = eqx.field(static=True, kw_only=True, default=1e-3)

    def __check_init__(self) -> None:
        validate.instance("schedule of a path of levels", self.schedule, Levels, "a smcinfer.paths.levels.Levels")
        validate.number("tolerance", self.tolerance, above=0.0, below=1.0)

    @property
    def plan(self) -> Plan:
        """As every path; families are counted over all shells, from the start."""
        return dataclasses.replace(super().plan, lag=0)

    def foot(self, zero: Scalar) -> Any:
        """Below everything: on minus infinity, with every tie let through."""
        no = jnp.zeros((), bool)
        return Level(jnp.zeros((), jnp.int32), zero - jnp.inf, zero + 1.0, no, no)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of the base, with nothing left behind."""
        start_key, tie_key = jax.random.split(small(key))
        begun = super().init(plain(start_key), num_particles)
        shared, weights = begun.shared, begun.log_weights
        zero = jnp.zeros((), weights.dtype)
        log_z = logsumexp(outside(self.log_potential(begun.particles))) - jnp.log(num_particles).astype(weights.dtype)
        behind = Behind(zero, log_z, zero - jnp.inf, jnp.zeros_like(weights), begun.particles)
        ties = jax.random.uniform(tie_key, weights.shape, weights.dtype)
        return dataclasses.replace(
            begun,
            particles=Standing(begun.particles, ties, jnp.arange(num_particles, dtype=jnp.int32)),
            log_weights=jnp.full_like(weights, behind.told),
            shared=Climbed(shared.at, shared.params, shared.report, behind, zero, zero + 1.0),
            info=begun.info | {"log_mass": zero},
        )

    def adapt(self, t: Int[Array, ""], population: Population, shared: Any) -> Any:
        """The next level, what it leaves behind, and parameters tuned to what stands above it."""
        standing, log_weights, before = population.particles, population.log_weights, shared.behind
        heights = outside(self.log_potential(standing.states))
        weighed = before.log_mass + log_weights + heights
        log_z = jnp.logaddexp(before.log_below, logsumexp(weighed))
        at = self._level(t, log_weights, heights, shared.at, before.log_mass, log_z)
        at = follow_leader(at) if self.led else at
        above = at.above(heights, standing.ties) & ~at.last
        through = jnp.where(above, log_weights, -jnp.inf)
        params = self.tune(shared.params, standing.states, normalise(through)[0], shared.report)
        params = follow_leader(params) if self.led else params
        shell, log_share = jnp.where(above, -jnp.inf, weighed), logsumexp(through)
        behind = _left(before, log_z, shell, standing.family, log_share)
        told = jnp.where(at.last, log_z, behind.told)
        # Where nothing stands above the driver sees no share, and must not take the run for dead: all count alike.
        going = log_share > -jnp.inf
        look = jnp.where(going, jnp.where(above, 0.0, -jnp.inf), _evening(log_weights)).astype(log_weights.dtype)
        gain = told - before.told - jnp.where(going, log_share, 0.0)
        gain = jnp.where(told > -jnp.inf, gain, -jnp.inf)
        draws = jnp.broadcast_to(before.log_below - jnp.log(shell.shape[0]).astype(shell.dtype), shell.shape)
        fallen = Fallen(standing.states, jnp.concatenate([draws, shell]), look)
        stake = jnp.exp(jnp.minimum(behind.log_mass + jnp.max(heights) - log_z, 0.0))
        # Where nothing has been found yet all is at stake.
        stake = jnp.where(jnp.isnan(stake), 1.0, stake)
        return Climbed(at, params, shared.report, behind, gain, stake, fallen)

    def _level(
        self,
        t: Int[Array, ""],
        log_weights: LogWeights,
        heights: LogWeights,
        before: Level,
        log_mass: Scalar,
        log_z: Scalar,
    ) -> Level:
        """The level that one run's own particles ask for."""
        rule = self.schedule
        height = rule.next(t, before.height, log_weights, heights).astype(heights.dtype)
        tie = rule.tie(before, height, log_weights, heights).astype(heights.dtype)
        if self.fixed_horizon:
            return Level(t, height, tie, t >= self.num_steps, t >= 0)
        highest = jnp.max(heights)
        lost = (highest == -jnp.inf) & (log_mass < LOST)
        log_share, log_tolerance = log_mass + highest - log_z, math.log(self.tolerance)
        enough = lost | (log_share < log_tolerance)
        explored = lost | (highest - height < FLAT) | (log_share < FURTHER * log_tolerance)
        return Level(t, height, tie, (enough & explored) | (t >= self.num_steps), enough)

    def look_ahead(self, t: Int[Array, ""], particles: Any, shared: Any) -> LogWeights:
        """Zero above the level, minus infinity below; at the end what makes all alike."""
        del t, particles
        return shared.fallen.look

    def mutate(self, key: KeyArray, t: Int[Array, ""], particles: Any, shared: Any, resampled: Flag) -> Mutation:
        """Moves above the level; at the end, the draws that were kept."""
        del t, resampled
        keep_key, order_key, move_key, tie_key = jax.random.split(small(key), 4)
        states, after, info, status = self.moved(move_key, particles.states, shared, wanted=~shared.at.last)
        fallen, size = shared.fallen, particles.ties.shape[0]
        chosen = systematic(keep_key, normalise(fallen.log_weights)[0], size)
        # In any order: where a place was given up, by an island say, it is no particular draw that is lost with it.
        chosen = jax.random.permutation(order_key, chosen)
        kept = jax.tree.map(lambda old, new: jnp.concatenate([old, new])[chosen], shared.behind.kept, fallen.states)
        on_height = outside(self.log_potential(states)) == shared.at.height
        ties = jax.random.uniform(tie_key, (size,), particles.ties.dtype) * jnp.where(on_height, shared.at.tie, 1.0)
        states = jax.tree.map(lambda end, on: jnp.where(shared.at.last, end, on), kept, states)
        behind = dataclasses.replace(shared.behind, kept=kept)
        return Mutation(
            Standing(states, ties, particles.family),
            jnp.broadcast_to(shared.gain, (size,)),
            dataclasses.replace(after, behind=behind, fallen=None),
            info | {"log_mass": behind.log_mass},
            status,
        )

    def exported(self, particles: Any) -> PyTree[Any]:
        """The draws as the family shows them."""
        return super().exported(particles.states)

    def stake(self, shared: Any) -> Scalar:
        """Moves matter as far as what stands above does."""
        return shared.stake

    def family_shares(self, shared: Any) -> Float[Array, " n"]:
        """Shares of Z_hat by ancestor, over all shells."""
        return shared.behind.families

    def done(self, shared: Any) -> Flag:
        """Whether all was left behind."""
        return shared.at.last

    def unfinished(self, shared: Any) -> Flag:
        """Whether the levels stopped where what stands above still mattered."""
        return ~shared.at.enough

    def progress(self, t: Int[Array, ""], shared: Any) -> Scalar:
        """How much of the estimate was left behind, on the scale of its logarithm."""
        if self.fixed_horizon:
            return super().progress(t, shared)
        missing = shared.behind.log_z - shared.behind.log_below
        return jnp.where(missing >= 0, 1.0 / (1.0 + missing / 10.0), 0.0)


def _left(before: Behind, log_z: Scalar, shell: LogWeights, family: Int[Array, " n"], log_share: Scalar) -> Behind:
    """What is behind after one more shell.

    Args:
        before: so far.
        log_z: the estimate with all that stands above before the step.
        shell: Float["n"], log of what each particle weighs for good; minus infinity above.
        family: of each particle.
        log_share: log of the share that goes on.
    """
    log_below = jnp.logaddexp(before.log_below, logsumexp(shell))
    unit = jnp.where(log_below > -jnp.inf, log_below, 0.0)
    fallen = jax.ops.segment_sum(jnp.exp(shell - unit), family, num_segments=shell.shape[0])
    families = before.families * jnp.exp(before.log_below - unit) + fallen
    return Behind(before.log_mass + log_share, log_z, log_below, families, before.kept)


def _evening(log_weights: LogWeights) -> LogWeights:
    """What makes all weights equal that are not zero, and their sum one."""
    alive = log_weights > -jnp.inf
    return jnp.where(alive, -log_weights - jnp.log(jnp.sum(alive)), -jnp.inf).astype(log_weights.dtype)
