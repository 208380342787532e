r"""Inference by simulation: a prior, a simulator, data, and how far apart data are; no likelihood.

Particles carry parameters and the simulations that came of them. A move proposes parameters, simulates anew and is accepted by

.. math:: \min\Bigl(1,\; \frac{p(\theta') \sum_m 1\{d(s'_m, y) \le \epsilon\}}
    {p(\theta) \sum_m 1\{d(s_m, y) \le \epsilon\}}\Bigr)

which leaves the law at the tolerance invariant however few simulations there are.

Source: Marjoram, Molitor, Plagnol & Tavare (2003); Del Moral, Doucet & Jasra (2012).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.described import Described
from smcinfer.core.feynman_kac import Mutation
from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, LogWeights, Particles, PyTree, Scalar
from smcinfer.ground.data import complete
from smcinfer.ground.errors import ArgumentError, TargetError, calling, surfacing
from smcinfer.ground.slices import each
from smcinfer.kernels.random_walk import RandomWalk
from smcinfer.paths.moves import Moves
from smcinfer.paths.rising import Place
from smcinfer.paths.tolerances import TolerancePath
from smcinfer.static.contract import abstract_output, check_callable, describe
from smcinfer.static.on_host import HostFunction
from smcinfer.static.prior import Prior

SCALE_DRAWS = 256
"""Simulations from the prior by which summaries are put on one scale."""

MAX_STEPS = 200


class Simulated(eqx.Module):
    """Parameters on the reals, their log prior density, and how far their simulations are from the data."""

    position: Float[Array, " dim"]
    log_prior: Scalar
    distances: Float[Array, " m"]


class SimulatorPath(TolerancePath):
    """The Feynman-Kac model of a simulator (made by `simulator`).

    Attributes:
        prior: of the parameters.
        distance_of: ``(key, theta) -> Float[""]``, one simulation and how far it is from the data.
        num_simulations: M, simulations a particle.
        kernel: what proposes parameters: its shape is the cloud's, its step is kept.
    """

    prior: Prior
    distance_of: Callable[[Any, PyTree[Any]], Array]
    num_simulations: int = eqx.field(static=True, default=1)
    kernel: RandomWalk = RandomWalk()

    weighted_for: ClassVar[str] = (
        "the prior given that a simulation comes within the last tolerance of the data; "
        "log Z is the log probability of that, and no evidence of a likelihood"
    )

    @property
    def plan(self) -> Plan:
        """The plan of every path, with how particles are simulated."""
        details = {
            "method": "tolerances",
            "dim": self.prior.dim,
            "num_simulations": self.num_simulations,
            "led": self.led,
            "tolerance": self.tolerance,
        }
        return dataclasses.replace(super().plan, name="simulator", label="simulating", details=details)

    def _simulated(self, key: KeyArray, position: Float[Array, " dim"]) -> Simulated:
        theta = self.prior.values(position)
        found = jax.vmap(lambda key: self.distance_of(key, theta))(jax.random.split(key, self.num_simulations))
        return Simulated(position, self.prior.log_density(position), found.astype(position.dtype))

    def start(self, key: KeyArray, num_particles: int) -> Mutation:
        """Exact draws of the prior and their simulations."""
        prior_key, simulate_key = jax.random.split(key)
        positions = self.prior.sample(prior_key, num_particles)
        particles = each(self._simulated)(jax.random.split(simulate_key, num_particles), positions)
        info = {"num_evals": float(self.num_simulations)}
        return Mutation(particles, jnp.zeros((num_particles,), positions.dtype), info=info)

    def distances(self, particles: Simulated) -> Float[Array, "n m"]:
        """The particles keep them."""
        return particles.distances

    def coordinates(self, particles: Simulated) -> Float[Array, "n dim"]:
        """Every parameter must be forgotten."""
        return particles.position

    def parameters(self) -> PyTree[Any]:
        """Those of a random walk before it has seen particles."""
        return self.kernel.parameters(self.prior.dim)

    def tune(
        self, params: PyTree[Any], particles: Simulated, log_weights: LogWeights, report: dict[str, Scalar]
    ) -> PyTree[Any]:
        """The cloud's shape; acceptance says more of the tolerance than of the step, which stays."""
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
        ratio = proposed.log_prior + self.log_near(proposed, at.exponent)
        ratio = ratio - particles.log_prior - self.log_near(particles, at.exponent)
        # A comparison that is false for NaN.
        accepted = jnp.log(jax.random.uniform(accept_key, (size,), ratio.dtype)) < ratio
        moved = jax.tree.map(
            lambda new, old: jnp.where(accepted.reshape(-1, *(1,) * (new.ndim - 1)), new, old), proposed, particles
        )
        count = jnp.asarray(self.num_simulations, ratio.dtype)
        return moved, {"acceptance": jnp.mean(accepted.astype(ratio.dtype)), "num_evals": count}

    def exported(self, particles: Particles) -> PyTree[Any]:
        """Parameters under the user's own names, and the least distance of their simulations."""
        simulated: Any = particles
        named = jax.vmap(self.prior.constrain)(simulated.position)
        return named | {_free("distance", named): jnp.min(simulated.distances, axis=1)}

    @property
    def described(self) -> Described | None:
        """Nothing: a simulator has no likelihood to tell of."""
        return None


