r"""Moving a cloud: as many kernel steps as it takes to forget where it started.

The cloud measures its own mixing. After k steps the autocorrelation

.. math:: \rho_k = \max\bigl( \max_j\, \mathrm{corr}_i(x_j^{0,i}, x_j^{k,i}),
    \ \mathrm{corr}_i(\Phi^{0,i}, \Phi^{k,i}) \bigr)

over particles i compares where they are with where they were, in the slowest coordinate j (one minus it is half the
squared jump in units of the variance) and in the potential, which is what log Z is made of. The move stops once it is small
(Kantas, Beskos & Jasra 2014, section 4.2), or at a cap, and then the run says so.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import follow_leader
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels.base import Kernel, KernelState, TemperedDensity


class Moves(eqx.Module):
    """How long a move is.

    Attributes:
        max_steps: the largest number of kernel steps.
        min_steps: the smallest.
        autocorrelation: stop once the autocorrelation with the start is below this; 0 takes ``max_steps`` always.
    """

    max_steps: int = eqx.field(static=True, default=100)
    min_steps: int = eqx.field(static=True, default=1)
    autocorrelation: float = eqx.field(static=True, default=0.2)

    def __check_init__(self) -> None:
        if not 1 <= self.min_steps <= self.max_steps:
            raise ArgumentError(
                "the number of move steps is out of range",
                expected="1 <= min_move_steps <= max_move_steps",
                got=(self.min_steps, self.max_steps),
            )
        if not 0.0 <= self.autocorrelation < 1.0:
            raise ArgumentError("the autocorrelation is out of range", expected="in [0, 1)", got=self.autocorrelation)


class MoveReport(eqx.Module):
    """What a move did: mean acceptance, steps, evaluations a particle, autocorrelation left, share of capped loops."""

    acceptance: Scalar
    num_steps: Int[Array, ""]
    num_evals: Scalar
    autocorrelation: Scalar
    cap_reached: Scalar


def correlation(before: Float[Array, "n k"], after: Float[Array, "n k"]) -> Float[Array, " k"]:
    """Correlation over particles, a column at a time; a constant column counts as one (it did not move)."""
    a = before - jnp.mean(before, axis=0)
    b = after - jnp.mean(after, axis=0)
    scale = jnp.sqrt(jnp.mean(a**2, axis=0) * jnp.mean(b**2, axis=0))
    return jnp.where(scale > 0, jnp.mean(a * b, axis=0) / jnp.where(scale > 0, scale, 1.0), 1.0)


def autocorrelation(start: KernelState, end: KernelState) -> Scalar:
    """The module's rho between two populations of states (leading axis: particles)."""
    coordinates = jnp.max(correlation(start.position, end.position))
    finite = (start.log_potential > -jnp.inf) & (end.log_potential > -jnp.inf)
    before = jnp.where(finite, start.log_potential, 0.0)[:, None]
    after = jnp.where(finite, end.log_potential, 0.0)[:, None]
    return jnp.maximum(coordinates, correlation(before, after)[0])


def sweep(
    key: KeyArray, states: KernelState, density: TemperedDensity, kernel: Kernel, params: PyTree[Any], *, led: bool
) -> tuple[KernelState, Any]:
    """One kernel step of every particle; what lanes share is drawn once, and where led, once for all runs."""
    size = states.position.shape[0]
    share_key, lanes_key = jax.random.split(key, 2)
    params = kernel.share(share_key, params)
    # Followers then take trajectories as long as those that the leader stopped on, and one loop bound serves all runs.
    params = follow_leader(params) if led else params
    lanes = jax.random.split(lanes_key, size)
    return jax.vmap(lambda key, state: kernel.step(key, state, density, params))(lanes, states)


def move(
    key: KeyArray,
    states: KernelState,
    density: TemperedDensity,
    kernel: Kernel,
    params: PyTree[Any],
    moves: Moves,
    *,
    led: bool,
    wanted: Array | bool = True,
) -> tuple[KernelState, MoveReport]:
    """Move all particles until they have forgotten their start, or the cap.

    Args:
        key: one key.
        states: kernel states with a leading axis of particles, equally weighted.
        density: what the kernel leaves invariant.
        kernel, params: the kernel and its parameters, frozen here.
        moves: the stopping rule.
        led: whether to stop when the leader's particles have forgotten theirs, and not one's own.
        wanted: where false, take none; the loop then costs nothing.

    Returns:
        The moved states and a `MoveReport`.
    """
    zero = jnp.zeros((), jnp.result_type(float))
    start = states

    def unfinished(carry: tuple[Any, ...]) -> Array:
        step, _, _, _, rho = carry
        more = (step < moves.min_steps) | (rho > moves.autocorrelation)
        return wanted & (step < moves.max_steps) & more

    def once(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, states, sums, _, _ = carry
        states, info = sweep(jax.random.fold_in(key, step), states, density, kernel, params, led=led)
        means = jax.tree.map(lambda leaf: jnp.mean(leaf.astype(zero.dtype)), info)
        sums = jax.tree.map(jnp.add, sums, (means.acceptance, means.num_evals, means.cap_reached))
        own = autocorrelation(start, states).astype(zero.dtype)
        return step + 1, states, sums, own, follow_leader(own) if led else own

    one = jnp.ones_like(zero)
    carry = (jnp.zeros((), jnp.int32), states, (zero, zero, zero), one, one)
    step, states, (acceptance, evals, caps), rho, _ = jax.lax.while_loop(unfinished, once, carry)
    count = jnp.maximum(step, 1)
    taken = step > 0
    return states, MoveReport(
        acceptance=jnp.where(taken, acceptance / count, jnp.nan),
        num_steps=step,
        num_evals=evals,
        autocorrelation=jnp.where(taken, rho, jnp.nan),
        cap_reached=caps / count,
    )


def chains(
    key: KeyArray,
    states: KernelState,
    density: TemperedDensity,
    kernel: Kernel,
    params: PyTree[Any],
    length: int,
    *,
    led: bool,
) -> tuple[KernelState, MoveReport]:
    """Chains of ``length`` states from each particle, every state kept (waste-free).

    Args:
        states: M starting states; they are the first states of their chains.
        length: P, states a chain; P - 1 kernel steps.
        led: whether runs share what the leader's sweeps share.

    Returns:
        M * P states, a chain's states side by side, and a report whose autocorrelation is that of the chains' *means*:
        the share of the potential's variance that averaging over a chain does not remove, against 1/P for independent
        states.
    """

    def once(states: KernelState, index: Array) -> tuple[KernelState, Any]:
        states, info = sweep(jax.random.fold_in(key, index), states, density, kernel, params, led=led)
        return states, (states, info)

    _, (later, info) = jax.lax.scan(once, states, jnp.arange(length - 1))
    joined = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), states, later)
    flat = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:]), joined)
    values = jnp.where(joined.log_potential > -jnp.inf, joined.log_potential, 0.0)
    spread = jnp.var(values)
    share = jnp.where(spread > 0, jnp.var(jnp.mean(values, axis=0)) / jnp.where(spread > 0, spread, 1.0), 1.0)
    dtype = jnp.result_type(float)
    return flat, MoveReport(
        acceptance=jnp.mean(info.acceptance),
        num_steps=jnp.asarray(length - 1, jnp.int32),
        num_evals=jnp.sum(jnp.mean(info.num_evals.astype(dtype), axis=1)),
        autocorrelation=share.astype(dtype),
        cap_reached=jnp.mean(info.cap_reached.astype(dtype)),
    )
