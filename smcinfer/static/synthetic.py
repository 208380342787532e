r"""Synthetic likelihood: summaries of simulations taken for Gaussian, and the density of the data's summaries under that.

.. math:: \hat L(\theta) = (2\pi)^{-d/2}\, \frac{c(d, M-2)}{c(d, M-1)}\, \Bigl(1 - \frac1M\Bigr)^{-d/2}
    |A|^{-1/2} \Bigl(1 - \frac{M}{M-1}\, v^\top A^{-1} v\Bigr)_+^{(M-d-3)/2}

with v the data's summaries minus the mean of M simulated ones, A the sum of squares around that mean, and
c(k, n)^{-1} = 2^{kn/2} pi^{k(k-1)/4} prod_i Gamma((n - i + 1)/2). Where summaries are Gaussian the mean of
:math:`\hat L` is their likelihood, so that log Z and the draws are exact however few simulations there are.

Source: Wood (2010); Price, Drovandi, Lee & Nott (2018); Ghurye & Olkin (1969).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import multigammaln

from smcinfer.core.plan import Plan
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, KeyArray, LogWeights, PyTree, Scalar
from smcinfer.paths.moves import Moves
from smcinfer.paths.rising import Place, times
from smcinfer.paths.schedules import Schedule
from smcinfer.paths.schedules import by_name as schedule_by_name
from smcinfer.static.contract import abstract_output
from smcinfer.static.simulating import Run, Simulated, Simulating, checked, numbers


class SyntheticPath(Simulating):
    """The Feynman-Kac model of a simulator with a synthetic likelihood (made by `synthetic_likelihood`).

    Attributes:
        summaries_of: ``(key, theta) -> Float["d"]`` of one simulation.
        seen: Float["d"], summaries of the data.
    """

    summaries_of: Callable[[Any, PyTree[Any]], Array]
    seen: Float[Array, " d"]

    weighted_for: ClassVar[str] = (
        "the posterior given the summaries of the data, taken for Gaussian; log Z is the log evidence of the summaries"
    )

    @property
    def plan(self) -> Plan:
        """The plan of every path, with how particles are simulated."""
        details = {
            "method": "synthetic likelihood",
            "dim": self.prior.dim,
            "num_simulations": self.num_simulations,
            "led": self.led,
        }
        return dataclasses.replace(super().plan, name="synthetic likelihood", label="simulating", details=details)

    def kept(self, keys: Array, theta: PyTree[Any]) -> Scalar:
        """The log synthetic likelihood; minus infinity where a simulation failed."""
        found = log_gaussian(self.seen, jax.vmap(lambda key: self.summaries_of(key, theta))(keys))
        return jnp.where(jnp.isnan(found), -jnp.inf, found)

    def log_potential(self, particles: Simulated) -> LogWeights:
        """The particles keep it."""
        return particles.kept

    def log_weight(self, particles: Simulated, at: Place) -> LogWeights:
        """The log synthetic likelihood times the exponent."""
        return times(at.exponent, particles.kept)


def log_gaussian(x: Float[Array, " d"], draws: Float[Array, "m d"]) -> Scalar:
    """Log of an unbiased estimate of the density at x of the Gaussian that draws are of (module equation), nats.

    Args:
        x: the point.
        draws: M > d + 3 of them.
    """
    num, dim = draws.shape
    centred = draws - draws.mean(axis=0)
    root = jnp.linalg.cholesky(centred.T @ centred)
    gap = jax.scipy.linalg.solve_triangular(root, x - draws.mean(axis=0), lower=True)
    inside = 1.0 - num / (num - 1) * jnp.sum(gap**2)
    const = multigammaln((num - 1) / 2, dim) - multigammaln((num - 2) / 2, dim) - 0.5 * dim * jnp.log(jnp.pi)
    const = const - 0.5 * dim * jnp.log1p(-1 / num)
    shape = 0.5 * (num - dim - 3) * jnp.log(jnp.maximum(inside, 0.0))
    return const - jnp.sum(jnp.log(jnp.diag(root))) + shape


def synthetic_likelihood(
    prior: PyTree[Any],
    simulate: Callable[..., Any],
    data: PyTree[Any],
    *,
    summaries: Callable[..., Any] | None = None,
    num_simulations: int = 50,
    schedule: str | Schedule | list[float] = "ess",
    moves: Moves | None = None,
    led: bool = True,
) -> SyntheticPath:
    """A simulator whose summaries are taken for Gaussian; a model for `smcinfer.sample`, tempered from the prior.

    Args:
        prior: as of `smcinfer.posterior`.
        simulate: as of `smcinfer.simulator`.
        data: what was observed: an array or a tree of them, nothing missing.
        summaries: ``data -> Float["d"]``, of simulated data and of the data: means of many things, so that they are nearly
            Gaussian, and none a function of the others; all numbers as they are where ``None``.
        num_simulations: simulations a particle, more than d + 3: with few of them moves are accepted more rarely.
        schedule: as of `smcinfer.Tempering`.
        moves: how often particles move at each exponent; ``Moves()`` where ``None``.
        led: as of `smcinfer.Tempering`.

    Returns:
        `SyntheticPath`.

    Raises:
        ArgumentError, TargetError: before any work, as of `smcinfer.simulator`; too few simulations for the summaries.

    Properly weighted for: the posterior given the summaries of the data, exact where these are Gaussian; log Z is the log
    evidence of the summaries, and compares simulators by the same summaries.
    """
    law, run, observed = checked(prior, simulate, data)
    shape: Any = abstract_output("summaries", lambda data: numbers(summaries, data), observed)
    seen = numbers(summaries, observed)
    return SyntheticPath(
        law,
        _Summaries(run, summaries),
        seen,
        num_simulations=validate.count("num_simulations", num_simulations, at_least=shape.shape[0] + 4),
        schedule=schedule_by_name(schedule),
        moves=Moves() if moves is None else validate.instance("moves", moves, Moves, "smcinfer.Moves(max_steps=30)"),
        led=led,
    )


class _Summaries(eqx.Module):
    """Summaries of one simulation."""

    run: Run
    summaries: Callable[..., Any] | None

    def __call__(self, key: KeyArray, theta: PyTree[Any]) -> Float[Array, " d"]:
        return numbers(self.summaries, self.run(key, theta))
