r"""What moves a state of the open mixture: the contract, Gibbs updates of every variable, and several moves in a row.

A move leaves :math:`\pi_\lambda(a, \mu, z) \propto p(a, \mu, z)\, p(x \mid \mu, z)^\lambda` invariant: the posterior at
:math:`\lambda = 1`, the prior at 0, and what tempering needs between.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.models.open_mixture.model import MixtureState, OpenMixture, log_isotropic, random_subset


class Move(eqx.Module):
    """One transition of one chain."""

    @abc.abstractmethod
    def __call__(
        self, key: KeyArray, state: MixtureState, model: OpenMixture, exponent: Scalar
    ) -> tuple[MixtureState, Scalar]:
        """The next state, and the share of Metropolis proposals that were accepted (one where there are none)."""


class Gibbs(Move):
    """Every variable from its law given the others: labels (at fresh weights), means, and which empty slots are active.

    A component is born empty and dies empty, so one that covers two clusters waits long for help: the baseline.
    """

    def __call__(
        self, key: KeyArray, state: MixtureState, model: OpenMixture, exponent: Scalar
    ) -> tuple[MixtureState, Scalar]:
        """One sweep: labels, then means and activity given the labels; the acceptance is one."""
        label_key, rest_key = jax.random.split(key)
        labels = _draw_labels(label_key, state, model, exponent)
        return redraw(rest_key, labels, model, exponent), jnp.ones((), model.data.dtype)


class InTurn(Move):
    """Several moves, one after the other; the acceptance is the last one's."""

    moves: tuple[Move, ...]

    def __call__(
        self, key: KeyArray, state: MixtureState, model: OpenMixture, exponent: Scalar
    ) -> tuple[MixtureState, Scalar]:
        """Make all moves in their order, each with a key of its own."""
        acceptance = jnp.ones((), model.data.dtype)
        for number, move in enumerate(self.moves):
            state, acceptance = move(jax.random.fold_in(key, number), state, model, exponent)
        return state, acceptance


def _draw_labels(key: KeyArray, state: MixtureState, model: OpenMixture, exponent: Scalar) -> Int[Array, " n"]:
    weight_key, label_key = jax.random.split(key)
    log_weights = model.draw_log_weights(weight_key, state)
    logits = log_weights + exponent * log_isotropic(model.data[:, None] - state.means, model.noise)
    weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
    levels = jnp.cumsum(weights, axis=1)
    total = levels[:, -1]
    # One uniform a datum, kept below the total, lest rounding pick a slot of weight zero.
    level = jnp.minimum(
        jax.random.uniform(label_key, total.shape, total.dtype) * total, jnp.nextafter(total, 0.0 * total)
    )
    return jnp.sum(levels <= level[:, None], axis=1).astype(jnp.int32)


def redraw(key: KeyArray, labels: Int[Array, " n"], model: OpenMixture, exponent: Scalar) -> MixtureState:
    """A state with given labels: means and the activity of slots that own nothing, from their law given the labels.

    Args:
        key: one random key.
        labels: Int["n"], the slot of each datum.
        model: the mixture and its data.
        exponent: Float[""], in [0, 1], of the likelihood.
    """
    mean_key, size_key, subset_key = jax.random.split(key, 3)
    counts, sums = model.counts(labels), slot_sums(labels, model)
    occupied = counts > 0
    num_occupied = jnp.sum(occupied)
    num_empty = jax.random.categorical(size_key, model.log_occupied[num_occupied])
    active = occupied | random_subset(subset_key, ~occupied, num_empty)
    centres, scales = mean_law(counts, sums, model, exponent)
    means = centres + scales[:, None] * jax.random.normal(mean_key, centres.shape, centres.dtype)
    return MixtureState(active, means, labels)


def slot_sums(labels: Int[Array, " n"], model: OpenMixture) -> Float[Array, "slots d"]:
    """Sum of the data that each slot owns."""
    return jnp.zeros((model.num_slots, model.data.shape[1]), model.data.dtype).at[labels].add(model.data)


def mean_law(
    counts: Float[Array, "*slots"], sums: Float[Array, "*slots d"], model: OpenMixture, exponent: Scalar
) -> tuple[Float[Array, "*slots d"], Float[Array, "*slots"]]:
    """Centre and standard deviation of a mean given the number of data it owns and their sum.

    Args:
        counts: Float["*slots"], data that each slot owns.
        sums: Float["*slots d"], their sums.
        model: for the noise and the spread.
        exponent: Float[""], in [0, 1], of the likelihood.

    Returns:
        Float["*slots d"] and Float["*slots"], of a Gaussian that is the same in all coordinates.
    """
    precision = exponent * counts / model.noise**2 + 1.0 / model.spread**2
    return (exponent / model.noise**2) * sums / precision[..., None], precision**-0.5
