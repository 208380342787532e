r"""Particle Gibbs: paths by conditional SMC, parameters by a move kernel given the path.

.. math::
    x_{0:T} \sim P_N(x_{0:T}, \cdot \mid \theta, y), \qquad
    \theta \sim K_x(\theta, \cdot), \quad K_x \text{ invariant for } p(\theta \mid x_{0:T}, y_{0:T})

:math:`P_N` leaves :math:`p(x_{0:T} \mid \theta, y)` invariant whatever N > 1; more particles only make it mix faster, and with
ancestor sampling few are enough.

Sources: Andrieu, Doucet & Holenstein (2010), section 4.3; Lindsten, Jordan & Schon (2014).
"""

from pathlib import Path as FilePath
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed
from smcinfer.core.conditional import Path
from smcinfer.core.settings import Settings
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Count, Float, KeyArray, PyTree, Scalar
from smcinfer.ground.names import leaves_by_name
from smcinfer.kernels.base import Kernel
from smcinfer.kernels.registry import by_name
from smcinfer.results.particle_chains import ParticleChains
from smcinfer.run.chains.finish import chains_of, named
from smcinfer.run.chains.loop import drive
from smcinfer.run.chains.of_kernel import tuned
from smcinfer.run.chains.plan import checked, doubling
from smcinfer.run.chains.sampler import Info, Sampler
from smcinfer.state_space.parameters.parametric import Parametric, check_model, filter_path, next_path
from smcinfer.state_space.parameters.start import likely_position, tuned_to
from smcinfer.static.prior import numbers_as_arrays


class GibbsState(eqx.Module):
    """Where one chain is: unconstrained parameters (none where the model knows its own) and a path."""

    position: Float[Array, " dim"] | None
    path: Path


class ParticleGibbs(Sampler):
    """One chain of particle Gibbs.

    Attributes:
        target: a model with unknown parameters, or a composed one that knows its own.
        kernel: moves the parameters given the path; ``None`` without parameters.
        settings: of the conditional filter, with full history.
        ancestor_sampling: whether the kept path draws whom it descends from.
        num_moves: kernel steps a transition.
    """

    target: Parametric | Composed
    kernel: Kernel | None
    settings: Settings = eqx.field(static=True)
    ancestor_sampling: bool = eqx.field(static=True, default=True)
    num_moves: int = eqx.field(static=True, default=3)

    def begin(self, key: KeyArray, chain: Count) -> GibbsState:
        """A path of a filter, at the likeliest of a few draws of the prior."""
        if isinstance(self.target, Composed):
            return GibbsState(None, filter_path(key, self.target, self.settings))
        position_key, path_key = jax.random.split(key)
        position, _ = likely_position(position_key, self.target, self.settings)
        return GibbsState(position, filter_path(path_key, self.target.at(position), self.settings))

    def prepare(self, states: GibbsState) -> PyTree[Any]:
        """The kernel tuned to where the chains start; nothing without parameters."""
        if self.kernel is None or states.position is None:
            return None
        return tuned(self.kernel, None, states.position, jnp.asarray(jnp.nan, jnp.result_type(float)))

    def step(self, key: KeyArray, state: GibbsState, params: PyTree[Any]) -> tuple[GibbsState, Info]:
        """The path given the parameters, then the parameters given the path."""
        path_key, move_key = jax.random.split(key)
        known = isinstance(self.target, Composed)
        model = self.target if isinstance(self.target, Composed) else self.target.at(state.position)
        path = next_path(path_key, model, state.path, self.settings, ancestor_sampling=self.ancestor_sampling)
        if known or self.kernel is None:
            return GibbsState(state.position, path), _one_filter(jnp.ones(()))
        position, acceptance = self._move(move_key, state.position, path, params)
        return GibbsState(position, path), _one_filter(acceptance)

    def _move(self, key: KeyArray, position: Any, path: Path, params: PyTree[Any]) -> tuple[Array, Scalar]:
        kernel: Any = self.kernel
        target: Any = self.target
        density = target.given_path(path)

        def once(carry: tuple[Any, Array], lane: KeyArray) -> tuple[tuple[Any, Array], None]:
            kernel_state, total = carry
            share_key, step_key = jax.random.split(lane)
            kernel_state, report = kernel.step(step_key, kernel_state, density, kernel.share(share_key, params))
            return (kernel_state, total + report.acceptance), None

        start = (kernel.init(position, density), jnp.zeros((), jnp.result_type(float)))
        (kernel_state, total), _ = jax.lax.scan(once, start, jax.random.split(key, self.num_moves))
        return kernel_state.position, total / self.num_moves

    def record(self, state: GibbsState, info: Info) -> dict[str, PyTree[Any]]:
        """The path of the chain, and its parameters where the model has any."""
        kept: dict[str, PyTree[Any]] = {"path": state.path}
        return kept if state.position is None else kept | {"position": state.position}

    def tune(self, params: PyTree[Any], rows: dict[str, Any]) -> PyTree[Any]:
        """The kernel's own tuning, on the parameters of all chains."""
        return params if self.kernel is None or "position" not in rows else tuned_to(self.kernel, params, rows)


