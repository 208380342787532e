"""The front door of smoothing: filter, keep everything, and look back by the method asked for."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.compose import Composed
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.core.status import Status
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int
from smcinfer.ground.errors import TargetError
from smcinfer.ground.names import leaves_by_name
from smcinfer.ground.programs import compiled
from smcinfer.results.from_run import settings_of
from smcinfer.results.smoothed import Smoothed
from smcinfer.run.runner import Run, as_typed_key, compile_clock, run
from smcinfer.state_space.smoothing.backward import backward_sample, marginals
from smcinfer.state_space.smoothing.density import refuse_orphans, refuse_point_masses
from smcinfer.state_space.smoothing.genealogy import fixed_lag, gather, trace

METHODS: dict[str, str] = {
    "backward": "paths drawn backwards, O(M N) a step",
    "ffbs": "marginals of all particles reweighted, O(N^2) a step",
    "genealogy": "paths that the last particles descend from",
    "fixed_lag": "ancestors of the particles some steps later",
}
"""Names of the methods, and what each does."""

DENSE = ("backward", "ffbs")
"""Methods that ask the transition for a density."""

DEFAULT_LAG = 10


def smooth(
    key: Any,
    model: FeynmanKac,
    *,
    method: str = "backward",
    num_particles: int = 1024,
    num_runs: int = 4,
    num_draws: int | None = None,
    lag: int | None = None,
    resampling: str = "systematic",
    resample_below: float = 0.5,
    progress: bool = True,
) -> Smoothed:
    """What all data say of every state: p(x_t | y_0:T), and for two of the methods of whole paths.

    Args:
        key: one random key.
        model: made by `state_space`, `compose` or `twisted`.
        method: ``"backward"`` draws paths (any functional of them can be estimated); ``"ffbs"`` reweights every step's
            particles, the least noise for marginals; ``"genealogy"`` costs nothing, needs no transition density, and has few
            distinct ancestors left far back; ``"fixed_lag"`` neither coalesces nor needs a density, but is biased: it sees
            only the data up to t + ``lag``.
        num_particles, num_runs, resampling, resample_below, progress: as in `smcinfer.sample`.
        num_draws: paths a run, of ``"backward"``; as many as particles where ``None``.
        lag: steps, of ``"fixed_lag"``, at most those of the model; 10 (or all of them) where ``None``.

    Returns:
        `Smoothed`: means, standard deviations, quantiles and draws; prints itself and exports to ArviZ.

    Raises:
        ArgumentError: for an unknown method, or a setting of another one.
        TargetError: where the method needs a transition density from a state that is x itself, and the model has none:
            before any work where part of the state is drawn from a point mass, after the filter where the density misses
            the filter's own moves.
    """
    _check(model, method, num_draws, lag)
    key = as_typed_key(key)
    filter_key, draw_key = jax.random.split(key)
    started = time.perf_counter()
    with compile_clock() as compiling:
        done = run(
            filter_key,
            model,
            num_particles,
            num_runs=num_runs,
            resampling=resampling,
            resample_below=resample_below,
            history="full",
            progress=progress,
            description="filter",
        )
        if method in DENSE:
            refuse_orphans(model, done.history)
        keys = jax.random.split(draw_key, num_runs)
        draws = num_draws or num_particles
        parts = [
            _look_back(keys[r], model, _of_run(done, r), method, draws, lag or DEFAULT_LAG) for r in range(num_runs)
        ]
        chosen, log_weights = (np.stack([np.asarray(part[i]) for part in parts]) for i in (0, 1))
    particles = done.history["particles"]
    rows = np.arange(num_runs)[:, None, None], np.arange(chosen.shape[1])[None, :, None], chosen
    return Smoothed(
        method=method,
        values={name: leaf[rows] for name, leaf in leaves_by_name(getattr(particles, "state", particles)).items()},
        log_weights=log_weights,
        chosen=chosen,
        log_z_runs=np.asarray(done.log_z),
        # Backward methods do not descend from the genealogy, and `distinct` says what the others have left of it.
        status=Status(int(np.bitwise_or.reduce(np.asarray(done.status)))) & ~Status.GENEALOGY_COALESCED,
        settings=settings_of(
            key, model, num_particles, num_runs=num_runs, resampling=resampling, resample_below=resample_below, lag=lag
        )
        | {"weighted_for": Smoothed.WEIGHTED_FOR},
        seconds=time.perf_counter() - started,
        compile_seconds=compiling[0],
    )


class _History(eqx.Module):
    """What one run recorded, leading axis T + 1."""

    particles: Any
    log_weights: Float[Array, "steps n"]
    ancestors: Int[Array, "steps n"]


def _of_run(done: Run, index: int) -> _History:
    history = done.history
    particles, log_weights, ancestors = jax.tree.map(
        lambda leaf: jnp.asarray(leaf[index]), (history["particles"], history["log_weights"], history["ancestors"])
    )
    return _History(particles, log_weights, ancestors)


@compiled
def _look_back(
    key: Array, model: Any, history: _History, method: str, num_draws: int, lag: int
) -> tuple[Int[Array, "steps k"], Float[Array, "steps k"]]:
    """Indices into every step's particles, and their log weights, by one method."""
    steps, size = history.log_weights.shape
    if method == "backward":
        chosen = backward_sample(key, model, history.particles, history.log_weights, num_draws)
        return chosen, jnp.full(chosen.shape, -jnp.log(num_draws), history.log_weights.dtype)
    if method == "ffbs":
        everyone = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (steps, size))
        return everyone, marginals(model, history.particles, history.log_weights)
    if method == "genealogy":
        everyone = jnp.arange(size, dtype=jnp.int32)
        return trace(history.ancestors, everyone), jnp.broadcast_to(history.log_weights[-1], (steps, size))
    return fixed_lag(history.ancestors, history.log_weights, lag)


def draw_path(
    key: Array, particles: Any, log_weights: Float[Array, "steps n"], ancestors: Int[Array, "steps n"]
) -> Any:
    """The states of one path drawn by its final weight and traced by genealogy.

    Args:
        key: one random key.
        particles: what the history recorded, every leaf ``(T+1, n, ...)``.
        log_weights: Float["T+1 n"], normalised, nats; only the last row is read.
        ancestors: Int["T+1 n"] as in `trace`.

    Returns:
        The path x_0 .. x_T, every leaf ``(T+1, ...)``.
    """
    last = jax.random.categorical(key, log_weights[-1]).astype(ancestors.dtype)
    path = gather(particles.state, trace(ancestors, last[None]))
    return jax.tree.map(lambda leaf: leaf[:, 0], path)


def _check(model: Any, method: str, num_draws: int | None, lag: int | None) -> None:
    validate.one_of("method", method, METHODS)
    if method != "backward":
        validate.not_given(f'method="{method}"', num_draws=num_draws)
    if method != "fixed_lag":
        validate.not_given(f'method="{method}"', lag=lag)
    if num_draws is not None:
        validate.count("num_draws", num_draws)
    validate.instance("model", model, FeynmanKac, "a model made by state_space or compose")
    if lag is not None:
        validate.count("lag", lag, at_most=max(model.num_steps, 1))
    if method not in DENSE:
        return
    if not (isinstance(model, Composed) and model.process.state_is_x):
        raise TargetError(
            f"{method} smoothing needs the transition density of a state that is x itself",
            expected="a model made by state_space or compose, of a process without an advance of its own",
            got=type(model).__name__,
            hint='method="genealogy" and "fixed_lag" work on any model',
        )
    refuse_point_masses(model)
