"""Kernels whose transitions take varying numbers of evaluations, as machines that take one evaluation a tick.

A slice sampler tries points until one is good. Written as nested loops it can only run in lockstep: under ``vmap``
every lane waits for the slowest in each loop. Written as a machine that asks for one density evaluation at a time,
the same transition runs in lockstep (`TickKernel.step`) or with each lane at its own pace, to the same result:
all randomness of a transition comes from its key and the number of the tick.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Count, Flag, KeyArray, PyTree, Scalar
from smcinfer.kernels.base import Kernel, KernelInfo, KernelState, Position, TemperedDensity, info


class Machine(eqx.Module):
    """One transition under way. Subclasses add what their kernel must remember between two evaluations.

    Attributes:
        key: the transition's key; tick n draws from ``fold_in(key, n)``.
        tick: Int[""], evaluations so far.
        current: where the transition would end if it stopped now, parts evaluated.
        finished: Bool[""], nothing more to evaluate; a finished machine may be ticked, but what comes out is void.
        acceptance: Float[""], share of the transition's moves that found a new point, in [0, 1].
        capped: Bool[""], whether a bounded loop stopped at its bound.
    """

    key: KeyArray
    tick: Count
    current: KernelState
    finished: Flag
    acceptance: Scalar
    capped: Flag


class TickKernel(Kernel):
    """A kernel whose transition is a machine: `begin`, then `point` and `receive` until finished, then `end`.

    The lockstep loop is here; whoever runs many lanes at their own pace calls `begin`, `tick` and `end`, and gets
    what `step` would have returned for the same key.
    """

    @abc.abstractmethod
    def begin(self, key: KeyArray, state: KernelState, density: TemperedDensity, params: PyTree[Any]) -> Any:
        """A `Machine` at the start of a transition: draws what a transition starts with, evaluates nothing.

        Every machine asks for one evaluation at least.
        """

    @abc.abstractmethod
    def point(self, machine: Any, params: PyTree[Any]) -> Position:
        """Where the density is wanted next, in the target's coordinates; deterministic."""

    @abc.abstractmethod
    def receive(self, machine: Any, reached: KernelState, density: TemperedDensity, params: PyTree[Any]) -> Any:
        """The machine after one evaluation; it sets ``finished`` after a bounded number of them.

        Args:
            machine: as it was when it asked.
            reached: ``point(machine, params)`` with its parts evaluated.
            density: the invariant density, for `TemperedDensity.combine`; not to be evaluated here.
            params: the kernel's parameters.
        """

    def tick(self, machine: Any, density: TemperedDensity, params: PyTree[Any]) -> Any:
        """One evaluation and what follows from it."""
        return self.receive(machine, self.init(self.point(machine, params), density), density, params)

    def end(self, machine: Any) -> tuple[KernelState, KernelInfo]:
        """Where a finished machine ended, and what the transition did."""
        return machine.current, info(machine.acceptance, machine.tick, machine.capped)

    def step(
        self, key: KeyArray, state: KernelState, density: TemperedDensity, params: PyTree[Any]
    ) -> tuple[KernelState, KernelInfo]:
        """One transition, in lockstep under ``vmap``: as many evaluations as the slowest lane takes."""
        machine = jax.lax.while_loop(
            # A flag that the machine carries: a condition that evaluated the density anew could disagree with the
            # body about a point on the level, and never end.
            lambda machine: ~machine.finished,
            lambda machine: self.tick(machine, density, params),
            self.begin(key, state, density, params),
        )
        return self.end(machine)


def starting(key: KeyArray, state: KernelState) -> dict[str, Any]:
    """The fields that every `Machine` starts with."""
    return {
        "key": key,
        "tick": jnp.zeros((), jnp.int32),
        "current": state,
        "finished": jnp.zeros((), bool),
        "acceptance": jnp.zeros((), jnp.result_type(float)),
        "capped": jnp.zeros((), bool),
    }


def first_key(key: KeyArray) -> KeyArray:
    """The key of what `TickKernel.begin` draws."""
    return jax.random.fold_in(key, 0)


def tick_key(machine: Machine) -> KeyArray:
    """The key of the evaluation just received; to be used once."""
    return jax.random.fold_in(machine.key, machine.tick + 1)


def tick_uniforms(machine: Machine, num: int) -> Array:
    """Uniforms in [0, 1) that belong to the evaluation just received, in the position's dtype."""
    return jax.random.uniform(tick_key(machine), (num,), machine.current.position.dtype)
