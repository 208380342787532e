r"""Tempering of a static target: the path whose particles are the states of a move kernel on vectors.

.. math:: \gamma_t(x) = \mu(x)\, e^{\lambda_t \Phi(x)}

The base and the potential are the target's, the moves a kernel's, whose parameters are tuned by the particles before each
step. Source: Del Moral, Doucet & Jasra (2006), section 3.3.2.
"""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.described import Described
from smcinfer.core.feynman_kac import Mutation, Population, follow_leader
from smcinfer.core.plan import Plan
from smcinfer.core.status import Status, raise_bit
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.keys import small
from smcinfer.ground.slices import each
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity
from smcinfer.kernels.queue import num_lanes, queued
from smcinfer.kernels.registry import name_of
from smcinfer.kernels.ticks import TickKernel
from smcinfer.paths.humps import sparseness
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place
from smcinfer.static.guard import guarded_density, undefined
from smcinfer.static.target import StaticTarget


class KernelPath(Path):
    """A path along which a kernel moves vectors: what tempering and data annealing have in common.

    Attributes:
        target: what to reach.
        kernel: what moves.
    """

    target: StaticTarget
    kernel: Kernel

    method: ClassVar[str]
    reports: ClassVar[tuple[str, ...]] = ("acceptance", "num_evals", "cap_reached")

    @property
    def plan(self) -> Plan:
        """The plan of every path, with how the particles were moved."""
        details = {
            "method": self.method,
            "kernel": name_of(self.kernel),
            "dim": self.target.dim,
            "led": self.led,
            "chain_length": self.chain_length,
        }
        return dataclasses.replace(super().plan, weighted_for=self.target.weighted_for, details=details)

    @property
    def described(self) -> Described | None:
        """What the target tells of itself."""
        return self.target.described

    def parameters(self) -> PyTree[Any]:
        """Parameters of the kernel before it has seen particles."""
        return self.kernel.parameters(self.target.dim)

    def tune(
        self, params: PyTree[Any], particles: KernelState, log_weights: LogWeights, report: dict[str, Scalar]
    ) -> PyTree[Any]:
        """The kernel tunes itself to the cloud and to how often it was accepted."""
        return self.kernel.tune(params, particles.position, log_weights, report["acceptance"])

    def sweep(
        self, key: KeyArray, states: KernelState, density: TemperedDensity, params: PyTree[Any]
    ) -> tuple[KernelState, dict[str, Scalar]]:
        """One kernel step of every particle, and the means of what the kernel says it did."""
        states, info = sweep(key, states, density, self.kernel, params, led=self.led)
        means = {name: jnp.mean(getattr(info, name).astype(jnp.result_type(float))) for name in self.reports}
        return states, means


class StatesPath(KernelPath):
    """A path whose particles are the states of the kernel, from draws of the base on."""

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the base, at exponent zero."""
        dtype = jnp.result_type(float)
        positions = self.target.sample_base(key, num_particles).astype(dtype)
        density = self.target.density(0.0)
        states = each(lambda x: self.kernel.init(x, density))(positions)
        bad = undefined(states.log_potential)
        status = raise_bit(jnp.zeros((), jnp.int32), Status.NON_FINITE_POTENTIAL, jnp.any(bad))
        guarded = jnp.where(bad, -jnp.inf, states.log_potential)
        states = eqx.tree_at(lambda states: states.log_potential, states, guarded)
        return Mutation(states, jnp.zeros((num_particles,), dtype), info={"num_evals": 1.0}, status=status)

    def log_potential(self, particles: KernelState) -> LogWeights:
        """The kernel keeps it."""
        return particles.log_potential

    def coordinates(self, particles: KernelState) -> Float[Array, "n dim"]:
        """Every coordinate of the vectors must be forgotten."""
        return particles.position

    def exported(self, particles: Particles) -> PyTree[Any]:
        """Draws under the user's own names."""
        states: Any = particles
        return jax.vmap(self.target.constrain)(states.position)


class TemperingPath(StatesPath):
    """The Feynman-Kac model of a tempering path (made by the method `Tempering`)."""

    method: ClassVar[str] = "tempering"

    def record(self, t: Int[Array, ""], population: Population) -> dict[str, Any]:
        """Whether the potentials have two humps, on the way where there is something to cross."""
        del t
        states: Any = population.particles
        return {"humps": sparseness(states.log_potential, population.log_weights)}

    def move(
        self, key: KeyArray, particles: KernelState, at: Place, params: PyTree[Any]
    ) -> tuple[KernelState, dict[str, Scalar]]:
        """One kernel step on the tempered density."""
        return self.sweep(key, particles, guarded_density(self.target, at.exponent), params)


def sweep(
    key: KeyArray, states: KernelState, density: TemperedDensity, kernel: Kernel, params: PyTree[Any], *, led: bool
) -> tuple[KernelState, Any]:
    """One kernel step of every particle; what lanes share is drawn once, and where led, once for all runs.

    Particles whose steps take varying numbers of evaluations take them in a queue.

    Args:
        key: one random key.
        states: kernel states, leading axis of particles.
        density: what the kernel leaves invariant.
        kernel, params: the kernel and its parameters.
        led: whether all runs share what the leader's particles share.

    Returns:
        The states after one step, and what the kernel says of every particle.
    """
    size = states.position.shape[0]
    share_key, lanes_key = jax.random.split(small(key), 2)
    params = kernel.share(share_key, params)
    # Followers then take trajectories as long as those that the leader stopped on, and one loop bound serves all runs.
    params = follow_leader(params) if led else params
    lanes = jax.random.split(lanes_key, size)
    if isinstance(kernel, TickKernel) and (side_by_side := num_lanes(size)) < size:
        return queued(kernel, lanes, states, density, params, side_by_side)[:2]
    return each(lambda key, state: kernel.step(key, state, density, params))(lanes, states)
