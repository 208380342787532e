"""The contract of a process, and the simulated states on which its companions are tried."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from smcinfer.checks.report import Check, Report, none_of, same
from smcinfer.core.compose import Process
from smcinfer.ground.arrays import Array, KeyArray, PyTree
from smcinfer.ground.errors import TargetError
from smcinfer.ground.programs import compiled
from smcinfer.static.contract import abstract_output, describe


def check_process(process: Process, key: KeyArray, *, num_steps: int = 5) -> Report:
    """Check that a process returns distributions, keeps its state's structure, and stays finite on its own draws.

    Args:
        process: what is checked.
        key: random key.
        num_steps: steps simulated.

    Returns:
        `Report`.
    """
    name = f"process {type(process).__name__}"
    traced, state = trace(process)
    if not traced.passed:
        return Report(name, (traced,))
    time, symbol = jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
    after = jax.eval_shape(
        lambda key, t, state: process.advance(t, state, process.transition(t, state).sample(key)), symbol, time, state
    )
    hint = "loops carry the state: build it at t = 0 with the shapes and dtypes that later steps return"
    structure = Check(
        "advance keeps the state's structure",
        describe(after) == describe(state),
        describe(after),
        describe(state),
        hint,
    )
    if not structure.passed:
        return Report(name, (traced, structure))
    states, log_probs = simulate(process, key, num_steps, 256)
    leaves = [leaf for leaf in jax.tree.leaves(states) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    bad = sum(int(np.count_nonzero(~np.isfinite(leaf))) for leaf in leaves)
    return Report(
        name,
        (
            traced,
            Check(structure.name, True),
            same("simulated states are finite", bad, 0),
            none_of("log_prob is finite on the transition's own draws", ~np.isfinite(log_probs)),
        ),
    )


def trace(process: Process) -> tuple[Check, PyTree[Any]]:
    """Whether a process can be traced, and the shape of its state."""
    key, time = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)
    name = "initial and transition return distributions"
    hint = "return the law of x_t, not a draw of it or its mean"
    try:
        law = _law("process.initial", process.initial)
        if law is not None and not isinstance(law, Distribution):
            return Check(name, False, f"initial: {type(law).__name__}", "a numpyro distribution", hint), None
        state = abstract_output("process.advance", lambda key, t: _start(process, law, key, t), key, time)
        law = _law("process.transition", process.transition, time, state)
    except TargetError as error:
        return Check("can be traced on one particle", False, message=str(error)), None
    return Check(name, isinstance(law, Distribution), type(law).__name__, "a numpyro distribution", hint), state


def _law(name: str, function: Callable[..., Any], *arguments: PyTree[Any]) -> Any:
    """What a function that returns a distribution would return."""
    returned: list[Any] = []
    abstract_output(name, lambda *values: returned.append(function(*values)), *arguments)
    return returned[0]


def _start(process: Process, law: Distribution | None, key: KeyArray, t: Array) -> PyTree[Any]:
    return process.advance(t, None, None if law is None else law.sample(key))


@compiled
def simulate(process: Process, key: KeyArray, num_steps: int, size: int) -> tuple[PyTree[Any], Array]:
    """States at t = 0 .. num_steps of independent paths, time first, and the log density of each transition.

    Args:
        process: the base law.
        key: one random key.
        num_steps: T.
        size: independent paths.

    Returns:
        States, every leaf with leading axes ``(num_steps + 1, size)``, and Float["num_steps size"], nats.
    """
    law = process.initial()

    def path(key: KeyArray) -> tuple[PyTree[Any], Array]:
        start_key, key = jax.random.split(key)
        first = _start(process, law, start_key, jnp.zeros((), jnp.int32))

        def body(state: PyTree[Any], inputs: tuple[Array, KeyArray]) -> tuple[PyTree[Any], Any]:
            t, key = inputs
            transition = process.transition(t, state)
            x = transition.sample(key)
            state = process.advance(t, state, x)
            return state, (state, jnp.sum(transition.log_prob(x)))

        times = jnp.arange(1, num_steps + 1, dtype=jnp.int32)
        _, (later, log_probs) = jax.lax.scan(body, first, (times, jax.random.split(key, num_steps)))
        return jax.tree.map(lambda a, b: jnp.concatenate([jnp.asarray(a)[None], b]), first, later), log_probs

    return jax.vmap(path, out_axes=1)(jax.random.split(key, size))
