"""What the law of an observation says of the numbers that may come: their structure, shapes and supports."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution, Independent, MultivariateNormal, constraints

from smcinfer.ground.arrays import Array, PyTree
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.state_space.joint import as_law, is_law


class Slot(NamedTuple):
    """One array of an observation, as its law takes it.

    Attributes:
        shape: of one observation.
        num_event: its last axes whose coordinates depend on each other.
        support: of the law; traced where it depends on the state.
        law: name of the law, for messages.
        marginal: whether the law of some of its coordinates is known: those that are missing are then integrated out.
    """

    shape: tuple[int, ...]
    num_event: int
    support: Any
    law: str
    marginal: bool

    def check(self, leaf: Any, mask: Any) -> None:
        """Hold rows of observations against the law.

        Args:
            leaf: an array with a leading axis of rows.
            mask: Bool, of its shape; ``None`` where nothing is missing.

        Raises:
            TargetError: for another shape, or a part missing of coordinates that are dependent.
            ArgumentError: for a number outside the support.
        """
        if self.shape != leaf.shape[1:]:
            raise TargetError(
                "observation and data differ in shape",
                expected=f"data of shape (T + 1, *{self.shape})",
                got=leaf.shape,
                hint="one row of the data is one observation: y_t of shape batch_shape + event_shape of its law",
            )
        self.check_missing(mask)
        self.check_support(leaf, mask)

    def check_missing(self, mask: Any) -> None:
        """Raise `TargetError` where only a part is missing of coordinates that are dependent."""
        if mask is None or self.num_event == 0 or self.marginal:
            return
        event = np.asarray(mask).reshape(*mask.shape[: mask.ndim - self.num_event], -1)
        partial = event.any(axis=-1) & ~event.all(axis=-1)
        if partial.any():
            raise TargetError(
                "part of an observation is missing, and its coordinates are dependent",
                expected=f"all or none of y_t where its law is a {self.law}",
                got=f"some coordinates NaN at t = {int(np.argwhere(partial)[0, 0])}",
                hint="coordinates of dist.Normal(mean, scale).to_event(1), say, are independent and may go missing singly",
            )

    def check_support(self, leaf: Any, mask: Any) -> None:
        """Raise `ArgumentError` for a number outside the support; one that depends on the state is left to the run."""
        support = self.support
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

    def typed(self, leaf: Any) -> Any:
        """Whole numbers that came as floats as integers, where the law is discrete."""
        return leaf.astype(np.int32) if self.support.is_discrete and np.issubdtype(leaf.dtype, np.floating) else leaf

    @property
    def dtype(self) -> Any:
        """Of numbers that come one by one: integers of a discrete law, else reals."""
        return np.dtype(np.int32) if self.support.is_discrete else jnp.result_type(float)


class Slots(NamedTuple):
    """The arrays of an observation in the structure of its laws (made by `slots_of`)."""

    each: list[Slot]
    structure: Any

    def aligned(self, values: PyTree[Any], present: PyTree[Any] | None) -> tuple[list[Any], list[Any]]:
        """Values and masks, one a slot; masks are ``None`` where nothing is missing.

        Raises:
            TargetError: the values have another structure.
        """
        try:
            flat = self.structure.flatten_up_to(values)
        except (ValueError, TypeError) as error:
            raise TargetError(
                "observation and data differ in structure",
                expected=jax.tree.structure(values),
                got=self.structure,
                hint="the observation of a dict of data is a dict of distributions with the same names",
            ) from error
        return flat, [None] * len(flat) if present is None else self.structure.flatten_up_to(present)

    def tree(self, leaves: list[Any]) -> PyTree[Any]:
        """One leaf a slot, in the structure of an observation."""
        return jax.tree.unflatten(self.structure, leaves)


def slots_of(observation: Callable[..., Any], x: PyTree[Any]) -> Slots:
    """What the law of an observation expects, from shapes alone.

    Args:
        observation: ``(t, x) -> law`` of y_t, or a tree of them.
        x: shapes and dtypes of one state.

    Raises:
        TargetError: the law is no distribution.
    """
    found: list[Slots] = []

    def trace(t: Array, x: PyTree[Any]) -> Array:
        value = observation(t, x)
        as_law(value, "observation")
        laws, structure = jax.tree.flatten(value, is_leaf=is_law)
        found.append(Slots([_slot(law) for law in laws], structure))
        return jnp.zeros(())

    jax.eval_shape(trace, jax.ShapeDtypeStruct((), jnp.int32), x)
    return found[0]


def coordinates(law: Distribution) -> Distribution:
    """The law of the coordinates that ``to_event`` had put together."""
    while isinstance(law, Independent):
        law = law.base_dist
    return law


def _slot(law: Distribution) -> Slot:
    each = coordinates(law)
    marginal = isinstance(each, MultivariateNormal)
    return Slot(
        (*law.batch_shape, *law.event_shape), len(each.event_shape), each.support, type(each).__name__, marginal
    )