def simulator(
    prior: PyTree[Any],
    simulate: Callable[..., Any],
    data: PyTree[Any],
    *,
    distance: Callable[..., Any] | None = None,
    summaries: Callable[..., Any] | None = None,
    tolerance: float | None = None,
    num_simulations: int = 1,
    fraction: float = 0.5,
    least_acceptance: float = 0.03,
    moves: Moves | None = None,
    max_steps: int = MAX_STEPS,
    led: bool = True,
) -> SimulatorPath:
    """A simulator with a prior and data, by adaptive tolerances; a model for `smcinfer.sample`.

    Args:
        prior: as of `smcinfer.posterior`.
        simulate: ``(key, theta)`` to data like ``data``, a JAX function of one particle; or `on_host` of a function of
            ``(seed, theta)``, the seed an array of two whole numbers.
        data: what was observed: an array or a tree of them, nothing missing.
        distance: ``(simulated, data) -> Float[""]``, not negative; where ``None`` the Euclidean one of the summaries, each in
            units of its spread under the prior.
        summaries: ``data -> Float["k"]``, of simulated data and of the data; all numbers as they are where ``None``.
        tolerance: distance to stop at; where ``None`` the path goes on until moves are accepted too rarely.
        num_simulations: simulations a particle: more are accepted more often, and cost as much more.
        fraction: of the effective sample size that a step keeps.
        least_acceptance: where moves are accepted less often the path ends; a tolerance not reached is a status.
        moves: how often particles move at each tolerance; ``Moves()`` where ``None``.
        max_steps: the most tolerances.
        led: as of `smcinfer.Tempering`: one run chooses the tolerances for all the others, whose Z is unbiased exactly.

    Returns:
        `SimulatorPath`. Its history has ``tolerance``, and its draws the least ``distance`` of each particle.

    Raises:
        ArgumentError, TargetError: before any work: an argument out of range, simulated data of another structure than the
            data, a distance that is no scalar.

    Properly weighted for: the prior given that simulated data come within the last tolerance of the data. log Z is the log of
    that probability: it compares simulators at one tolerance and one distance, and is no evidence of a likelihood.
    """
    law = Prior.of(prior)
    check_callable("simulate", simulate)
    observed = jax.tree.map(jnp.asarray, complete("data", data))
    run = _Run(simulate)
    key = jax.eval_shape(lambda: jax.random.key(0))
    theta = jax.eval_shape(law.values, jax.ShapeDtypeStruct((law.dim,), jnp.result_type(float)))
    made = abstract_output("simulate", run, key, theta)
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (observed, made)]
    if jax.tree.structure(observed) != jax.tree.structure(made) or shapes[0] != shapes[1]:
        raise TargetError("simulate makes other data than there are", expected=describe(observed), got=describe(made))
    if distance is not None and summaries is not None:
        raise ArgumentError(
            "distance and summaries exclude each other",
            expected="one of them",
            got="both",
            hint="take the summaries inside the distance",
        )
    apart = _scaled(law, run, summaries, observed) if distance is None else distance
    output = abstract_output("distance", apart, made, observed)
    if getattr(output, "shape", None) != ():
        raise TargetError("distance returned no scalar", expected="one number, not negative", got=describe(output))
    return SimulatorPath(
        law,
        _Distance(run, apart, observed),
        validate.count("num_simulations", num_simulations),
        tolerance=tolerance,
        fraction=fraction,
        least_acceptance=least_acceptance,
        moves=Moves() if moves is None else validate.instance("moves", moves, Moves, "smcinfer.Moves(max_steps=30)"),
        max_steps=validate.count("max_steps", max_steps),
        led=led,
    )


