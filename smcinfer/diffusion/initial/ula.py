"""Langevin without the accept step, for comparison: what MALA would be if every proposal were right."""

from typing import override

import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import KeyArray
from smcinfer.kernels import MALA, KernelInfo, KernelState, TemperedDensity
from smcinfer.kernels.base import gradient, info, value_and_gradients
from smcinfer.kernels.metropolis import choose, metropolis
from smcinfer.kernels.tuning import Scaled


class ULA(MALA):
    """The unadjusted Langevin algorithm: MALA's proposal, always taken where it is finite.

    It leaves its target invariant only as the step goes to zero. What it reports as acceptance is what MALA would have
    accepted, so that its step is tuned like MALA's.

    Source: Roberts & Tweedie (1996).
    """

    @override
    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: Scaled
    ) -> tuple[KernelState, KernelInfo]:
        """One proposal: one density and gradient evaluation."""
        noise_key, accept_key = jax.random.split(key)
        cloud, step = params.cloud, params.step_size.astype(state.position.dtype)
        noise = jax.random.normal(noise_key, state.position.shape, state.position.dtype)
        drift = 0.5 * step * cloud.pull_back(gradient(state, density))
        proposed = value_and_gradients(density, state.position + cloud.stretch(step * (noise + drift)))
        noise_back = noise + drift + 0.5 * step * cloud.pull_back(gradient(proposed, density))
        _, acceptance = metropolis(accept_key, state, proposed, density, self._log_correction(noise, noise_back))
        sound = jnp.isfinite(density.combine(proposed.log_base, proposed.log_potential))
        return choose(sound, proposed, state), info(acceptance, 1)
