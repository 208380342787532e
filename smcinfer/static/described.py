"""What a prior with a likelihood tells of itself: its data, and what a function of the user's simulates."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.described import Described, Named
from smcinfer.ground.arrays import KeyArray, PyTree
from smcinfer.ground.errors import ArgumentError, calling, surfacing
from smcinfer.ground.labels import index_of
from smcinfer.ground.names import leaves_by_name
from smcinfer.static.prior import Prior

OBSERVED = "y"
"""What data without a name are called."""

DRAWS_AT_ONCE = 64
"""Draws whose likelihoods of all data are computed side by side."""


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedPosterior(Described):
    """A prior, a likelihood of one datum, and its data.

    Attributes:
        law: the prior.
        function: ``(theta, datum) -> nats``, or of theta alone where there are no data.
        data: with leading axis of data, or ``None``.
        predict: ``(key, theta, datum)`` to a datum, or ``(key, theta)`` to all of them, or ``None``.
        observed: names of the data that are observed and not given.
        dims, coords: as of `Described`.
    """

    law: Prior
    function: Callable[..., Any]
    data: PyTree[Any]
    predict: Callable[..., Any] | None
    observed: tuple[str, ...]
    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, Any]

    def _data(self) -> Named:
        if self.data is None:
            return {}
        return {name: np.asarray(leaf) for name, leaf in _by_name(self.data).items()}

    def observed_data(self) -> Named:
        """The data that the likelihood is of."""
        return {name: value for name, value in self._data().items() if name in self.observed}

    def constant_data(self) -> Named:
        """The data that it is given."""
        return {name: value for name, value in self._data().items() if name not in self.observed}

    def _theta(self, values: Named) -> PyTree[Any]:
        return jax.tree.unflatten(self.law.structure, [jnp.asarray(values[name]) for name in self.law.names])

    def log_likelihood(self, values: Named) -> Named | None:
        """One number a draw and datum."""
        if self.data is None:
            return None

        def one(theta: PyTree[Any]) -> Any:
            return jax.vmap(lambda datum: self.function(theta, datum))(self.data)

        name = self.observed[0] if len(self.observed) == 1 else OBSERVED
        with surfacing():
            return {name: np.asarray(_in_batches(one, self._theta(values)))}

    def predicted(self, key: KeyArray, values: Named) -> Named | None:
        """One replicate a draw, by the user's function."""
        predict = self.predict
        if predict is None:
            return None

        def one(pair: tuple[Any, PyTree[Any]]) -> Any:
            key, theta = pair
            if self.data is None:
                return predict(key, theta)
            keys = jax.random.split(key, jax.tree.leaves(self.data)[0].shape[0])
            return jax.vmap(lambda key, datum: predict(key, theta, datum))(keys, self.data)

        theta = self._theta(values)
        keys = jax.random.split(key, jax.tree.leaves(theta)[0].shape[0])
        with surfacing(), calling("predict", expected="(key, theta, datum) to one datum, in jax.numpy"):
            found = _in_batches(one, (keys, theta))
        return {name: np.asarray(value) for name, value in _by_name(found).items()}

    def prior(self, key: KeyArray, n: int) -> Named | None:
        """Draws of the prior itself, whatever the run started from."""
        drawn = jax.vmap(self.law.constrain)(self.law.sample(key, n))
        return {name: np.asarray(value) for name, value in drawn.items()}


def described_posterior(
    law: Prior,
    function: Callable[..., Any],
    data: PyTree[Any],
    raw: PyTree[Any],
    predict: Callable[..., Any] | None,
    dims: Mapping[str, Any] | None,
    coords: Mapping[str, Any] | None,
) -> DescribedPosterior:
    """The description of a posterior, its predictions tried on shapes.

    Args:
        law, function, predict: as of `DescribedPosterior`.
        data: as arrays.
        raw: as they were given: the index of a table labels them.
        dims, coords: the user's, or ``None``.

    Raises:
        ArgumentError: names of axes are no names, or predictions are no data.
        TargetError: ``predict`` raises.
    """
    names = {name: tuple([axes] if isinstance(axes, str) else axes) for name, axes in (dims or {}).items()}
    if not all(isinstance(axis, str) for axes in names.values() for axis in axes):
        raise ArgumentError("dims are no names of axes", expected='{"y": ("school",)}', got=dims)
    found = tuple(_by_name(data)) if data is not None else ()
    labels = dict(coords or {})
    index = None if data is None else index_of(raw)
    if index is not None and not any(name in names for name in found):
        names |= dict.fromkeys(found, ("obs_id",))
        labels["obs_id"] = index
    if predict is not None:
        vector = jax.ShapeDtypeStruct((law.dim,), jnp.result_type(float))
        datum = (
            [] if data is None else [jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), data)]
        )
        key = jax.eval_shape(lambda: jax.random.key(0))
        with calling("predict", expected="(key, theta, datum) to one datum, in jax.numpy"):
            made = tuple(_by_name(jax.eval_shape(predict, key, jax.eval_shape(law.values, vector), *datum)))
        if data is not None and not set(made) <= set(found):
            raise ArgumentError(
                "predict makes what the data do not have", expected=f"some of {list(found)}", got=list(made)
            )
        found = made
    return DescribedPosterior(law, function, data, predict, found, names, labels)


def _by_name(tree: PyTree[Any]) -> dict[str, Any]:
    """Leaves by name; a bare array is called ``y``."""
    return leaves_by_name(tree) if isinstance(tree, Mapping | tuple | list) else {OBSERVED: tree}


def _in_batches(one: Callable[..., Any], draws: PyTree[Any]) -> Any:
    return jax.jit(functools.partial(jax.lax.map, one, batch_size=DRAWS_AT_ONCE))(draws)
