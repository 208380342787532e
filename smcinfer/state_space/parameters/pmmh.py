r"""Particle marginal Metropolis-Hastings: parameters moved on an unbiased estimate of their likelihood.

.. math:: \alpha = \min\Bigl\{1, \frac{p(\theta')\, \hat p(y \mid \theta')}{p(\theta)\, \hat p(y \mid \theta)}\Bigr\}

The estimate at the current point is kept, never made again: that is what leaves :math:`p(\theta \mid y)` exactly invariant.

Source: Andrieu, Doucet & Holenstein (2010), section 4.4.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.settings import Settings
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Count, Float, KeyArray, PyTree
from smcinfer.ground.errors import ArgumentError
from smcinfer.ground.programs import compiled
from smcinfer.kernels import RandomWalk
from smcinfer.kernels.base import Kernel, KernelState
from smcinfer.results.particle_chains import ParticleChains
from smcinfer.run.chains.finish import chains_of, named
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.of_kernel import tuned
from smcinfer.run.chains.plan import checked, doubling
from smcinfer.run.chains.sampler import Info, Sampler
from smcinfer.run.runner import as_typed_key
from smcinfer.state_space.parameters.parametric import Parametric, check_parametric
from smcinfer.state_space.parameters.start import likely_position, tuned_to
from smcinfer.static.prior import numbers_as_arrays

TARGET_ACCEPTANCE = 0.15
"""What the random walk is tuned to: below the 0.234 of an exact likelihood, for its noise alone rejects."""

NOISE_REPLICATES = 32


class PMMH(Sampler):
    """One chain of particle marginal Metropolis-Hastings.

    Attributes:
        target: a model with unknown parameters.
        kernel: proposes; it looks at the density only where it proposes to go.
        settings: of the filter.
    """

    target: Parametric
    kernel: RandomWalk
    settings: Settings = eqx.field(static=True)

    def begin(self, key: KeyArray, chain: Count) -> KernelState:
        """The likeliest of a few draws of the prior, with the estimate that made it so."""
        position, log_likelihood = likely_position(key, self.target, self.settings)
        return KernelState(position, self.target.prior.log_density(position), log_likelihood)

    def prepare(self, states: KernelState) -> PyTree[Any]:
        """The random walk tuned to where the chains start."""
        return tuned(self.kernel, None, states.position, jnp.asarray(jnp.nan, jnp.result_type(float)))

    def step(self, key: KeyArray, state: KernelState, params: PyTree[Any]) -> tuple[KernelState, Info]:
        """One proposal, one filter, one decision."""
        move_key, filter_key = jax.random.split(key)
        density = self.target.estimated(filter_key, self.settings)
        state, report = self.kernel.step(move_key, state, density, params)
        return state, {"acceptance": report.acceptance, "num_evals": jnp.ones((), jnp.int32)}

    def record(self, state: KernelState, info: Info) -> dict[str, PyTree[Any]]:
        """Parameters and the estimate that goes with them."""
        return {"position": state.position, "log_likelihood": state.log_potential}

    def tune(self, params: PyTree[Any], rows: dict[str, Any]) -> PyTree[Any]:
        """The random walk's own tuning, on the parameters of all chains."""
        return tuned_to(self.kernel, params, rows)


def pmmh(
    key: Any,
    target: Parametric,
    *,
    num_particles: int = 256,
    num_chains: int = 4,
    num_draws: int = 2000,
    num_warmup: int = 1000,
    thin: int = 1,
    kernel: Kernel | None = None,
    resampling: str = "systematic",
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> ParticleChains:
    """Draw the parameters of a state-space model by particle marginal Metropolis-Hastings.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same chains bit for bit.
        target: made by `parametric`.
        num_particles: of each filter. As many as bring the standard deviation of the log likelihood estimate to about one:
            the print says what it is.
        kernel: a `RandomWalk` with settings of one's own.
        num_chains, num_draws, num_warmup, thin, resampling, progress, checkpoint, checkpoint_seconds: as in `particle_gibbs`.

    Returns:
        `ParticleChains`, with the noise of the likelihood estimate.

    Raises:
        ArgumentError, TargetError: before any work. CheckpointError: for a checkpoint of another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the transition under way.
    """
    num_chains, num_draws, num_warmup, thin = checked(num_chains, num_draws, num_warmup, thin)
    num_particles = validate.count("num_particles", num_particles)
    check_parametric("pmmh", target)
    walk = random_walk("pmmh", kernel)
    settings = Settings(num_particles, resampling, history="none")
    sampler = PMMH(numbers_as_arrays(target), walk, settings)
    chain_key, noise_key = jax.random.split(as_typed_key(key))
    driven = drive(
        chain_key,
        sampler,
        doubling(num_draws, num_warmup, thin),
        num_chains=num_chains,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        description="PMMH",
    )
    values = np.asarray(_noise(noise_key, sampler, driven.progress.lanes.states.position[0]), np.float64)
    dead = not np.isfinite(np.asarray(driven.records["log_likelihood"])[:, -1]).all()
    return chains_of(
        ParticleChains,
        key,
        driven,
        named(target.prior.constrain, jnp.asarray(driven.records["position"])),
        {
            "method": "PMMH",
            "kernel": "random_walk",
            "num_particles": num_particles,
            "num_warmup": num_warmup,
            "thin": thin,
            "log_likelihood_sd": float(values.std(ddof=1)) if np.isfinite(values).all() else float("nan"),
        },
        Status.ALL_WEIGHTS_ZERO if dead else Status.OK,
    )


def random_walk(who: str, kernel: Any) -> RandomWalk:
    """The random walk that proposes parameters; one tuned for noisy likelihoods where ``kernel`` is ``None``.

    Raises:
        ArgumentError: for a kernel of another kind.
    """
    if kernel is None:
        return RandomWalk(target_acceptance=TARGET_ACCEPTANCE)
    if not isinstance(kernel, RandomWalk):
        raise ArgumentError(
            f"{who} moves by a random walk: the likelihood is an estimate and has no gradient",
            expected="kernel=None, or smcinfer.kernels.RandomWalk(...)",
            got=repr(kernel),
        )
    return kernel


@compiled
def _noise(key: KeyArray, sampler: PMMH, position: Float[Array, " dim"]) -> Float[Array, " replicates"]:
    """Independent estimates of the log likelihood at one point."""
    keys = jax.random.split(key, NOISE_REPLICATES)
    return jax.vmap(lambda key: sampler.target.log_likelihood(key, position, sampler.settings))(keys)
