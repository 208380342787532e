r"""Annealed SMC on a factor graph: from independent variables to the graph by raising the power of its factors.

.. math:: \gamma_t(x) = \prod_{g,i} f_{g,i}(x_{s_{g,i}})^{\lambda_t}, \qquad 0 = \lambda_0 < \dots < \lambda_T = 1

Particles start uniform, are weighed by the step in the power, and move by block Gibbs sweeps at the new power. The log
normaliser is that of the graph: the sum over all states of the product of its factors.

Sources: Neal (2001); Del Moral, Doucet & Jasra (2006), section 3.3.2; Hamze & de Freitas (2005) for such graphs.
"""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from smcinfer.core.feynman_kac import Mutation
from smcinfer.graphs import FactorGraph, uniform_states
from smcinfer.graphs.block_exact import single_sites
from smcinfer.graphs.block_gibbs import BlockGibbs
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, LogWeights, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.slices import each
from smcinfer.paths import schedules
from smcinfer.paths.moves import Moves
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place
from smcinfer.paths.schedules import Schedule


class GraphParticles(eqx.Module):
    """States with their log products of factors at full strength, nats."""

    x: Int[Array, "num_particles variables"]
    log_potential: Float[Array, " num_particles"]


class AnnealedGraph(Path):
    """The Feynman-Kac model of a graph whose factors gain strength (made by `annealed`).

    Attributes:
        graph: the graph at full strength.
        kernel: what moves; prepared anew at each power.
    """

    graph: FactorGraph
    kernel: BlockGibbs

    weighted_for: ClassVar[str] = (
        "the product of the graph's factors on the variables not observed; log Z is of its sum"
    )
    reports: ClassVar[tuple[str, ...]] = ("acceptance", "share_changed")

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Uniform states; each weighs the number of states there are."""
        x = uniform_states(key, self.graph, num_particles)
        dtype = jnp.result_type(float)
        volume = sum(math.log(self.graph.cardinalities[variable]) for variable in range(self.graph.num_variables))
        known = jnp.sum(jnp.where(self.graph.observed, jnp.log(jnp.asarray(self.graph.cardinalities, dtype)), 0.0))
        return Mutation(self._weighed(x), jnp.full((num_particles,), volume, dtype) - known)

    def log_potential(self, particles: GraphParticles) -> LogWeights:
        """The log product of factors."""
        return particles.log_potential

    def prepare(self, at: Place, params: Any) -> tuple[FactorGraph, Any]:
        """The graph at the power, and the kernel made ready for it."""
        del params
        tempered = self.graph.tempered(at.exponent)
        return tempered, self.kernel.prepare(tempered)

    def move(
        self, key: KeyArray, particles: GraphParticles, at: Place, params: tuple[FactorGraph, Any]
    ) -> tuple[GraphParticles, dict[str, Scalar]]:
        """One sweep of block Gibbs at the power."""
        del at
        tempered, kernel = params
        x, info = kernel.sweep(key, particles.x, tempered)
        acceptance = jnp.sum(info.acceptance) / jnp.sum(info.proposed)
        return self._weighed(x), {"acceptance": acceptance, "share_changed": jnp.sum(info.changed) / x.size}

    def _weighed(self, x: Array) -> GraphParticles:
        return GraphParticles(x, each(self.graph.log_prob)(x))


def annealed(
    graph: FactorGraph,
    kernel: BlockGibbs | None = None,
    *,
    schedule: str | Schedule | Array | list[float] | None = None,
    num_sweeps: int = 1,
    max_steps: int | None = None,
    led: bool = True,
) -> AnnealedGraph:
    """Annealed SMC on a graph of finite variables: a model for `smcinfer.sample` or `smcinfer.run`.

    Args:
        graph: finite variables only.
        kernel: block Gibbs moves on this graph; single-site Gibbs where ``None``.
        schedule: as of `smcinfer.sample`: ``"ess"`` (default), ``"conditional_ess"``, powers that end at one, a `Schedule`.
        num_sweeps: sweeps at each power.
        max_steps: the most powers that an adaptive schedule may take, 1000 where ``None``.
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
    moves = Moves.exactly(validate.count("num_sweeps", num_sweeps))
    mover = kernel or BlockGibbs((single_sites(graph),))
    return AnnealedGraph(graph, mover, schedule=schedules.by_name(schedule), moves=moves, max_steps=max_steps, led=led)
