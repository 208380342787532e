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
from numpyro.distributions import Distribution, MultivariateNormal

from smcinfer.ground.arrays import Array, Int, PyTree, Scalar
from smcinfer.state_space.joint import is_law
from smcinfer.state_space.observations import Observations, arrays, awaited, observations
from smcinfer.state_space.slots import coordinates, slots_of


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
        values, present = self.data.at(t), self.data.present_at(t)
        masks = [None] * len(laws) if present is None else structure.flatten_up_to(present)
        total = jnp.zeros((), jnp.result_type(float))
        for law, value, mask in zip(laws, structure.flatten_up_to(values), masks, strict=True):
            total = total + _log_prob(law, value, mask)
        return total


def _log_prob(law: Distribution, value: Array, mask: Array | None) -> Scalar:
    """Log density of what is present, nats."""
    if mask is None:
        return jnp.sum(law.log_prob(value))
    each = coordinates(law)
    if isinstance(each, MultivariateNormal):
        return jnp.sum(_marginal(each, value, mask))
    event = tuple(range(mask.ndim - len(each.event_shape), mask.ndim))
    return jnp.sum(jnp.where(jnp.all(mask, axis=event), each.log_prob(value), 0.0))


def _marginal(law: MultivariateNormal, value: Array, mask: Array) -> Array:
    """Log density of the coordinates that are present: the others are independent standard normals at zero, and are taken out.

    Args:
        law: of all coordinates.
        value, mask: ``(..., d)``.
    """
    both = mask[..., :, None] & mask[..., None, :]
    covariance = jnp.where(both, law.covariance_matrix, jnp.eye(mask.shape[-1], dtype=value.dtype))
    centred = MultivariateNormal(jnp.zeros(()), covariance).log_prob(jnp.where(mask, value - law.loc, 0.0))
    absent = mask.shape[-1] - jnp.sum(mask, axis=-1)
    return centred + 0.5 * absent * jnp.log(2 * jnp.pi)


def fitted(observation: Callable[..., Any], data: PyTree[Any], missing: str, x: PyTree[Any]) -> Observed:
    """Hold the data against the observation's law at one abstract state, before any work.

    Args:
        observation: ``(t, x) -> law`` of y_t.
        data: what was observed, as a user has it; ``None`` where observations are still to come.
        missing: as `observations` takes it.
        x: shapes and dtypes of one state.

    Returns:
        The potential with data as its laws take them: whole numbers that came as floats (a gap among categories makes
        them so) are integers where the law is discrete.

    Raises:
        TargetError: the law is no distribution, or its event has not the shape of one observation, or is one whose
            coordinates are dependent where only some of them are missing.
        ArgumentError: an observation lies outside the support of its law.
    """
    slots = slots_of(observation, x)
    if data is None:
        one = [jax.ShapeDtypeStruct(slot.shape, slot.dtype) for slot in slots.each]
        return Observed(observation, awaited(slots.tree(one), missing))
    seen = observations(data, missing)
    values, masks = slots.aligned(seen.values, seen.present)
    for slot, leaf, mask in zip(slots.each, values, masks, strict=True):
        slot.check(leaf, mask)
    whole = [slot.typed(leaf) for slot, leaf in zip(slots.each, values, strict=True)]
    return Observed(observation, eqx.tree_at(lambda made: made.values, seen, slots.tree(arrays(whole))))
