r"""Functions that JAX cannot trace, as parts of compiled programs: numpy, scipy, C++, a subprocess, a simulator.

The compiled program calls the host once for all particles of all runs. Points that the last call had too are not evaluated
again: particles that wait for others in a loop, and those whose value was asked for twice, cost nothing.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, PyTree
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.ground.host import host_arrays
from smcinfer.ground.workers import Pool


@dataclasses.dataclass
class Tally:
    """What a function on the host was asked so far.

    Attributes:
        evaluations: points that it was called with.
        repeats: points that were asked for again and cost nothing.
        undefined: points at which it said NaN: they have weight zero.
        calls: times that the compiled program waited for it.
        work_seconds: spent in the function, by all workers together.
        wait_seconds: that the compiled program waited: with k workers at best ``work_seconds / k``.
    """

    evaluations: int = 0
    repeats: int = 0
    undefined: int = 0
    calls: int = 0
    work_seconds: float = 0.0
    wait_seconds: float = 0.0


class HostFunction(eqx.Module):
    """A function on the host as one of JAX (made by `on_host`); call it as the function is called, on one particle's values.

    Attributes:
        asked: the function, who calls it, and what it said.
    """

    asked: "_Asked" = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it returns for one particle."""
        return self.asked.shape

    @property
    def differentiable(self) -> bool:
        """Whether it has a gradient."""
        return self.asked.gradient is not None

    @property
    def tally(self) -> Tally:
        """What it was asked so far, in all programs of this process."""
        return self.asked.tally

    def __call__(self, *arguments: PyTree[Any]) -> Array:
        """Its value for one particle, in the precision that is on; under `jax.vmap` one call for all."""
        arguments = jax.tree.map(jnp.asarray, arguments)
        return _value(self.asked, arguments) if not self.differentiable else _differentiable(self.asked, arguments)

    def __repr__(self) -> str:
        tally = self.tally
        return (
            f"on_host({self.asked.name}): {tally.evaluations} evaluations in {tally.calls} calls, "
            f"{tally.repeats} repeated points spared, {tally.undefined} NaN"
        )


def on_host(
    function: Callable[..., Any],
    *,
    vectorized: bool = False,
    executor: Any = None,
    gradient: Callable[..., Any] | bool | None = None,
    timeout: float | None = None,
    shape: tuple[int, ...] = (),
) -> HostFunction:
    """A function of the user's that is no JAX function, for wherever one is wanted: a log likelihood, a density, a potential,
    the mean of an observation.

    Args:
        function: of one particle's values, as numpy arrays and doubles (arrays and dicts as the target's own), to a number or
            an array of ``shape``. It may use any library, but no JAX, and its answer may depend on its arguments alone.
        vectorized: the function takes all points at once, each array with a leading axis of points, and returns as many values.
        executor: who calls it: anything with ``submit``, ``apply_async`` or ``map`` (`concurrent.futures`, `mpi4py.futures`, a
            dask client, pools of ray and of `multiprocessing`), or a function without arguments that makes one, which is
            called anew where workers died; ``None`` for the thread that runs the program.
        gradient: a function of the same arguments to the gradient with respect to the first argument that holds reals, a tree
            like it; or ``True`` where ``function`` itself returns the pair of its value and its gradient. ``None``: there is
            none, and `smcinfer.sample` takes a kernel that needs none.
        timeout: seconds that one call may take before the run ends with an error; ``None`` for any time.
        shape: of the answer for one particle; a scalar where it is left out.

    Returns:
        `HostFunction`. Where it says NaN a particle has weight zero. What it raises, or a wrong shape, ends the run as a
        `TargetError` that says at which point; with a checkpoint the run goes on from there.

    Raises:
        ArgumentError: an argument is of the wrong kind.
    """
    if not callable(function):
        raise ArgumentError("function is not callable", expected="a function", got=type(function).__name__)
    if not (gradient is None or gradient is True or callable(gradient)):
        raise ArgumentError("gradient is of no known kind", expected="a function, True or None", got=repr(gradient))
    if timeout is not None:
        timeout = validate.number("timeout", timeout, above=0.0)
    shape = tuple(validate.count("an entry of shape", size) for size in shape)
    name = getattr(function, "__qualname__", type(function).__name__)
    pool = Pool(executor, timeout, f"{name} on the host")
    return HostFunction(_Asked(function, gradient, validate.flag("vectorized", vectorized), shape, name, pool))


