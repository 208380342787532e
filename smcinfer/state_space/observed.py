r"""Data of a state-space model, what may be missing of it, and the potential it makes.

.. math:: \log \phi_t(x_t) = \sum_{k \text{ observed at } t} \log g_t(y_t^k \mid x_t)

An observation that is missing altogether has log potential zero. Single coordinates may be missing where the law makes
coordinates independent, so that the others keep their own densities.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution, Independent, constraints

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Bool, Int, PyTree, Scalar
from smcinfer.ground.data import read, refuse_missing
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.state_space.joint import as_law, is_law

MISSING = ("refuse", "skip")


class Observations(eqx.Module):
    """Data y_0 .. y_T with what is missing marked.

    Attributes:
        values: pytree of arrays with a leading axis of T + 1; what was missing is filled with a number that never counts.
        present: Bool arrays of the same shapes, or ``None`` where nothing is missing.
        complete: Bool["T+1"], whether all of y_t is there; ``None`` where nothing is missing.
        anything: Bool["T+1"], whether any of y_t is there; ``None`` where no observation is missing altogether.
    """

    values: PyTree[Any]
    present: PyTree[Any] | None
    complete: Bool[Array, " steps"] | None
    anything: Bool[Array, " steps"] | None

    def at(self, t: Int[Array, ""]) -> PyTree[Any]:
        """The observation y_t, a tree like the data without their leading axis; what is missing of it is filled in."""
        return jax.tree.map(lambda leaf: leaf[t], self.values)

    def aligned(self, structure: Any) -> tuple[list[Array], list[Array | None]]:
        """Values and masks of all observations, one a law of an observation that has this tree structure."""
        values = structure.flatten_up_to(self.values)
        return values, [None] * len(values) if self.present is None else structure.flatten_up_to(self.present)

    @property
    def num_steps(self) -> int:
        """T: observations are y_0 .. y_T."""
        return jax.tree.leaves(self.values)[0].shape[0] - 1


def observations(data: PyTree[Any], missing: str) -> Observations:
    """Take a user's data: one length, what is missing refused or marked.

    Args:
        data: as `smcinfer.ground.data.read` takes them, each array with a leading axis of T + 1.
        missing: ``"refuse"`` or ``"skip"``.

    Raises:
        ArgumentError: for what is no number, arrays of different lengths, or a missing number where that is refused
            (naming the first).
    """
    validate.one_of("missing", missing, MISSING)
    values, present = read("data", data)
    lengths = jax.tree.map(lambda leaf: leaf.shape[0] if leaf.ndim else 0, values)
    each = jax.tree.leaves(lengths)
    if len(set(each)) != 1 or 0 in each:
        raise ArgumentError(
            "data have no common leading axis of observations",
            expected="y_0 .. y_T along axis 0 of every array",
            got=lengths if len(each) > 1 else [leaf.shape for leaf in jax.tree.leaves(values)],
        )
    masks = jax.tree.leaves(present)
    if all(mask.all() for mask in masks):
        return Observations(_arrays(values), None, None, None)
    if missing == "refuse":
        refuse_missing("data", present, 'missing="skip" takes NaN for an observation that was not made', "t")
    rows = [mask.reshape(len(mask), -1) for mask in masks]
    complete = jnp.asarray(np.all([row.all(axis=1) for row in rows], axis=0))
    anything = np.any([row.any(axis=1) for row in rows], axis=0)
    return Observations(
        _arrays(jax.tree.map(_fill, values, present)),
        _arrays(present),
        complete,
        None if anything.all() else jnp.asarray(anything),
    )


def _arrays(tree: PyTree[Any]) -> PyTree[Any]:
    """The tree as JAX arrays, known ones staying known inside a trace: they are still to be checked."""
    with jax.ensure_compile_time_eval():
        return jax.tree.map(jnp.asarray, tree)


def _fill(leaf: Any, mask: np.ndarray) -> Any:
    """Missing entries replaced by one that was observed: within the support, so that no gradient is NaN."""
    if mask.all():
        return leaf
    return np.where(mask, leaf, leaf[mask][0] if mask.any() else np.asarray(0.5).astype(leaf.dtype))


class Observed(eqx.Module):
    """The potential of a state-space model: log density of y_t given the state (module equation).

    Attributes:
        observation: ``(t, x) -> Distribution`` of y_t, or a tree of them shaped like an observation.
        data: the observations.
    """

    observation: Callable[[Int[Array, ""], PyTree[Any]], Any]
    data: Observations

    def __call__(self, t: Int[Array, ""], x: PyTree[Any]) -> Scalar:
        """log g_t(y_t | x), nats."""
        laws, structure = jax.tree.flatten(self.observation(t, x), is_leaf=is_law)
        total = jnp.zeros((), jnp.result_type(float))
        for law, values, mask in zip(laws, *self.data.aligned(structure), strict=True):
            total = total + _log_prob(law, values[t], None if mask is None else mask[t])
        return total


def _coordinates(law: Distribution) -> Distribution:
    """The law of the coordinates that ``to_event`` had put together."""
    while isinstance(law, Independent):
        law = law.base_dist
    return law


def _log_prob(law: Distribution, value: Array, mask: Array | None) -> Scalar:
    """Log density of what is present, nats."""
    if mask is None:
        return jnp.sum(law.log_prob(value))
    each = _coordinates(law)
    event = tuple(range(mask.ndim - len(each.event_shape), mask.ndim))
    return jnp.sum(jnp.where(jnp.all(mask, axis=event), each.log_prob(value), 0.0))


def fitted(potential: Observed, x: PyTree[Any]) -> Observed:
    """Hold the data against the observation's law at one abstract state, before any work.

    Args:
        potential: the observation and the data.
        x: shapes and dtypes of one state.

    Returns:
        The potential with data as its laws take them: whole numbers that came as floats (a gap among categories makes
        them so) are integers where the law is discrete.

    Raises:
        TargetError: the law is no distribution, or its event has not the shape of one observation, or is one whose
            coordinates are dependent where only some of them are missing.
        ArgumentError: an observation lies outside the support of its law.
    """
    supports: list[Any] = []
    structures: list[Any] = []

    def trace(t: Array, x: PyTree[Any]) -> Array:
        value = potential.observation(t, x)
        as_law(value, "observation")
        laws, structure = jax.tree.flatten(value, is_leaf=is_law)
        try:
            aligned = potential.data.aligned(structure)
        except (ValueError, TypeError) as error:
            raise TargetError(
                "observation and data differ in structure",
                expected=jax.tree.structure(potential.data.values),
                got=structure,
                hint="the observation of a dict of data is a dict of distributions with the same names",
            ) from error
        structures.append(structure)
        for law, leaf, mask in zip(laws, *aligned, strict=True):
            _check_shape(law, leaf, mask)
            supports.append((_coordinates(law).support, leaf, mask))
        return jnp.zeros(())

    jax.eval_shape(trace, jax.ShapeDtypeStruct((), jnp.int32), x)
    for support, leaf, mask in supports:
        _check_support(support, leaf, mask)
    values = [_whole(leaf) if support.is_discrete else leaf for support, leaf, _ in supports]
    return eqx.tree_at(lambda made: made.data.values, potential, jax.tree.unflatten(structures[0], values))


def _whole(leaf: Array) -> Array:
    """Whole numbers as integers."""
    with jax.ensure_compile_time_eval():
        return leaf.astype(jnp.int32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _check_shape(law: Distribution, leaf: Array, mask: Array | None) -> None:
    if (*law.batch_shape, *law.event_shape) != leaf.shape[1:]:
        raise TargetError(
            "observation and data differ in shape",
            expected=f"data of shape (T + 1, *{(*law.batch_shape, *law.event_shape)})",
            got=leaf.shape,
            hint="one row of the data is one observation: y_t of shape batch_shape + event_shape of its law",
        )
    num_event = len(_coordinates(law).event_shape)
    if mask is None or num_event == 0:
        return
    event = np.asarray(mask).reshape(*mask.shape[: mask.ndim - num_event], -1)
    partial = event.any(axis=-1) & ~event.all(axis=-1)
    if partial.any():
        raise TargetError(
            "part of an observation is missing, and its coordinates are dependent",
            expected=f"all or none of y_t where its law is a {type(_coordinates(law)).__name__}",
            got=f"some coordinates NaN at t = {int(np.argwhere(partial)[0, 0])}",
            hint="coordinates of dist.Normal(mean, scale).to_event(1), say, are independent and may go missing singly",
        )


def _check_support(support: Any, leaf: Array, mask: Array | None) -> None:
    """A support that depends on the state is left to the run: only there is it known."""
    is_traced = any(isinstance(part, Tracer) for part in [leaf, *jax.tree.leaves(support)])
    if is_traced or support is constraints.dependent or not isinstance(support, constraints.Constraint):
        return
    values = np.asarray(leaf)
    inside = np.asarray(support(values))
    while inside.ndim < values.ndim:
        inside = inside[..., None]
    wrong = ~(inside if mask is None else inside | ~np.asarray(mask))
    if wrong.any():
        index = tuple(map(int, np.argwhere(wrong)[0]))
        raise ArgumentError(
            f"an observation lies outside the support of its law, {support}",
            expected=str(support),
            got=f"{values[index]} first at t = {index[0]}, index {index}",
        )
