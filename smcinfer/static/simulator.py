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

from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, LogWeights, Particles, PyTree
from smcinfer.ground.errors import ArgumentError, TargetError, calling, surfacing
from smcinfer.paths.moves import Moves
from smcinfer.paths.rising import Place
from smcinfer.paths.tolerances import TolerancePath
from smcinfer.static.contract import abstract_output, describe
from smcinfer.static.prior import Prior
from smcinfer.static.simulating import Run, Simulated, Simulating, checked, numbers

SCALE_DRAWS = 256
"""Simulations from the prior by which summaries are put on one scale."""

MAX_STEPS = 200


class SimulatorPath(Simulating, TolerancePath):
    """The Feynman-Kac model of a simulator (made by `simulator`).

    Attributes:
        distance_of: ``(key, theta) -> Float[""]``, one simulation and how far it is from the data.
    """

    distance_of: Callable[[Any, PyTree[Any]], Array]

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

    def kept(self, keys: Array, theta: PyTree[Any]) -> Float[Array, " m"]:
        """How far each simulation is from the data."""
        return jax.vmap(lambda key: self.distance_of(key, theta))(keys)

    def distances(self, particles: Simulated) -> Float[Array, "n m"]:
        """The particles keep them."""
        return particles.kept

    def log_weight(self, particles: Simulated, at: Place) -> LogWeights:
        """Log of the share of simulations within the tolerance."""
        return self.log_near(particles, at.exponent)

    def exported(self, particles: Particles) -> PyTree[Any]:
        """Parameters under the user's own names, and the least distance of their simulations."""
        named, simulated = super().exported(particles), particles
        return named | {_free("distance", named): jnp.min(simulated.kept, axis=1)}


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
    law, run, observed = checked(prior, simulate, data)
    if distance is not None and summaries is not None:
        raise ArgumentError(
            "distance and summaries exclude each other",
            expected="one of them",
            got="both",
            hint="take the summaries inside the distance",
        )
    apart = _scaled(law, run, summaries, observed) if distance is None else distance
    output = abstract_output("distance", apart, observed, observed)
    if getattr(output, "shape", None) != ():
        raise TargetError("distance returned no scalar", expected="one number, not negative", got=describe(output))
    return SimulatorPath(
        law,
        _Distance(run, apart, observed),
        num_simulations=validate.count("num_simulations", num_simulations),
        tolerance=tolerance,
        fraction=fraction,
        least_acceptance=least_acceptance,
        moves=Moves() if moves is None else validate.instance("moves", moves, Moves, "smcinfer.Moves(max_steps=30)"),
        max_steps=validate.count("max_steps", max_steps),
        led=led,
    )


class _Distance(eqx.Module):
    """One simulation, and how far it is from the data."""

    run: Run
    apart: Callable[..., Any]
    data: PyTree[Any]

    def __call__(self, key: KeyArray, theta: PyTree[Any]) -> Array:
        return jnp.asarray(self.apart(self.run(key, theta), self.data), jnp.result_type(float))


class _Summaries(eqx.Module):
    """The Euclidean distance of summaries, each in units of its spread under the prior."""

    summaries: Callable[..., Any] | None
    spread: Float[Array, " k"]

    def __call__(self, simulated: PyTree[Any], data: PyTree[Any]) -> Array:
        gap = (numbers(self.summaries, simulated) - numbers(self.summaries, data)) / self.spread
        # The square root's gradient is not wanted, and its value at zero is.
        return jnp.sqrt(jnp.sum(gap**2))


def _scaled(law: Prior, run: Run, summaries: Callable[..., Any] | None, data: PyTree[Any]) -> _Summaries:
    """Summaries with their median absolute deviation under the prior for a unit."""
    key, simulate_key = jax.random.split(jax.random.key(0))

    def one(key: KeyArray, x: Array) -> Array:
        return numbers(summaries, run(key, law.values(x)))

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
