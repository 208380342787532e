"""Data that a numpyro model is called with: columns read as arrays, and missing numbers refused unless the model masks them."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer

from smcinfer.ground.arrays import PyTree
from smcinfer.ground.data import complete, is_column, read, refuse_missing
from smcinfer.ground.errors import TargetError
from smcinfer.static.numpyro_replay import Trace, example_trace

WAYS_OUT = (
    "drop these rows; or fill them in, pass where they are as an array of the model's own, and leave them out there: "
    "numpyro.sample(..., obs=y, obs_mask=seen) or numpyro.handlers.mask(mask=seen)"
)


def plain_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with columns of tables, masked and object arrays as plain arrays; everything else as it is.

    Raises:
        ArgumentError: an entry of one of them is masked or null, or no number.
    """

    def plain(what: str, argument: PyTree[Any]) -> PyTree[Any]:
        def one(leaf: Any) -> Any:
            if not is_column(leaf):
                return leaf
            # A mask is lost on the model; NaN is left to `complete_trace`, which knows what the model masks.
            return read(what, leaf)[0] if _is_float(leaf) else complete(what, leaf, hint=WAYS_OUT)

        return jax.tree.map(one, argument, is_leaf=is_column)

    return (
        tuple(plain(f"argument {at + 1} of the model", value) for at, value in enumerate(args)),
        {name: plain(f"{name} of the model", value) for name, value in kwargs.items()},
    )


def complete_trace(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """An example trace of a model (`example_trace`), with no NaN in its likelihood, observed or among covariates.

    Args:
        model: a numpyro model.
        args, kwargs: what it is called with.

    Raises:
        ArgumentError: NaN is observed where no mask leaves it out, or stands in an argument and makes a likelihood NaN.
        TargetError: the model raises.
    """
    gaps = _gaps(args, kwargs)
    try:
        trace = example_trace(model, args, kwargs)
    except TargetError:
        for what, mask in gaps:
            refuse_missing(f"{what}, with which it cannot run", mask, WAYS_OUT)
        raise
    for name, site in trace.items():
        if site["type"] != "sample" or not site["is_observed"]:
            continue
        counted = _counted(site["fn"], np.shape(site["value"]))
        refuse_missing(f"the data of site {name!r}", _present(site["value"]) | ~counted, WAYS_OUT)
        if gaps and bool(np.isnan(np.asarray(site["fn"].log_prob(site["value"]))).any()):
            what, mask = gaps[0]
            refuse_missing(f"{what}, on which site {name!r} depends", mask, WAYS_OUT)
    return trace


def _gaps(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Arguments in which floats are NaN: what they are called, and where there are numbers."""
    named = [(f"argument {at + 1} of the model", value) for at, value in enumerate(args)]
    named += [(f"{name} of the model", value) for name, value in kwargs.items()]
    masks = [(what, _present(leaf)) for what, value in named for leaf in jax.tree.leaves(value)]
    return [(what, mask) for what, mask in masks if not mask.all()]


def _is_float(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return not isinstance(leaf, np.ma.MaskedArray) and isinstance(dtype, np.dtype) and dtype.kind == "f"


def _present(leaf: Any) -> np.ndarray:
    """Where a float is a number; true of what holds no floats, or is not known yet."""
    if isinstance(leaf, float):
        return np.asarray(leaf == leaf)
    if isinstance(leaf, Tracer) or not hasattr(leaf, "dtype") or not np.issubdtype(leaf.dtype, np.floating):
        return np.ones((), bool)
    return ~np.isnan(np.asarray(leaf))


def _counted(law: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Bool array shaped like the value of a site: what its masks leave in the likelihood."""
    counted = np.ones(shape, bool)
    while isinstance(law, dist.MaskedDistribution | dist.Independent | dist.ExpandedDistribution):
        if isinstance(law, dist.MaskedDistribution) and not isinstance(law._mask, Tracer):
            mask = np.broadcast_to(np.asarray(law._mask), law.batch_shape)
            counted &= np.broadcast_to(mask.reshape(*mask.shape, *(1,) * len(law.event_shape)), shape)
        law = law.base_dist
    return counted
