r"""Annealed SMC on a factor graph: from independent variables to the graph by raising the power of its factors.

.. math:: \gamma_t(x) = \prod_{g,i} f_{g,i}(x_{s_{g,i}})^{\lambda_t}, \qquad 0 = \lambda_0 < \dots < \lambda_T = 1

Particles start uniform, are weighed by the step in the power, and move by block Gibbs sweeps at the new power. The log
normaliser is that of the graph: the sum over all states of the product of its factors.

Sources: Neal (2001); Del Moral, Doucet & Jasra (2006), section 3.3.2; Hamze & de Freitas (2005) for such graphs.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population, follow_leader
from smcinfer.graphs import FactorGraph, uniform_states
from smcinfer.graphs.block_exact import single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.paths import schedules
from smcinfer.paths.schedules import Exponents, Schedule, increments


class GraphParticles(eqx.Module):
    """States with their log products of factors at full strength, nats."""

    x: Int[Array, "num_particles variables"]
    log_potential: Float[Array, " num_particles"]


class AnnealedShared(eqx.Module):
    """The power, and the step just taken in it."""

    exponent: Scalar
    delta: Scalar


class AnnealedGraph(FeynmanKac):
    """The Feynman-Kac model of a graph whose factors gain strength (made by `annealed`).

    Attributes:
        graph: the graph at full strength.
        kernel: what moves; prepared anew at each power.
        schedule: how powers are chosen.
        num_sweeps: sweeps at each power.
        num_steps: the largest number of powers.
        led: run 0 chooses the powers for all, so that Z_hat of the others is exactly unbiased.
    """

    graph: FactorGraph
    kernel: BlockGibbs
    schedule: Schedule
    num_sweeps: int = eqx.field(static=True, default=1)
    num_steps: int = eqx.field(static=True, default=200)
    led: bool = eqx.field(static=True, default=True)

    @property
    def fixed_horizon(self) -> bool:
        """Where the powers are given."""
        return isinstance(self.schedule, Exponents)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Uniform states; each weighs the number of states there are."""
        x = uniform_states(key, self.graph, num_particles)
        dtype = jnp.result_type(float)
        volume = sum(math.log(self.graph.cardinalities[variable]) for variable in range(self.graph.num_variables))
        known = jnp.sum(jnp.where(self.graph.observed, jnp.log(jnp.asarray(self.graph.cardinalities, dtype)), 0.0))
        log_weights = jnp.full((num_particles,), volume, dtype) - known
        zero = jnp.zeros((), dtype)
        shared = AnnealedShared(zero, zero)
        nothing = jnp.asarray(jnp.nan, dtype)
        return Mutation(self._weighed(x), log_weights, shared, self._info(shared, nothing, nothing))

    def adapt(self, t: Int[Array, ""], population: Population, shared: AnnealedShared) -> AnnealedShared:
        """The next power from the weighted particles."""
        log_potential = population.particles.log_potential
        exponent = self.schedule.next(t, shared.exponent, population.log_weights, log_potential)
        exponent = follow_leader(exponent) if self.led else exponent
        return AnnealedShared(exponent, exponent - shared.exponent)

    def look_ahead(self, t: Int[Array, ""], particles: GraphParticles, shared: AnnealedShared) -> LogWeights:
        """The step in the power times the log product of factors."""
        del t
        return increments(shared.delta, jnp.zeros_like(particles.log_potential), particles.log_potential)[0]

    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: GraphParticles, shared: AnnealedShared, resampled: Flag
    ) -> Mutation:
        """Sweeps at the new power; the weight is already counted."""
        del t, resampled
        tempered = self.graph.tempered(shared.exponent)
        kernel = self.kernel.prepare(tempered)

        def sweep(x: Array, key: Array) -> tuple[Array, Any]:
            x, info = kernel.sweep(key, x, tempered)
            return x, (jnp.sum(info.acceptance) / jnp.sum(info.proposed), jnp.sum(info.changed) / x.size)

        x, (acceptance, changed) = jax.lax.scan(sweep, particles.x, jax.random.split(key, self.num_sweeps))
        info = self._info(shared, jnp.mean(acceptance), jnp.mean(changed))
        return Mutation(self._weighed(x), jnp.zeros_like(particles.log_potential), shared, info)

    def _weighed(self, x: Array) -> GraphParticles:
        return GraphParticles(x, jax.vmap(self.graph.log_prob)(x))

    def _info(self, shared: AnnealedShared, acceptance: Array, changed: Array) -> dict[str, Any]:
        return {"exponent": shared.exponent, "acceptance": acceptance, "share_changed": changed}

    def done(self, shared: AnnealedShared) -> Flag:
        """Whether the factors have their full strength."""
        return shared.exponent >= 1.0

    def unfinished(self, shared: AnnealedShared) -> Flag:
        """Whether the path stopped before."""
        return ~self.done(shared)

    def progress(self, t: Int[Array, ""], shared: AnnealedShared) -> Scalar:
        """The power."""
        del t
        return shared.exponent


def annealed(
    graph: FactorGraph,
    kernel: BlockGibbs | None = None,
    *,
    schedule: str | Schedule | Array | list[float] | None = None,
    num_sweeps: int = 1,
    max_steps: int = 200,
    led: bool = True,
) -> AnnealedGraph:
    """Annealed SMC on a graph of finite variables: a model for `smcinfer.sample` or `smcinfer.run`.

    Args:
        graph: finite variables only.
        kernel: block Gibbs moves on this graph; single-site Gibbs where ``None``.
        schedule: as of `smcinfer.sample`: ``"ess"`` (default), ``"conditional_ess"``, powers that end at one, a `Schedule`.
        num_sweeps: sweeps at each power.
        max_steps: the most powers an adaptive schedule may take.
        led: whether run 0 only chooses, for all the others.

    Returns:
        `AnnealedGraph`. Properly weighted for the product of factors on the variables not observed; log Z is its sum.

    Raises:
        ArgumentError: a real variable, or a number out of range.
    """
    if not graph.is_finite:
        raise ArgumentError(
            "a graph with real variables has no uniform start",
            expected="finite variables",
            got=f"{graph.cardinalities.count(0)} real ones",
            hint="use smcinfer.block_gibbs, or write the model as a density for smcinfer.sample",
        )
    for name, value in {"num_sweeps": num_sweeps, "max_steps": max_steps}.items():
        if value < 1:
            raise ArgumentError(f"{name} is out of range", expected="at least 1", got=value)
    rule = schedules.by_name(schedule)
    steps = rule.exponents.shape[0] if isinstance(rule, Exponents) else max_steps
    return AnnealedGraph(graph, kernel or BlockGibbs((single_sites(graph),)), rule, num_sweeps, steps, led)
