"""Exact answers of small instances: every labelling is visited, means and activity are integrated out."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture
from smcinfer.models.open_mixture.moves import redraw
from smcinfer.models.open_mixture.split_merge import log_cluster

LARGEST = 200_000


class Enumeration(eqx.Module):
    """The exact posterior of a small instance.

    Attributes:
        model: the mixture.
        exponent: power of the likelihood.
        labellings: Int["m n"], every labelling of n data by M slots.
        log_weights: Float["m"], their log posterior probabilities.
        log_z: log evidence, nats.
    """

    model: OpenMixture
    exponent: Scalar
    labellings: Int[Array, "m n"]
    log_weights: Float[Array, " m"]
    log_z: Scalar

    def draw(self, key: KeyArray) -> MixtureState:
        """An exact draw of the posterior."""
        label_key, rest_key = jax.random.split(key)
        chosen = jax.random.categorical(label_key, self.log_weights)
        return redraw(rest_key, self.labellings[chosen], self.model, self.exponent)

    def num_occupied(self) -> Float[Array, " slots"]:
        """Posterior probabilities of 1 .. M components that own data."""
        owned = jax.vmap(lambda labels: jnp.sum(self.model.counts(labels) > 0))(self.labellings)
        probabilities = jnp.exp(self.log_weights)
        return jnp.stack(
            [jnp.sum(jnp.where(owned == t, probabilities, 0.0)) for t in range(1, self.model.num_slots + 1)]
        )


def enumerate_labellings(model: OpenMixture, exponent: float = 1.0) -> Enumeration:
    """The exact posterior of ``model``, for a handful of data.

    Raises:
        ArgumentError: if there are too many labellings.
    """
    n = model.data.shape[0]
    if model.num_slots**n > LARGEST:
        raise ArgumentError(
            "too many labellings to visit",
            expected=f"at most {LARGEST}",
            got=f"{model.num_slots}^{n}",
            hint="this is for tests: take fewer data or slots",
        )
    power = jnp.asarray(exponent, model.data.dtype)
    everything = jnp.asarray(np.array(list(itertools.product(range(model.num_slots), repeat=n))), jnp.int32)
    log_any = logsumexp(model.log_occupied, axis=1)
    squares = jnp.sum(model.data**2, axis=1)

    def log_weight(labels: Int[Array, " n"]) -> Scalar:
        owns = (labels[:, None] == jnp.arange(model.num_slots)).astype(model.data.dtype)
        counts = jnp.sum(owns, axis=0)
        parts = jax.vmap(log_cluster, (0, 0, 0, None, None))(counts, owns.T @ model.data, squares @ owns, model, power)
        return log_any[jnp.sum(counts > 0)] + model.log_weight_prior(counts) + jnp.sum(parts)

    values = jax.lax.map(log_weight, everything, batch_size=4096)
    log_z = logsumexp(values)
    return Enumeration(model, power, everything, values - log_z, log_z)
