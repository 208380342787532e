r"""Paths whose particles carry parameters and what was simulated from them; a move simulates anew.

.. math:: \text{accept with } \min\Bigl(1,\; \frac{p(\theta')\, w_\lambda(s')}{p(\theta)\, w_\lambda(s)}\Bigr)

with w_lambda what the simulations weigh where the path stands. The law of parameters *and* simulations is left invariant, so
that few simulations cost acceptance and no bias.

Source: Andrieu & Roberts (2009), with the prior and the simulator for a proposal of the simulations.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.described import Described
from smcinfer.core.feynman_kac import Mutation
from smcinfer.ground.arrays import Array, Float, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.data import complete
from smcinfer.ground.errors import TargetError
from smcinfer.ground.slices import each
from smcinfer.kernels.random_walk import RandomWalk
from smcinfer.paths.path import Path
from smcinfer.paths.rising import Place
from smcinfer.static.contract import abstract_output, check_callable, describe
from smcinfer.static.on_host import HostFunction
from smcinfer.static.prior import Prior


class Simulated(eqx.Module):
    """Parameters on the reals, their log prior density, and what is kept of their simulations."""

    position: Float[Array, " dim"]
    log_prior: Scalar
    kept: Array


class Simulating(Path):
    """A path along which parameters are proposed by a random walk; subclasses say what to keep of simulations.

    Attributes:
        prior: of the parameters.
        num_simulations: M, simulations a particle.
        kernel: what proposes parameters: its shape is the cloud's, its step is kept.
    """

    prior: Prior
    num_simulations: int = eqx.field(static=True, kw_only=True, default=1)
    kernel: RandomWalk = eqx.field(kw_only=True, default=RandomWalk())

    reports: ClassVar[tuple[str, ...]] = ("acceptance", "num_evals")

    @abc.abstractmethod
    def kept(self, keys: KeyArray, theta: PyTree[Any]) -> Array:
        """What is kept of one simulation for each of M keys."""

    @abc.abstractmethod
    def log_weight(self, particles: Simulated, at: Place) -> LogWeights:
        """What the simulations of each particle weigh where the path stands, nats."""

    def _simulated(self, key: KeyArray, position: Float[Array, " dim"]) -> Simulated:
        found = self.kept(jax.random.split(key, self.num_simulations), self.prior.values(position))
        return Simulated(position, self.prior.log_density(position), found.astype(position.dtype))

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the prior and their simulations."""
        prior_key, simulate_key = jax.random.split(key)
        positions = self.prior.sample(prior_key, num_particles)
        particles = each(self._simulated)(jax.random.split(simulate_key, num_particles), positions)
        info = {"num_evals": float(self.num_simulations)}
        return Mutation(particles, jnp.zeros((num_particles,), positions.dtype), info=info)

    def coordinates(self, particles: Simulated) -> Float[Array, "n dim"]:
        """Every parameter must be forgotten."""
        return particles.position

    def parameters(self) -> PyTree[Any]:
        """Those of a random walk before it has seen particles."""
        return self.kernel.parameters(self.prior.dim)

    def tune(
        self, params: PyTree[Any], particles: Simulated, log_weights: LogWeights, report: dict[str, Scalar]
    ) -> PyTree[Any]:
        """The cloud's shape; acceptance says more of the simulations than of the step, which stays."""
        del report
        return self.kernel.tune(params, particles.position, log_weights, jnp.asarray(jnp.nan))

    def move(
        self, key: KeyArray, particles: Simulated, at: Place, params: PyTree[Any]
    ) -> tuple[Simulated, dict[str, Scalar]]:
        """One proposal and its simulations of every particle (module equation)."""
        size = particles.position.shape[0]
        propose_key, simulate_key, accept_key = jax.random.split(key, 3)
        proposals = jax.vmap(lambda key, x: self.kernel.propose(key, x, params))(
            jax.random.split(propose_key, size), particles.position
        )
        proposed = each(self._simulated)(jax.random.split(simulate_key, size), proposals)
        ratio = proposed.log_prior + self.log_weight(proposed, at)
        ratio = ratio - particles.log_prior - self.log_weight(particles, at)
        # A comparison that is false for NaN.
        accepted = jnp.log(jax.random.uniform(accept_key, (size,), ratio.dtype)) < ratio
        moved = jax.tree.map(
            lambda new, old: jnp.where(accepted.reshape(-1, *(1,) * (new.ndim - 1)), new, old), proposed, particles
        )
        count = jnp.asarray(self.num_simulations, ratio.dtype)
        return moved, {"acceptance": jnp.mean(accepted.astype(ratio.dtype)), "num_evals": count}

    def exported(self, particles: Particles) -> PyTree[Any]:
        """Parameters under the user's own names."""
        simulated: Any = particles
        return jax.vmap(self.prior.constrain)(simulated.position)

    @property
    def described(self) -> Described | None:
        """Nothing: a simulator has no likelihood to tell of."""
        return None


class Run(eqx.Module):
    """The simulator, called with a key; one on the host gets two words of it for a seed."""

    simulate: Callable[..., Any]

    def __call__(self, key: KeyArray, theta: PyTree[Any]) -> PyTree[Any]:
        seed = jax.random.bits(key, (2,), jnp.uint32) if isinstance(self.simulate, HostFunction) else key
        return self.simulate(seed, theta)


def checked(prior: PyTree[Any], simulate: Callable[..., Any], data: PyTree[Any]) -> tuple[Prior, Run, PyTree[Any]]:
    """The prior, the simulator and the data as arrays, which fit each other.

    Args:
        prior: as of `smcinfer.posterior`.
        simulate: ``(key, theta)`` to data like ``data``.
        data: what was observed.

    Raises:
        ArgumentError, TargetError: they do not, or something is missing.
    """
    law = Prior.of(prior)
    check_callable("simulate", simulate)
    observed = jax.tree.map(jnp.asarray, complete("data", data))
    run = Run(simulate)
    key = jax.eval_shape(lambda: jax.random.key(0))
    theta = jax.eval_shape(law.values, jax.ShapeDtypeStruct((law.dim,), jnp.result_type(float)))
    made = abstract_output("simulate", run, key, theta)
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (observed, made)]
    if jax.tree.structure(observed) != jax.tree.structure(made) or shapes[0] != shapes[1]:
        raise TargetError("simulate makes other data than there are", expected=describe(observed), got=describe(made))
    return law, run, observed


def numbers(summaries: Callable[..., Any] | None, data: PyTree[Any]) -> Float[Array, " k"]:
    """Summaries of data as one vector; all numbers as they are where there is no function."""
    found = data if summaries is None else summaries(data)
    leaves = [jnp.ravel(leaf).astype(jnp.result_type(float)) for leaf in jax.tree.leaves(found)]
    return jnp.concatenate(leaves)
