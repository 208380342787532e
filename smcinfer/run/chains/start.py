"""Where chains start, and everything that can be wrong there, found before any work."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import Array, Float, Key, PyTree
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.programs import compiled
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity, evaluated
from smcinfer.static.contract import check_scalar
from smcinfer.static.guard import Guarded, guarded_density, undefined
from smcinfer.static.prior import BARE_NAME
from smcinfer.static.target import StaticTarget

# Draws of the base made for each chain: the first of finite density are taken.
TRIES = 8


class Start(NamedTuple):
    """What a run begins with.

    Attributes:
        density: the target, guarded against NaN.
        states: kernel states, leading axis chains; their densities (and gradients) are finite.
        constrain: one vector -> dict of named values.
        undefined: whether the target was NaN or plus infinity at some draw of the base.
    """

    density: TemperedDensity
    states: KernelState
    constrain: Callable[[Array], dict[str, Array]]
    undefined: bool


def start(key: Key[Array, ""], kernel: Kernel, target: Any, initial: Any, num_chains: int) -> Start:
    """Starting states of all chains.

    Args:
        key: for draws of the base.
        kernel: whose states they are.
        target: a `StaticTarget`, or a log density of vectors.
        initial: as `mcmc` takes it.
        num_chains: how many.

    Raises:
        ArgumentError, TargetError: as `mcmc`.
    """
    if isinstance(target, StaticTarget):
        _check_base(target)
        target = target.as_arrays()
        density, constrain = guarded_density(target, jnp.ones((), jnp.result_type(float))), target.constrain
        if initial is None:
            return _from_base(key, kernel, target, density, num_chains)
        named = isinstance(initial, dict)
        positions = _from_values(initial, target, num_chains) if named else _numbers("initial", initial)
        positions = _shaped(positions, num_chains, target.dim)
    elif callable(target):
        density = TemperedDensity(_no_base, Guarded(target), jnp.ones((), jnp.result_type(float)))
        constrain = _as_theta
        positions = _given(key, initial, num_chains)
        check_scalar("target", target, jax.ShapeDtypeStruct(positions.shape[1:], positions.dtype))
    else:
        raise TargetError(
            "target is of no kind that chains can run on",
            expected="posterior(...), log_density(...), from_numpyro(...) or a log density function of a vector",
            got=type(target).__name__,
        )
    states = _initialise(kernel, positions, density)
    _check_states(states, density)
    return Start(density, states, constrain, False)


@compiled
def _initialise(kernel: Kernel, positions: Float[Array, "chains dim"], density: TemperedDensity) -> KernelState:
    return jax.vmap(lambda position: kernel.init(position, density))(positions)


def _as_theta(x: Array) -> dict[str, Array]:
    return {BARE_NAME: x}


def _no_base(x: Array) -> Array:
    return jnp.zeros((), x.dtype)


def _check_base(target: StaticTarget) -> None:
    if target.base_scale is None:
        return
    diagonal = np.diagonal(np.asarray(target.base_scale))
    if not (np.all(np.isfinite(target.base_scale)) and np.all(diagonal > 0)):
        raise TargetError(
            "the covariance of the base is not positive definite",
            expected="a Cholesky factor with a positive diagonal",
            got=f"a diagonal between {diagonal.min():.3g} and {diagonal.max():.3g}",
            hint="give the prior scale_tril, or a covariance with positive eigenvalues",
        )


def _from_base(
    key: Key[Array, ""], kernel: Kernel, target: StaticTarget, density: TemperedDensity, num_chains: int
) -> Start:
    """The first draws of the base at which the target is not zero."""

    positions, bad = _draw(key, target, num_chains)
    states = _initialise(kernel, positions, density)
    _check_states(states, density)
    return Start(density, states, target.constrain, bool(bad))


@compiled
def _draw(key: Key[Array, ""], target: StaticTarget, num_chains: int) -> tuple[Array, Array]:
    positions = target.sample_base(key, TRIES * num_chains).astype(jnp.result_type(float))
    there = jax.vmap(lambda position: evaluated(target.density(1.0), position))(positions)
    bad = undefined(there.log_potential)
    # Those that can be started from first, in the order drawn.
    possible = jnp.isfinite(there.log_base + there.log_potential) & ~bad
    return positions[jnp.argsort(~possible, stable=True)[:num_chains]], jnp.any(bad)


def _from_values(values: dict[str, Any], target: StaticTarget, num_chains: int) -> Array:
    """Named values, one a chain, as vectors; every fault named."""
    if target.unconstrain is None:
        raise ArgumentError(
            "this target cannot turn named values into vectors",
            expected=f"initial as an array (num_chains, {target.dim}) of unconstrained vectors",
            got=f"a dict of {list(values)}",
        )
    if not values:
        raise ArgumentError("initial is empty", expected="a dict of named values, or None", got=values)
    known = jax.eval_shape(target.constrain, jax.ShapeDtypeStruct((target.dim,), jnp.result_type(float)))
    arrays = {}
    for name, value in values.items():
        if name not in known:
            raise ArgumentError(
                f"initial names {name!r}, which the target has not", expected=list(known), got=list(values)
            )
        arrays[name], want = _numbers(f"initial[{name!r}]", value), (num_chains, *known[name].shape)
        if arrays[name].shape != want:
            raise ArgumentError(f"initial[{name!r}] has the wrong shape", expected=want, got=arrays[name].shape)
    try:
        return jax.vmap(target.unconstrain)(arrays)
    except KeyError as error:
        raise ArgumentError(f"initial lacks {error}", expected=list(known), got=list(values)) from error


def _numbers(name: str, value: Any) -> Array:
    try:
        return jnp.asarray(value, jnp.result_type(float))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} holds no numbers", expected="an array of numbers", got=repr(value)[:80]) from error


def _given(key: Key[Array, ""], initial: Any, num_chains: int) -> Float[Array, "chains dim"]:
    """Positions for a plain function: as given, or standard normal in a given dimension."""
    if initial is None or isinstance(initial, bool):
        raise ArgumentError(
            "a log density function alone does not say where to start",
            expected="initial: the dimension, or positions of shape (num_chains, dim)",
            got=repr(initial),
        )
    if isinstance(initial, int):
        if initial < 1:
            raise ArgumentError("the dimension is out of range", expected="initial >= 1", got=initial)
        return jax.random.normal(key, (num_chains, initial))
    positions = _numbers("initial", initial)
    return _shaped(positions, num_chains, positions.shape[-1] if positions.ndim else 0)


def _shaped(positions: Array, num_chains: int, dim: int) -> Float[Array, "chains dim"]:
    if positions.shape not in ((num_chains, dim), (dim,)) or 0 in positions.shape:
        raise ArgumentError(
            "initial has the wrong shape",
            expected=f"({num_chains}, {dim}), one row a chain, or ({dim},) for all",
            got=positions.shape,
        )
    return jnp.broadcast_to(positions, (num_chains, dim)).astype(jnp.result_type(float))


def _check_states(states: KernelState, density: TemperedDensity) -> None:
    """Raise `TargetError` unless every chain can start where it stands."""
    values = np.asarray(jax.vmap(density.combine)(states.log_base, states.log_potential))
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise TargetError(
            f"the target has no density where {bad.size} of {values.size} chains start",
            expected="a finite log density at every start",
            got=f"{values[bad[0]]} at {_shown(states.position[bad[0]])}",
            hint="pass initial: points inside the support",
        )
    if states.gradients is None:
        return
    bad = np.flatnonzero(~_finite_rows(states.gradients))
    if bad.size:
        raise TargetError(
            f"the gradient is not finite where {bad.size} of {values.size} chains start",
            expected="a finite gradient at every start, which this kernel follows",
            got=f"at {_shown(states.position[bad[0]])}",
            hint="write branches so that both sides are differentiable (jnp.where inside the square root, say), "
            "or choose a kernel without gradients",
        )


def _finite_rows(gradients: PyTree[Any]) -> np.ndarray:
    return np.all([np.isfinite(np.asarray(part)).all(axis=1) for part in jax.tree.leaves(gradients)], axis=0)


def _shown(position: Array) -> str:
    return np.array2string(np.asarray(position), precision=4, threshold=6)
