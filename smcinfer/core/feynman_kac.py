"""The protocol of the driver: a twisted Feynman-Kac model, seen as a population.

The driver (`smcinfer.core.smc`) knows only this. A step is

    adapt      the shared quantities (next exponent, kernel parameters) from the weighted population
    look ahead weigh what can be weighed before moving, so that resampling already sees it
    resample   if the effective sample size asks
    mutate     move every particle, and weigh what the move earned

Runs are mapped over side by side. Where a model is *led*, run 0 chooses for all: every run repeats the choices that the
leader made from its own particles, so nothing in the others depends on their own and their Z_hat is exactly unbiased.

`compose` builds it from the four nouns, process, potential, twist and proposal, each written for one
particle. Adaptive families (tempering, data annealing) implement it themselves.
"""

import abc
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.described import Described
from smcinfer.core.plan import Plan
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError

RUNS = "runs"
"""Name of the axis that the driver maps independent runs over."""


def follow_leader(choices: PyTree[Any]) -> PyTree[Any]:
    """The choices of run 0, in every run (inside the driver's map over runs)."""
    return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, RUNS)[0], choices)


def in_any_run(flag: Flag) -> Flag:
    """Whether it holds in any run, inside the driver's map over runs: the bound of one loop for all; outside, the flag."""
    try:
        jax.lax.axis_index(RUNS)
    except NameError:  # no map over runs is under way
        return flag
    return jax.lax.pmax(flag.astype(jnp.int32), RUNS) > 0


class Population(eqx.Module):
    """A weighted particle system: what the engine carries, resamples and reports.

    Attributes:
        particles: pytree, every leaf with a leading axis of ``num_particles``.
        log_weights: Float["num_particles"], normalised (their exponentials sum to one).
    """

    particles: Particles
    log_weights: LogWeights


class Mutation(eqx.Module):
    """What `FeynmanKac.init` and `FeynmanKac.mutate` return.

    Attributes:
        particles: the moved particles.
        log_weights: Float["num_particles"], the *incremental* log weights, nats.
        shared: population-level quantities carried to the next step.
        info: dict of scalars (or small arrays) for the history; the same keys and shapes at every step.
        status: Int[""], bits of `smcinfer.core.status.Status`.
    """

    particles: Particles
    log_weights: LogWeights
    shared: PyTree[Any] = None
    info: dict[str, Any] = eqx.field(default_factory=dict)
    status: Int[Array, ""] = eqx.field(default_factory=lambda: jnp.zeros((), jnp.int32))

    def check(self, num_particles: int, where: str) -> None:
        """Raise `ArgumentError` for shapes that the driver cannot carry; they are static, so it is found while tracing."""
        if self.log_weights.shape != (num_particles,):
            raise ArgumentError(
                f"{where} of the model returned log weights of the wrong shape",
                expected=(num_particles,),
                got=self.log_weights.shape,
                hint="return one log weight a particle",
            )
        for leaf in jax.tree.leaves(self.particles):
            if leaf.shape[:1] != (num_particles,):
                raise ArgumentError(
                    f"{where} of the model returned particles without the particle axis",
                    expected=f"every leaf with leading axis {num_particles}",
                    got=leaf.shape,
                )


class FeynmanKac(eqx.Module):
    """A Feynman-Kac model: an initial population, a way to move it and a way to weigh it.

    Subclasses set ``num_steps``: the number of mutations after the initial population, exact for a
    model with a fixed horizon, the largest allowed for one that decides itself when it is `done`.
    """

    if TYPE_CHECKING:  # a type checker takes an abstract field for an argument of every constructor

        @property
        def num_steps(self) -> int:
            """Mutations after the initial population."""
            ...

    else:
        num_steps: eqx.AbstractVar[int]

    @property
    def plan(self) -> Plan:
        """How the model wants to be run, and what it is properly weighted for in words; a model that knows says so here."""
        return Plan("the target that the product of the model's weights defines; log Z is of its total mass")

    @property
    def described(self) -> Described | None:
        """What the target tells of itself beside draws, for exports; ``None`` for nothing."""
        return None

    @property
    def fixed_horizon(self) -> bool:
        """Whether the run takes exactly ``num_steps`` steps (the driver then never asks `done`)."""
        return True

    @property
    def led(self) -> bool:
        """Whether run 0 only chooses for the other runs (`follow_leader`) and is left out of the results."""
        return False

    @property
    def conditional(self) -> bool:
        """Whether slot 0 holds a given path: resampling then keeps its ancestor 0 and draws the rest conditionally."""
        return False

    @property
    def on_host(self) -> bool:
        """Whether the model computes outside JAX (a torch network, a service).

        Its methods are then called on concrete arrays, one run at a time, and never traced; its horizon must be fixed.
        """
        return False

    def num_ancestors(self, num_particles: int) -> int:
        """How many particles resampling keeps; fewer than ``num_particles`` for waste-free samplers."""
        return num_particles

    @abc.abstractmethod
    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """The population at t = 0, with its first incremental weights."""

    def adapt(self, t: Int[Array, ""], population: Population, shared: PyTree[Any]) -> PyTree[Any]:
        """Shared quantities for step t from the weighted population before it."""
        del t, population
        return shared

    def look_ahead(self, t: Int[Array, ""], particles: Particles, shared: PyTree[Any]) -> LogWeights | None:
        """The part of step t's log weight that is known before the particles move, or ``None``."""
        del t, particles, shared

    def informative(self, t: Int[Array, ""]) -> Flag | None:
        """Whether step t weighs anything, ``None`` for always: where it does not, nothing is weighed nor resampled.

        Known from the step alone (no observation was made, say), the same for all particles and runs.
        """
        del t

    def reconnect(
        self, key: KeyArray, t: Int[Array, ""], population: Population, shared: PyTree[Any]
    ) -> Int[Array, ""] | None:
        """The particle that slot 0 of a `conditional` model descends from at step t, drawn before the others' ancestors.

        ``None`` keeps particle 0; ancestor sampling draws another. Asked only where step t resamples, and the population
        has the weights that resampling sees, look-ahead included.
        """
        del key, t, population, shared

    @abc.abstractmethod
    def mutate(
        self, key: KeyArray, t: Int[Array, ""], particles: Particles, shared: PyTree[Any], resampled: Flag
    ) -> Mutation:
        """Move the (resampled) particles at step t and weigh what `look_ahead` did not."""

    def record(self, t: Int[Array, ""], population: Population) -> dict[str, Any]:
        """What the history keeps of the weighted population after step t (moments, say): small, the same shapes every step."""
        del t, population
        return {}

    def exported(self, particles: Particles) -> PyTree[Any]:
        """What a result shows of one run's particles, by name: not what they only carry along to compute with."""
        return particles

    def done(self, shared: PyTree[Any]) -> Flag:
        """Whether an adaptive model has reached its end."""
        del shared
        return jnp.asarray(False)

    def unfinished(self, shared: PyTree[Any]) -> Flag:
        """Whether a run that stopped with this had not reached its end (reported in its status)."""
        return jnp.asarray(False) if self.fixed_horizon else ~self.done(shared)

    def family_shares(self, shared: PyTree[Any]) -> Float[Array, " num_particles"] | None:
        """Shares of Z_hat by ancestor at t = 0, where Z_hat is a sum over more than the last particles; else ``None``."""
        del shared

    def progress(self, t: Int[Array, ""], shared: PyTree[Any]) -> Scalar:
        """Fraction of the work done after step t, in [0, 1], for the progress bar."""
        del shared
        return t / max(self.num_steps, 1)
