"""Which outputs of a JAX function can depend on which inputs, element by element, read from its jaxpr.

The answer is an upper bound: an element not marked cannot depend on the input, whatever the values. What is not known
precisely (a loop, a sort) counts as depending on everything that went in.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal  # pyright: ignore[reportPrivateImportUsage]

from smcinfer.ground.arrays import Array, Bool

_ELEMENTWISE = set(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp convert_element_type "
    "copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac integer_pow "
    "is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or polygamma pow reduce_precision "
    "regularized_incomplete_beta rem round rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan tanh xor".split()
)
_REDUCES = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin"}
_CALLS = {
    "jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "checkpoint",
    "remat2",
}  # fmt: skip


class _Known:
    """What is known of a value: itself where no input reaches it, else the inputs that may reach each element.

    Attributes:
        shape: of the value.
        value: where ``mask`` is ``None``.
        mask: (inputs, *shape), or ``None``.
    """

    def __init__(self, shape: tuple[int, ...], value: Any = None, mask: np.ndarray | None = None) -> None:
        self.shape, self.value, self.mask = shape, value, mask


def dependence(function: Callable[[Array], Array], x: Array) -> Bool[np.ndarray, "inputs outputs"]:
    """Which elements of ``function(x)``, a vector, may depend on which elements of ``x`` (host).

    Args:
        function: Float or Int["inputs"] to Float["outputs"], JAX code.
        x: any point; only its shape and dtype count.
    """
    closed = jax.make_jaxpr(function)(x)
    (out,) = _interpret(closed, [_Known(x.shape, mask=np.eye(x.shape[0], dtype=bool))])
    return _full(out, x.shape[0])


def _interpret(closed: ClosedJaxpr, inputs: Sequence[_Known]) -> list[_Known]:
    jaxpr = closed.jaxpr
    known: dict[Any, _Known] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {var: _Known(np.shape(one), one) for var, one in zip(jaxpr.constvars, closed.consts, strict=True)}

    def read(var: Any) -> _Known:
        return _Known(np.shape(var.val), var.val) if isinstance(var, Literal) else known[var]

    for equation in jaxpr.eqns:
        operands = [read(var) for var in equation.invars]
        for var, result in zip(equation.outvars, _apply(equation, operands), strict=True):
            known[var] = result
    return [read(var) for var in jaxpr.outvars]


def _apply(equation: Any, operands: list[_Known]) -> list[_Known]:
    inner = _inner(equation)
    if equation.primitive.name in _CALLS and inner is not None and len(inner.jaxpr.invars) == len(operands):
        return _interpret(inner, operands)
    shapes = [var.aval.shape for var in equation.outvars]
    if all(operand.mask is None for operand in operands):
        values = _evaluate(equation, [operand.value for operand in operands])
        values = values if equation.primitive.multiple_results else [values]
        return [_Known(shape, value) for shape, value in zip(shapes, values, strict=True)]
    return [_Known(shape, mask=_mask(equation, operands, shape)) for shape in shapes]


def _evaluate(equation: Any, values: list[Any]) -> Any:
    found = equation.primitive.get_bind_params(equation.params)
    # JAX before 0.10 hands out functions to bind as well.
    functions, params = found if isinstance(found, tuple) else ((), found)
    return equation.primitive.bind(*functions, *values, **params)


def _inner(equation: Any) -> ClosedJaxpr | None:
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(name)
        if inner is not None:
            return inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())
    return None


def _mask(equation: Any, operands: list[_Known], shape: tuple[int, ...]) -> np.ndarray:
    """The mask of one output, some operand having one."""
    name, params = equation.primitive.name, equation.params
    num = next(operand.mask.shape[0] for operand in operands if operand.mask is not None)
    first = operands[0].mask
    if name in _ELEMENTWISE:
        total = np.zeros((num, *shape), bool)
        for operand in operands:
            if operand.mask is not None:
                # A scalar reaches every element; else the ranks are equal, and a length of one reaches all of its axis.
                total |= operand.mask if operand.shape else operand.mask.reshape(num, *(1,) * len(shape))
        return total
    if name in ("reshape", "squeeze", "expand_dims") and first is not None:
        return first.reshape(num, *shape)
    if name == "transpose" and first is not None:
        return np.transpose(first, (0, *(axis + 1 for axis in params["permutation"])))
    if name == "broadcast_in_dim" and first is not None:
        placed = [1] * len(shape)
        for axis, length in zip(params["broadcast_dimensions"], first.shape[1:], strict=True):
            placed[axis] = length
        return np.broadcast_to(first.reshape(num, *placed), (num, *shape))
    if name == "slice" and first is not None:
        strides = params["strides"] or (1,) * len(shape)
        cut = [slice(*part) for part in zip(params["start_indices"], params["limit_indices"], strides, strict=True)]
        return first[(slice(None), *cut)]
    if name == "dynamic_slice" and first is not None and all(operand.mask is None for operand in operands[1:]):
        sizes = params["slice_sizes"]
        starts = [
            min(max(int(start.value), 0), whole - size)
            for start, whole, size in zip(operands[1:], first.shape[1:], sizes, strict=True)
        ]
        cut = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        return first[(slice(None), *cut)]
    if name in _REDUCES and first is not None:
        return first.any(axis=tuple(axis + 1 for axis in params["axes"]))
    if name == "concatenate":
        return np.concatenate([_full(operand, num) for operand in operands], axis=params["dimension"] + 1)
    if name == "stack":
        return np.stack([_full(operand, num) for operand in operands], axis=params["axis"] + 1)
    if name == "gather":
        return _gathered(equation, operands, num, shape)
    every = np.zeros(num, bool)
    for operand in operands:
        if operand.mask is not None:
            every |= operand.mask.reshape(num, -1).any(axis=1)
    return np.broadcast_to(every.reshape(num, *(1,) * len(shape)), (num, *shape))


def _full(operand: _Known, num: int) -> np.ndarray:
    return np.zeros((num, *operand.shape), bool) if operand.mask is None else operand.mask


def _gathered(equation: Any, operands: list[_Known], num: int, shape: tuple[int, ...]) -> np.ndarray:
    """An element depends on its own index, and on the operand: just what is read where the index is known."""
    operand, index = operands
    total = np.zeros((num, *shape), bool)
    if operand.mask is not None:
        if index.mask is None:

            def moved(mask: Array) -> Array:
                return equation.primitive.bind(mask, index.value, **(equation.params | {"fill_value": 0}))

            total |= np.asarray(jax.vmap(moved)(jnp.asarray(operand.mask, jnp.float32))) > 0
        else:
            total |= operand.mask.reshape(num, -1).any(axis=1).reshape(num, *(1,) * len(shape))
    if index.mask is not None:
        own = index.mask.any(axis=-1)
        offsets = sorted(equation.params["dimension_numbers"].offset_dims)
        total |= np.expand_dims(own, tuple(axis + 1 for axis in offsets))
    return total