def _one_filter(acceptance: Scalar) -> Info:
    """What a transition did that runs one filter."""
    return {"acceptance": acceptance.astype(jnp.result_type(float)), "num_evals": jnp.ones((), jnp.int32)}


def particle_gibbs(
    key: Any,
    target: Parametric | Composed,
    *,
    num_particles: int = 32,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_warmup: int = 500,
    thin: int = 1,
    kernel: str | Kernel = "hmc",
    num_moves: int = 3,
    ancestor_sampling: bool = True,
    resampling: str = "systematic",
    progress: bool = True,
    checkpoint: str | FilePath | None = None,
    checkpoint_seconds: float = 30.0,
) -> ParticleChains:
    """Draw paths, or parameters and paths, of a state-space model by particle Gibbs.

    Args:
        key: ``jax.random.key(seed)``; the same key gives the same chains bit for bit.
        target: made by `parametric`; or a composed model, for paths alone.
        num_particles: of the conditional filter, at least two, the kept path among them.
        num_chains: chains, side by side in one program; tuning learns from all of them.
        num_draws, num_warmup, thin: draws kept of each chain, transitions before them, transitions a draw.
        kernel: moves the parameters given the path: a name, or any `Kernel`.
        num_moves: steps of it a transition.
        ancestor_sampling: whether the kept path draws at every step whom it descends from: it then needs few particles
            even for long series.
        resampling: name of a scheme; every one leaves the law of paths exactly invariant.
        progress: draw a bar on stderr.
        checkpoint: a file to resume from and to save to.
        checkpoint_seconds: least time between two writes, seconds.

    Returns:
        `ParticleChains`: parameters by name and the path's states, R-hat, effective sample sizes, how often paths change.

    Raises:
        ArgumentError, TargetError: before any work. CheckpointError: for a checkpoint of another run.
        Interrupted: after Ctrl-C where there is a bar or a checkpoint, at the end of the transition under way.
    """
    num_chains, num_draws, num_warmup, thin = checked(num_chains, num_draws, num_warmup, thin)
    # Besides the kept path there must be room for another.
    num_particles = validate.count("num_particles", num_particles, at_least=2)
    num_moves = validate.count("num_moves", num_moves)
    ancestor_sampling = validate.flag("ancestor_sampling", ancestor_sampling)
    settings = Settings(num_particles, resampling, history="full")
    known = not isinstance(target, Parametric)
    mover = None if known else by_name(kernel)
    model = check_model(target) if known else numbers_as_arrays(target)
    sampler = ParticleGibbs(model, mover, settings, ancestor_sampling, num_moves)
    driven = drive(
        key,
        sampler,
        doubling(num_draws, num_warmup, thin),
        num_chains=num_chains,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        description="particle Gibbs",
    )
    paths = leaves_by_name(driven.records["path"])
    changed = np.mean([np.mean(_moved(value), axis=(0, 1)) for value in paths.values()], axis=0)
    draws = {}
    if isinstance(target, Parametric):
        draws = named(target.prior.constrain, jnp.asarray(driven.records["position"]))
    return chains_of(
        ParticleChains,
        key,
        driven,
        draws | {name if name not in draws else f"state.{name}": value for name, value in paths.items()},
        {
            "method": "particle Gibbs",
            "kernel": "none" if mover is None else kernel if isinstance(kernel, str) else type(mover).__name__,
            "num_particles": num_particles,
            "num_warmup": num_warmup,
            "thin": thin,
            "path_changes": [float(changed.min()), float(changed.max())],
        },
    )


def _moved(value: np.ndarray) -> np.ndarray:
    """Whether x_t changed between a draw and the next, ``(chains, draws - 1, T+1)``."""
    different = value[:, 1:] != value[:, :-1]
    return (
        different.reshape(*different.shape[:3], -1).any(axis=-1)
        if different.shape[1]
        else np.zeros((1, 1, value.shape[2]))
    )