@dataclasses.dataclass(eq=False)
class _Asked:
    """The function with its pool, what it said last and how often it was called; one object, by which programs know it."""

    function: Callable[..., Any]
    gradient: Callable[..., Any] | bool | None
    vectorized: bool
    shape: tuple[int, ...]
    name: str
    pool: Pool
    tally: Tally = dataclasses.field(default_factory=Tally)
    last: dict[bytes, list[np.ndarray]] = dataclasses.field(default_factory=dict)

    def answers(
        self, structure: Any, ndims: Sequence[int], shapes: Sequence[tuple[int, ...]], leaves: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The value at every point and, where a second shape is wanted, the leaves of the gradient.

        Args:
            structure: of the tuple of arguments.
            ndims: axes of each leaf of one particle.
            shapes: of what is wanted.
            leaves: with the axes of the map in front.
        """
        batch = leaves[0].shape[: leaves[0].ndim - ndims[0]]
        count = math.prod(batch)
        flat = [
            (leaf.astype(np.float64) if leaf.dtype.kind == "f" else leaf).reshape(count, *leaf.shape[len(batch) :])
            for leaf in leaves
        ]
        names = _names(flat, count)
        places = {name: place for place, name in enumerate(names)}
        new = [name for name in places if len(self.last.get(name, ())) < len(shapes)]
        found = {name: self.last[name] for name in places if len(self.last.get(name, ())) >= len(shapes)}
        if new:
            rows = np.asarray([places[name] for name in new])
            found |= dict(zip(new, self._evaluated(structure, shapes, [leaf[rows] for leaf in flat]), strict=True))
        self.last = found
        tally = self.tally
        tally.evaluations, tally.repeats = tally.evaluations + len(new), tally.repeats + count - len(new)
        tally.undefined, tally.calls = (
            tally.undefined + sum(bool(np.isnan(found[n][0]).any()) for n in new),
            tally.calls + 1,
        )
        return [
            np.stack([found[name][part] for name in names]).reshape((*batch, *shape))
            for part, shape in enumerate(shapes)
        ]

    def _evaluated(
        self, structure: Any, shapes: Sequence[tuple[int, ...]], flat: list[np.ndarray]
    ) -> list[list[np.ndarray]]:
        """What is wanted at points that are all different, one list a point."""
        count, size = len(flat[0]), self.pool.chunk(len(flat[0]))
        both = _Both(self.function, self.gradient, len(shapes) > 1)
        if self.vectorized:
            parts = [slice(start, start + size) for start in range(0, count, size)]
            chunks = [[jax.tree.unflatten(structure, [leaf[part] for leaf in flat])] for part in parts]
            sizes: list[int] = [part.indices(count)[1] - part.start for part in parts]
        else:
            points = [jax.tree.unflatten(structure, [leaf[place] for leaf in flat]) for place in range(count)]
            chunks = [points[start : start + size] for start in range(0, count, size)]
            sizes = [1] * count
        like = structure.children()[_of_reals(jax.tree.unflatten(structure, flat))] if len(shapes) > 1 else None
        began = time.perf_counter()
        replies, seconds = self.pool.run(both, chunks, count)
        self.tally.work_seconds += seconds
        self.tally.wait_seconds += time.perf_counter() - began
        columns: list[list[np.ndarray]] = []
        for reply, rows in zip(replies, sizes, strict=True):
            lead = (rows,) if self.vectorized else ()
            parts = self._parts(reply, like, [(*lead, *shape) for shape in shapes])
            columns += (
                [[np.asarray(part) for part in row] for row in zip(*parts, strict=True)] if self.vectorized else [parts]
            )
        return columns

    def _parts(self, reply: Any, like: Any, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """A reply as arrays of the right shapes."""
        value, gradient = reply
        what = f"{self.name} on the host"
        parts = [_array(what, value, shapes[0])]
        if like is not None:
            try:
                leaves = like.flatten_up_to(gradient)
            except (ValueError, TypeError) as error:
                raise TargetError(
                    f"the gradient of {what} is of another structure", expected=like, got=jax.tree.structure(gradient)
                ) from error
            parts += [
                _array(f"the gradient of {what}", leaf, shape) for leaf, shape in zip(leaves, shapes[1:], strict=True)
            ]
        return parts


@dataclasses.dataclass(frozen=True)
class _Both:
    """The function with its gradient beside it, where that is wanted; sent to workers."""

    function: Callable[..., Any]
    gradient: Callable[..., Any] | bool | None
    wanted: bool

    def __call__(self, *arguments: Any) -> tuple[Any, Any]:
        if self.gradient is True:
            value, gradient = self.function(*arguments)
            return value, gradient
        found = self.gradient(*arguments) if self.wanted and callable(self.gradient) else None
        return self.function(*arguments), found


def _array(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TargetError(f"{what} returned no numbers", expected=f"reals of shape {shape}", got=repr(value)) from error
    if found.shape != shape:
        raise TargetError(
            f"{what} returned the wrong shape",
            expected=f"{shape}" + (", a number" if shape == () else ""),
            got=found.shape,
            hint="an answer that is an array says so: on_host(function, shape=...)",
        )
    return found


def _names(flat: Sequence[np.ndarray], count: int) -> list[bytes]:
    """Each point as bytes, by which it is known."""
    columns = [np.ascontiguousarray(leaf).reshape(count, -1).view(np.uint8).reshape(count, -1) for leaf in flat]
    return [row.tobytes() for row in np.concatenate(columns, axis=1)]


def _of_reals(arguments: tuple[Any, ...]) -> int:
    """Which argument the gradient is of: the first that holds reals."""
    kinds = [[leaf.dtype for leaf in jax.tree.leaves(argument)] for argument in arguments]
    reals = [
        place for place, kind in enumerate(kinds) if kind and all(jnp.issubdtype(one, jnp.floating) for one in kind)
    ]
    if not reals:
        raise TargetError(
            "no argument of the function on the host holds reals alone", expected="something to differentiate by"
        )
    return reals[0]


def _ask(asked: _Asked, arguments: tuple[Any, ...], *, gradient: bool) -> list[Array]:
    leaves, structure = jax.tree.flatten(arguments)
    if not leaves:
        raise TargetError(f"{asked.name} on the host was called without arguments", expected="values of one particle")
    ndims, shapes = [leaf.ndim for leaf in leaves], [asked.shape]
    if gradient:
        shapes += [(*asked.shape, *leaf.shape) for leaf in jax.tree.leaves(arguments[_of_reals(arguments)])]
    return host_arrays(lambda *rows: asked.answers(structure, ndims, shapes, rows), shapes, *leaves, name=asked.name)


def _value(asked: _Asked, arguments: tuple[Any, ...]) -> Array:
    return _ask(asked, arguments, gradient=False)[0]


_differentiable: Any = jax.custom_jvp(_value, nondiff_argnums=(0,))


def _along(asked: _Asked, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    """The value, and its derivative along a direction: the user's gradient times it."""
    (arguments,), (directions,) = primals, tangents
    place = _of_reals(arguments)
    others = [leaf for at, part in enumerate(directions) if at != place for leaf in jax.tree.leaves(part)]
    if not all(isinstance(leaf, jax.custom_derivatives.SymbolicZero) for leaf in others):
        raise TargetError(
            f"{asked.name} on the host is differentiated by more than its gradient is of",
            expected=f"a gradient by argument {place + 1} alone",
            got=f"directions in {len(others)} arrays of others",
        )
    value, *gradients = _ask(asked, arguments, gradient=True)
    total = jnp.zeros_like(value)
    for gradient, direction in zip(gradients, jax.tree.leaves(directions[place]), strict=True):
        if not isinstance(direction, jax.custom_derivatives.SymbolicZero):
            total = total + jnp.tensordot(gradient, direction.astype(gradient.dtype), axes=direction.ndim)
    return value, total


_differentiable.defjvp(_along, symbolic_zeros=True)
