r"""The proposal's law: a mixture density network about the guesses, and a log Bayes factor of two components against one.

.. math:: q(\mu_j, \mu_k, r) = \tfrac12 \{ m(\mu_j, \mu_k, \mathrm{logit}\, r) + m(\mu_k, \mu_j, -\mathrm{logit}\, r) \}

with m a mixture of normals whose centres and scales are those of the guesses, moved and stretched by the network. The two
components have no names: summing over both ways to name them keeps the density that of what is drawn.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, KeyArray
from smcinfer.nn.mixture_density import Dense, Mixture, MixtureDensity, mixture_density
from smcinfer.proposals.mixture_pair.anchors import GUESSES, NUM_FEATURES, Guesses

PER_GUESS = 2
WIDTH = 64


class PairLaw(eqx.Module):
    """The law of two components given the data they own, leading axis groups.

    Attributes:
        mixture: of (mean of a, mean of b, logit of a's share) in the frame.
        log_evidence: Float["groups"], log density of the data under two components over that under one, nats, a guess.
    """

    mixture: Mixture
    log_evidence: Float[Array, " groups"]

    def sample(self, key: KeyArray) -> Float[Array, "groups 5"]:
        """Values of two components, named at random."""
        value_key, name_key = jax.random.split(key)
        values = self.mixture.sample(value_key)
        swap = jax.random.bernoulli(name_key, 0.5, values.shape[:1])
        return jnp.where(swap[:, None], renamed(values), values)

    def log_prob(self, values: Float[Array, "groups 5"]) -> Float[Array, " groups"]:
        """Log density of two components, both ways to name them summed, nats."""
        return jnp.logaddexp(self.mixture.log_prob(values), self.mixture.log_prob(renamed(values))) - jnp.log(2.0)


def renamed(values: Float[Array, "groups 5"]) -> Float[Array, "groups 5"]:
    """The same two components, the other named first."""
    return jnp.concatenate([values[:, 2:4], values[:, :2], -values[:, 4:]], axis=1)


class PairNetwork(eqx.Module):
    """Guesses to a law (made by `pair_network`).

    Attributes:
        density: five real variables, ``PER_GUESS`` components a guess.
        evidence: layers of the log Bayes factor.
    """

    density: MixtureDensity
    evidence: tuple[Dense, Dense]

    def __call__(self, given: Guesses) -> PairLaw:
        """The law of every group."""
        features = given.features
        groups = features.shape[0]
        raw = self.density(self.density.embed(jnp.zeros((groups, 0), features.dtype)), features)
        means = jnp.repeat(given.means, PER_GUESS, axis=1)
        scales = jnp.repeat(given.scales, PER_GUESS, axis=1)
        mixture = eqx.tree_at(
            lambda law: (law.means, law.log_scales), raw, (means + scales * raw.means, jnp.log(scales) + raw.log_scales)
        )
        hidden = jax.nn.silu(self.evidence[0](features))
        return PairLaw(mixture, self.evidence[1](hidden)[:, 0])


def pair_network(key: KeyArray) -> PairNetwork:
    """The network with random weights, close to the guesses themselves."""
    density_key, first_key, second_key = jax.random.split(key, 3)
    density = mixture_density(
        density_key,
        (0,) * 5,
        0,
        NUM_FEATURES,
        num_components=GUESSES * PER_GUESS,
        width=WIDTH,
        encoder_depth=0,
        scale_floor=0.05,
    )
    # Small at first: components begin at their guesses, slightly apart.
    density = eqx.tree_at(
        lambda net: (net.head.weight, net.head.bias), density, (0.1 * density.head.weight, 0.3 * density.head.bias)
    )
    return PairNetwork(density, (_layer(first_key, NUM_FEATURES, WIDTH), _layer(second_key, WIDTH, 1)))


def _layer(key: KeyArray, inputs: int, outputs: int) -> Dense:
    dtype = jnp.result_type(float)
    return Dense(jax.random.normal(key, (inputs, outputs), dtype) / inputs**0.5, jnp.zeros((outputs,), dtype))