class _Run(eqx.Module):
    """The simulator, called with a key; one on the host gets two words of it for a seed."""

    simulate: Callable[..., Any]

    def __call__(self, key: KeyArray, theta: PyTree[Any]) -> PyTree[Any]:
        seed = jax.random.bits(key, (2,), jnp.uint32) if isinstance(self.simulate, HostFunction) else key
        return self.simulate(seed, theta)


class _Distance(eqx.Module):
    """One simulation, and how far it is from the data."""

    run: _Run
    apart: Callable[..., Any]
    data: PyTree[Any]

    def __call__(self, key: KeyArray, theta: PyTree[Any]) -> Array:
        return jnp.asarray(self.apart(self.run(key, theta), self.data), jnp.result_type(float))


class _Summaries(eqx.Module):
    """The Euclidean distance of summaries, each in units of its spread under the prior."""

    summaries: Callable[..., Any] | None
    spread: Float[Array, " k"]

    def __call__(self, simulated: PyTree[Any], data: PyTree[Any]) -> Array:
        gap = (_numbers(self.summaries, simulated) - _numbers(self.summaries, data)) / self.spread
        # The square root's gradient is not wanted, and its value at zero is.
        return jnp.sqrt(jnp.sum(gap**2))


def _numbers(summaries: Callable[..., Any] | None, data: PyTree[Any]) -> Float[Array, " k"]:
    found = data if summaries is None else summaries(data)
    leaves = [jnp.ravel(leaf).astype(jnp.result_type(float)) for leaf in jax.tree.leaves(found)]
    return jnp.concatenate(leaves)


def _scaled(law: Prior, run: _Run, summaries: Callable[..., Any] | None, data: PyTree[Any]) -> _Summaries:
    """Summaries with their median absolute deviation under the prior for a unit."""
    key, simulate_key = jax.random.split(jax.random.key(0))

    def one(key: KeyArray, x: Array) -> Array:
        return _numbers(summaries, run(key, law.values(x)))

    with (
        surfacing(),
        calling("simulate or its summaries", expected="(key, theta) to data, in jax.numpy, and numbers of them"),
    ):
        keys = jax.random.split(simulate_key, SCALE_DRAWS)
        drawn = np.asarray(jax.jit(jax.vmap(one))(keys, law.sample(key, SCALE_DRAWS)), np.float64)
    drawn = np.where(np.isfinite(drawn), drawn, np.nan)
    spread = np.nanmedian(np.abs(drawn - np.nanmedian(drawn, axis=0)), axis=0)
    spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
    return _Summaries(summaries, jnp.asarray(spread, jnp.result_type(float)))


def _free(name: str, taken: dict[str, Any]) -> str:
    """The name, or where it is taken the name with an underscore more."""
    return name if name not in taken else _free(f"{name}_", taken)
