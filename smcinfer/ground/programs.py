"""Programs that are compiled once: for all data of one shape, and for all places that call them.

A closure holds its data, and JAX would compile them into the program: the next data set, another closure with the same text,
would be compiled again. `compiled` traces a function, hands all arrays that its closures hold to the program as arguments,
and looks for a program with the same text among those that it has. What differs in more than the values of arrays (a shape, a
dtype, a number written into the code, a branch that the data decided) has another text, and is compiled.
"""

import collections
import contextlib
import contextvars
import functools
import hashlib
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer, eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, Var  # pyright: ignore[reportPrivateImportUsage]

from smcinfer.ground.slices import slice_size

MOST = 64
"""Traces, and programs, that are kept: those used longest ago are forgotten, with the data that their closures hold."""

# Rules for derivatives, made anew by every trace; what is compiled was differentiated already.
_UNUSED = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


_apart = contextvars.ContextVar("apart", default=True)


@contextlib.contextmanager
def merged(enabled: bool) -> Iterator[None]:
    """While the block traces, no function stays apart: how arrays lie over devices is not seen through the call of one."""
    token = _apart.set(_apart.get() and not enabled)
    try:
        yield
    finally:
        _apart.reset(token)


def apart() -> bool:
    """Whether functions stay apart in what is traced now."""
    return _apart.get()


class _Kept[Value]:
    """The last values that were asked for, by what they were made of."""

    def __init__(self) -> None:
        self._values: collections.OrderedDict[Hashable, Value] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value], *, keep: Callable[[Value], bool] = lambda _: True) -> Value:
        """What is kept for a key, or what ``make`` makes, kept where ``keep`` says so."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = make()
        if keep(value):
            self._values[key] = value
            while len(self._values) > MOST:
                self._values.popitem(last=False)
        return value


class _Traced(NamedTuple):
    """A trace: what its closures held, in which order its program takes the leaves, what the results are, and the program."""

    consts: list[Any]
    order: list[int]
    results: Any
    run: Any


_traces: _Kept[_Traced] = _Kept()
_programs: _Kept[Callable[..., Any]] = _Kept()


def compiled[Function: Callable[..., Any]](function: Function, *, inline: Any = jax.Inline.AUTO) -> Function:
    """A function as a program that other data, however they are held, run as well.

    Args:
        function: pure, of any pytrees: arrays are traced, the rest is part of the program and must be hashable. Its results
            are pytrees of arrays.
        inline: how XLA treats it inside another program.
    """

    name = getattr(function, "__name__", "program")

    def found(*args: Any, **named: Any) -> tuple[_Traced, list[Any]]:
        dynamic, static = eqx.partition((args, named), eqx.is_array)
        leaves, structure = jax.tree.flatten(dynamic)
        fixed, shape = jax.tree.flatten(static)
        # One and True are equal, and not the same program.
        rest = tuple((type(one), one) for one in fixed), shape
        how = inline if _apart.get() else jax.Inline.AUTO
        avals = tuple((leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in leaves)
        key = (function, rest, structure, avals, how, _context())

        def trace() -> _Traced:
            def flat(*leaves: Any) -> Any:
                args, named = eqx.combine(jax.tree.unflatten(structure, leaves), static)
                return function(*args, **named)

            flat.__name__ = name
            closed, shape = jax.make_jaxpr(flat, return_shape=True)(*leaves)
            order = by_use(closed.jaxpr)
            jaxpr = closed.jaxpr.replace(invars=[closed.jaxpr.invars[at] for at in order])
            run = _programs.get((_identity(jaxpr), how, _context()), lambda: _program(jaxpr, name, how))
            return _Traced(closed.consts, order, jax.tree.structure(shape), run)

        # What a closure holds of a trace that is under way is worth nothing after it.
        concrete = lambda made: not any(isinstance(held, Tracer) for held in made.consts)  # noqa: E731
        made = _traces.get(key, trace, keep=concrete)
        return made, [leaves[at] for at in made.order]

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        made, leaves = found(*args, **named)
        return jax.tree.unflatten(made.results, made.run(made.consts, leaves))

    call.found = found  # pyright: ignore[reportAttributeAccessIssue]
    return call  # pyright: ignore[reportReturnType]


def executable(program: Any, *args: Any) -> Any:
    """What XLA made of a `compiled` function for these arguments; a call finds it made.

    Args:
        program: made by `compiled`.
        *args: what it will be called on.
    """
    made, leaves = program.found(*args)
    return made.run.lower(made.consts, leaves).compile().runtime_executable()


outlined = functools.partial(compiled, inline=jax.Inline.XLA_LATE)
"""A function that stays a function in the program that calls it.

XLA copies a callee into each of its callers and compiles every copy, and it merges what a callee reads into each of its parts.
Kept apart, a density and its gradient are compiled once for the start and all moves, and from their own text alone.
"""


def by_use(jaxpr: Jaxpr) -> list[int]:
    """The arguments that are used, by first use: pytrees of other packages may list them in another order in every process."""
    places: dict[Any, int] = {}
    for variable in [*(one for equation in jaxpr.eqns for one in equation.invars), *jaxpr.outvars]:
        if isinstance(variable, Var):
            places.setdefault(variable, len(places))
    used = [at for at, variable in enumerate(jaxpr.invars) if variable in places]
    return sorted(used, key=lambda at: places[jaxpr.invars[at]])


def _program(jaxpr: Jaxpr, name: str, inline: Any) -> Callable[..., Any]:
    def run(consts: list[Any], leaves: list[Any]) -> list[Any]:
        return eval_jaxpr(jaxpr, consts, *leaves)

    run.__name__ = name
    return jax.jit(run, inline=inline)


def _context() -> Hashable:
    config = jax.config
    precision = config.jax_enable_x64, config.jax_default_matmul_precision, config.jax_numpy_dtype_promotion
    return precision, slice_size()


def _identity(jaxpr: Jaxpr) -> Hashable:
    """All that a program is: its text, the functions it calls on the host, and arrays that are held too deep to be lifted."""
    with np.printoptions(threshold=2**31):
        return str(jaxpr), tuple(_hidden(jaxpr))


def _hidden(jaxpr: Jaxpr) -> Iterator[Hashable]:
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr):
                    yield from (_digest(held) for held in part.consts)
                    yield from _hidden(part.jaxpr)
                elif isinstance(part, Jaxpr):
                    yield from _hidden(part)
                elif callable(part) and equation.primitive.name not in _UNUSED:
                    yield part


def _digest(held: Any) -> str:
    if isinstance(held, jax.Array) and jax.numpy.issubdtype(held.dtype, jax.dtypes.prng_key):
        held = jax.random.key_data(held)
    return hashlib.sha256(np.asarray(held).tobytes()).hexdigest()
