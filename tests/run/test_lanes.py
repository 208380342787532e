"""Lanes at their own pace: what they compute in step, bit for bit, with fewer ticks; and why they must end by transitions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.kernels import HMC, TemperedDensity
from smcinfer.kernels.gibbsian_polar_slice import GibbsianPolarSlice
from smcinfer.models import hard_targets
from smcinfer.run.chains.lanes import Course, advance, arrived, set_out
from smcinfer.run.chains.of_kernel import Learned, OfKernel, OfTickKernel, of_kernel
from smcinfer.run.chains.sampler import LOCKSTEP
from tests.kernel_targets import QUICK_COMPILE
from tests.statistics import assert_ks

EXACT = hard_targets.cauchy(3)
# A linear radius and a short width: far out a transition takes many steps, near the centre few.
KERNEL = GibbsianPolarSlice(radius="linear", affine=False, width=1.0)


def density() -> TemperedDensity:
    return TemperedDensity(lambda x: jnp.zeros(()), EXACT.log_density, jnp.ones((), float))


def begin(num_lanes: int) -> tuple[Any, Any]:
    """Keys, and exact draws as states."""
    positions = EXACT.draw(jax.random.key(3), num_lanes)
    states = jax.vmap(lambda x: KERNEL.init(x, density()))(positions)
    return jax.random.split(jax.random.key(4), num_lanes), states


def compiled(function: Any) -> Any:
    return jax.jit(function, compiler_options=QUICK_COMPILE)


def travel(
    keys: Any,
    states: Any,
    num: int,
    *,
    kind: Any = OfTickKernel,
    first: Any = 0,
    thin: Any = 1,
    pace: Any = 4,
    parts: Any = (),
) -> tuple[Any, Any, Any]:
    """``num`` records of every lane, with stops after parts of so many steps or ticks: where they end, records, ticks."""
    sampler = kind(KERNEL, density(), states, *((jnp.zeros((), jnp.int32),) if kind is OfTickKernel else ()))
    nothing = jnp.zeros((), float)
    params = Learned(KERNEL.parameters(3), nothing, nothing, nothing)
    course = Course(*(jnp.asarray(each, jnp.int32) for each in (first, num * thin, thin, pace)))
    lanes = set_out(sampler, keys, states, params, course.first, num)
    for part in (*parts, 2**30):
        lanes = advance(lanes, sampler, keys, None, params, course, jnp.asarray(part, jnp.int32))
    return arrived(sampler, lanes), lanes.rows, lanes.ticks


@pytest.mark.slow
def test_own_pace_is_in_step_bit_for_bit(precision: str) -> None:
    keys, states = begin(48)

    def run(keys: Any, states: Any, pace: Any, first: Any, thin: Any) -> Any:
        return travel(keys, states, 5, first=first, thin=thin, pace=pace)

    program = compiled(run)
    for first, thin in ((0, 1), (7, 3)):
        slow = program(keys, states, LOCKSTEP, first, thin)
        one, three = (program(keys, states, pace, first, thin) for pace in (1, 3))
        for other in (one, three):
            for a, b in zip(jax.tree.leaves(slow[:2]), jax.tree.leaves(other[:2]), strict=True):
                np.testing.assert_array_equal(a, b)
        # A tick is an evaluation of every lane: as many as the slowest lane needs over all its transitions.
        evals = np.asarray(slow[1]["num_evals"]).sum(axis=0)
        assert int(one[2]) == evals.max() <= int(three[2]) < int(slow[2])
        assert slow[1]["position"].dtype == precision


def test_own_pace_takes_the_steps_of_the_kernel(x64: None) -> None:
    """Against the kernel's own step, one transition after another; only rounding may differ between programs."""
    keys, states = begin(48)
    own, other = compiled(
        lambda _: [travel(keys, states, 4, kind=kind, thin=2, first=3) for kind in (OfTickKernel, OfKernel)]
    )(0)
    for a, b in zip(jax.tree.leaves(own[:2]), jax.tree.leaves(other[:2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OfTickKernel, OfKernel])
def test_stops_change_nothing(kind: Any) -> None:
    """Stops in the middle of a transition's ticks, or between the transitions of a record, leave no trace."""
    keys, states = begin(16)
    whole, parts = compiled(
        lambda _: [travel(keys, states, 4, kind=kind, thin=3, parts=parts) for parts in ((), (1, 1, 2, 3, 1))]
    )(0)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_chain_goes_on_where_it_was() -> None:
    """Six transitions are four and then two of the same key."""
    keys, states = begin(16)

    def run(keys: Any, states: Any) -> Any:
        whole = travel(keys, states, 6)[1]
        middle, head, _ = travel(keys, states, 4)
        tail = travel(keys, middle, 2, first=4)[1]
        return whole["position"], head["position"], tail["position"]

    whole, head, tail = compiled(run)(keys, states)
    np.testing.assert_array_equal(whole, np.concatenate([head, tail]))


@pytest.mark.slow
def test_lanes_end_by_transitions_not_by_ticks() -> None:
    """From exact draws, lanes that take K transitions stay exact; lanes looked at after so many ticks do not."""
    keys, states = begin(4096)

    def run(keys: Any, states: Any) -> Any:
        _, rows, _ = travel(keys, states, 3)
        params = KERNEL.parameters(3)

        def again(n: Any, carry: Any) -> Any:
            machine, state, count = carry
            machine = KERNEL.tick(machine, density(), params)
            ended = machine.finished
            state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), KERNEL.end(machine)[0], state)
            fresh = KERNEL.begin(jax.random.fold_in(keys[0], 977 * n + count), state, density(), params)
            return jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, machine), state, count + ended

        def stopped(key: Any, state: Any) -> Any:
            start = KERNEL.begin(key, state, density(), params)
            return jax.lax.fori_loop(0, 24, again, (start, state, 0))[1].position

        return rows["position"][-1], jax.vmap(stopped)(keys, states)

    by_transitions, by_ticks = compiled(run)(keys, states)
    assert_ks(jax.vmap(EXACT.scalar)(by_transitions), EXACT.law.cdf)
    with pytest.raises(AssertionError):
        assert_ks(jax.vmap(EXACT.scalar)(by_ticks), EXACT.law.cdf)


def test_what_lanes_share_keeps_them_together() -> None:
    states = begin(2)[1]
    assert of_kernel(KERNEL, density(), states, "auto").own_pace
    assert not of_kernel(HMC(), density(), states, "auto").own_pace

    class Sharing(GibbsianPolarSlice):
        def share(self, key: Any, params: Any) -> Any:
            return eqx.tree_at(lambda p: p.width, params, jax.random.exponential(key))

    assert not of_kernel(Sharing(), density(), states, "auto").own_pace
