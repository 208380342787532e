r"""A Gaussian mixture that does not know how many components it has.

.. math::
    K \sim U\{1..M\}, \quad a \mid K \sim U\{\text{subsets of } M \text{ slots of size } K\}, \quad
    w \mid a \sim \mathrm{Dirichlet}(\alpha), \quad z_i \mid w \sim w, \quad
    \mu_k \sim N(0, \sigma_0^2 I), \quad x_i \sim N(\mu_{z_i}, \sigma^2 I)

Slots make the open universe a space of fixed dimension: every slot has a mean, that of an inactive one follows its prior and
touches nothing. The weights are integrated out; a move that wants them draws them from their law given the labels.

Source of the example: Wang, Wu, Moore & Russell (2018), section 4.2, with equal weights there.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp

from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Bool, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError


class MixtureState(eqx.Module):
    """One hypothesis about the data: which slots are active, every slot's mean, every datum's label.

    Attributes:
        active: Bool["slots"].
        means: Float["slots d"], of inactive slots too.
        labels: Int["n"], slots.
    """

    active: Bool[Array, " slots"]
    means: Float[Array, "slots d"]
    labels: Int[Array, " n"]


class OpenMixture(eqx.Module):
    """The open-universe mixture with its data (made by `open_mixture`).

    Attributes:
        data: Float["n d"].
        num_slots: M, the most components there may be.
        concentration: alpha of the Dirichlet law of the weights.
        spread: sigma_0, standard deviation of a mean.
        noise: sigma, standard deviation of a datum about its mean.
    """

    data: Float[Array, "n d"]
    concentration: Scalar
    spread: Scalar
    noise: Scalar
    num_slots: int = eqx.field(static=True)

    @property
    def log_subset(self) -> Float[Array, " slots_1"]:
        """log p(a) by the number of active slots, 0 .. M; minus infinity at none."""
        size = np.arange(self.num_slots + 1)
        choose = [math.log(math.comb(self.num_slots, k)) for k in size]
        values = np.where(size > 0, -math.log(self.num_slots) - np.array(choose), -np.inf)
        return jnp.asarray(values, self.data.dtype)

    @property
    def log_allocation(self) -> Float[Array, " slots_1"]:
        r""":math:`\log \Gamma(K\alpha) / \Gamma(K\alpha + n)`, the labels' prior without its counts, by K."""
        total = jnp.maximum(jnp.arange(self.num_slots + 1), 1) * self.concentration
        return gammaln(total) - gammaln(total + self.data.shape[0])

    @property
    def log_size(self) -> Float[Array, " slots_1"]:
        """What the joint density owes to the number of active slots alone, nats."""
        return self.log_subset + self.log_allocation

    @property
    def log_occupied(self) -> Float[Array, "slots_1 slots_1"]:
        """Entry (t, e): log mass of all ways to have e of the slots that own nothing active, beside t that own data."""
        count = np.arange(self.num_slots + 1)
        ways = [
            [math.log(math.comb(self.num_slots - t, e)) if t + e <= self.num_slots else -np.inf for e in count]
            for t in count
        ]
        both = jnp.minimum(count[:, None] + count[None, :], self.num_slots)
        return jnp.asarray(ways, self.data.dtype) + self.log_size[both]

    def counts(self, labels: Int[Array, " n"]) -> Float[Array, " slots"]:
        """Data each slot owns."""
        return jnp.zeros((self.num_slots,), self.data.dtype).at[labels].add(1.0)

    def log_weight_prior(self, counts: Float[Array, " slots"]) -> Scalar:
        r""":math:`\sum_k \log \Gamma(\alpha + n_k) / \Gamma(\alpha)`; slots that own nothing add zero."""
        return jnp.sum(gammaln(self.concentration + counts) - gammaln(self.concentration))

    def log_means(self, means: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
        """Log prior density of means, nats."""
        return log_isotropic(means, self.spread)

    def log_likelihood(self, state: MixtureState) -> Scalar:
        """Log density of the data given labels and means, nats."""
        return jnp.sum(log_isotropic(self.data - state.means[state.labels], self.noise))

    def log_prior(self, state: MixtureState) -> Scalar:
        """Log density of a state before the data; minus infinity where an inactive slot owns a datum."""
        counts = self.counts(state.labels)
        possible = jnp.all(state.active | (counts == 0))
        value = self.log_size[jnp.sum(state.active)] + self.log_weight_prior(counts)
        return jnp.where(possible, value, -jnp.inf) + jnp.sum(self.log_means(state.means))

    def log_joint(self, state: MixtureState) -> Scalar:
        """Exact log joint density of a state and the data, nats."""
        return self.log_prior(state) + self.log_likelihood(state)

    def log_marginal_likelihood(self, key: KeyArray, state: MixtureState) -> Scalar:
        """Log likelihood with the labels summed out, at weights drawn given the state's labels, nats."""
        log_weights = self.draw_log_weights(key, state)
        each = log_isotropic(self.data[:, None] - state.means, self.noise)
        return jnp.sum(logsumexp(log_weights + each, axis=1))

    def draw_log_weights(self, key: KeyArray, state: MixtureState) -> Float[Array, " slots"]:
        """Log weights from their law given the labels; minus infinity at inactive slots."""
        logits = jax.random.loggamma(key, self.concentration + self.counts(state.labels))
        return jax.nn.log_softmax(jnp.where(state.active, logits, -jnp.inf))

    def draw_prior(self, key: KeyArray) -> MixtureState:
        """A state from the prior."""
        size_key, subset_key, mean_key, weight_key, label_key = jax.random.split(key, 5)
        size = jax.random.randint(size_key, (), 1, self.num_slots + 1)
        active = random_subset(subset_key, jnp.ones((self.num_slots,), bool), size)
        means = self.spread * jax.random.normal(mean_key, (self.num_slots, self.data.shape[1]), self.data.dtype)
        logits = jax.random.loggamma(weight_key, self.concentration, (self.num_slots,), self.data.dtype)
        labels = jax.random.categorical(label_key, jnp.where(active, logits, -jnp.inf), shape=(self.data.shape[0],))
        return MixtureState(active, means, labels.astype(jnp.int32))

    def draw_data(self, key: KeyArray, state: MixtureState) -> Float[Array, "n d"]:
        """Data from a state."""
        noise = jax.random.normal(key, self.data.shape, self.data.dtype)
        return state.means[state.labels] + self.noise * noise

    def with_data(self, data: Float[Array, "n d"]) -> "OpenMixture":
        """The same model of other data."""
        return eqx.tree_at(lambda model: model.data, self, data)


def log_isotropic(x: Float[Array, "*batch d"], scale: Scalar) -> Float[Array, "*batch"]:
    """Log density of N(0, scale^2 I) at x, nats."""
    d = x.shape[-1]
    return -0.5 * jnp.sum(jnp.square(x / scale), axis=-1) - d * (jnp.log(scale) + 0.5 * math.log(2 * math.pi))


def random_subset(key: KeyArray, among: Bool[Array, " slots"], size: Int[Array, ""]) -> Bool[Array, " slots"]:
    """A subset of some slots of a given size, every one as likely.

    Args:
        key: one random key.
        among: Bool["slots"], the slots to choose from.
        size: Int[""], how many to choose, at most as many as there are; may be traced.
    """
    order = jnp.where(among, jax.random.uniform(key, among.shape), jnp.inf)
    return (jnp.argsort(jnp.argsort(order)) < size) & among


def open_mixture(
    data: Array | np.ndarray, *, num_slots: int, concentration: float = 1.0, spread: float = 2.0, noise: float = 0.3162
) -> OpenMixture:
    """The open-universe mixture of some data.

    Args:
        data: Float["n d"].
        num_slots: M, the most components there may be.
        concentration: alpha; 1 is uniform over weights, larger nearer equal weights.
        spread: standard deviation of the means about zero.
        noise: standard deviation of the data about their mean.

    Raises:
        ArgumentError: for data of the wrong shape or not finite, and for settings out of range.
    """
    values = jnp.asarray(data, jnp.result_type(float))
    if values.ndim != 2 or 0 in values.shape or not bool(jnp.all(jnp.isfinite(values))):
        raise ArgumentError("data must be finite points", expected="shape (n, d), n >= 1", got=values.shape)
    validate.count("num_slots", num_slots)
    settings = {"concentration": concentration, "spread": spread, "noise": noise}
    for name, value in settings.items():
        validate.number(name, value, above=0.0)
    scalars = {name: jnp.asarray(value, values.dtype) for name, value in settings.items()}
    return OpenMixture(data=values, num_slots=num_slots, **scalars)


def simulate(
    key: KeyArray,
    num_data: int,
    num_components: int,
    *,
    dim: int = 2,
    concentration: float = 1.0,
    spread: float = 2.0,
    noise: float = 0.3162,
) -> tuple[Float[Array, "n d"], MixtureState]:
    """Data of a mixture with ``num_components`` components, and the state they came from.

    Args:
        key: one random key.
        num_data: data to draw.
        num_components: components, some of which may own no datum.
        dim: coordinates of a datum.
        concentration: alpha of the Dirichlet law of the weights.
        spread: standard deviation of a mean about zero.
        noise: standard deviation of a datum about its mean.

    Returns:
        Float["num_data dim"] and the state, with ``num_components`` slots, all active.
    """
    template = open_mixture(
        np.zeros((num_data, dim)), num_slots=num_components, concentration=concentration, spread=spread, noise=noise
    )
    mean_key, weight_key, label_key, data_key = jax.random.split(key, 4)
    means = template.spread * jax.random.normal(mean_key, (num_components, dim), template.data.dtype)
    logits = jax.random.loggamma(weight_key, template.concentration, (num_components,), means.dtype)
    labels = jax.random.categorical(label_key, logits, shape=(num_data,)).astype(jnp.int32)
    truth = MixtureState(jnp.ones((num_components,), bool), means, labels)
    return template.draw_data(data_key, truth), truth
