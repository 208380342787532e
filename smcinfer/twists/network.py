r"""A network twist for Gaussian transitions of any model: no closed form, but few dimensions to integrate over.

.. math:: \log \chi_t(x) = \mathrm{net}(z, u_t) , \qquad C_t \approx \sum_k \omega_k\, \chi_t(m + L \epsilon_k)

with :math:`u_t` what is known at t (the observations to come, say) and a quadrature of the standard normal law. The
proposal is the Gaussian with the mean and covariance that the same nodes have under :math:`p_0 \chi_t`; it is weighed
by :math:`p_0 / q`, so that neither the network nor the quadrature needs to be right.
"""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, qmc

from smcinfer.core.nouns import Time
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.twists.gaussian import Gaussian, GaussianTwist, cholesky, solve

INFLATION = 1.05
"""How much wider the proposal is than the moments of its nodes: importance weights want tails."""

NARROWEST = 1e-3
"""Smallest variance of the proposal in units of the transition's."""


class NetworkTwist(GaussianTwist):
    """One network for all steps (made by `network_twist`).

    Attributes:
        network: ``Float["d + 2 + k"] -> Float[""]``, of x in its units, its square summed, time, and the features of t.
        features: Float["steps k"], what is known at each t = 0 .. T.
        centre, scale: Float["steps d"], the units of x, fixed.
        nodes: Float["K d"], of the quadrature, fixed.
        log_node_weights: Float["K"], which sum to one, fixed.
    """

    network: eqx.nn.MLP
    features: Float[Array, "steps k"]
    centre: Float[Array, "steps d"]
    scale: Float[Array, "steps d"]
    nodes: Float[Array, "K d"]
    log_node_weights: Float[Array, " K"]

    def log_value(self, t: Time, seen: Gaussian, x: Array) -> Scalar:
        """log chi_t at x, as the network says, nats."""
        del seen
        features, centre, scale = jax.lax.stop_gradient((self.features[t], self.centre[t], self.scale[t]))
        z = (jnp.reshape(x, -1) - centre) / scale
        time = (t / self.features.shape[0]).astype(z.dtype)
        return self.network(jnp.concatenate([z, jnp.stack([z @ z / z.shape[0], time]), features]))

    def _node_values(self, t: Time, seen: Gaussian) -> tuple[Array, Array]:
        nodes, log_weights = jax.lax.stop_gradient((self.nodes, self.log_node_weights))
        return nodes, log_weights + jax.vmap(lambda node: self.log_value(t, seen, seen.point(node)))(nodes)

    def log_mean(self, t: Time, seen: Gaussian) -> Scalar:
        """log C_t by quadrature, nats."""
        return jax.nn.logsumexp(self._node_values(t, seen)[1])

    def _moments(self, t: Time, seen: Gaussian) -> Gaussian:
        """The proposal in units of the transition's noise."""
        nodes, values = self._node_values(t, seen)
        shares = jax.nn.softmax(values)
        mean = shares @ nodes
        centred = nodes - mean
        spread = (shares[:, None] * centred).T @ centred
        return Gaussian(mean, cholesky(INFLATION * spread + NARROWEST * jnp.eye(mean.shape[0], dtype=mean.dtype)))

    def law(self, t: Time, seen: Gaussian) -> Gaussian:
        """The Gaussian with the moments of p0 chi_t."""
        noise = self._moments(t, seen)
        return Gaussian(seen.point(noise.mean), seen.root @ noise.root)

    def log_weight(self, t: Time, seen: Gaussian, x: Array) -> Scalar:
        """log p0 - log q, in units of the transition's noise."""
        law = self._moments(t, seen)
        noise = _back(seen.root, jnp.reshape(x, -1) - seen.mean)
        own = solve(law.root, noise - law.mean)
        return 0.5 * (own @ own) - 0.5 * (noise @ noise) + jnp.sum(jnp.log(jnp.diag(law.root)))


def _back(root: Array, difference: Array) -> Array:
    """The noise that a lower triangular root turned into a difference."""
    return solve(root, difference)


def network_twist(
    key: KeyArray,
    features: Float[Array, "steps k"],
    centre: Float[Array, "steps d"],
    scale: Float[Array, "steps d"],
    *,
    width: int = 32,
    depth: int = 2,
    num_nodes: int = 9,
) -> NetworkTwist:
    """A flat `NetworkTwist`.

    Args:
        key: of the first weights.
        features: Float["steps k"], what the network knows at each t = 0 .. T (`upcoming` makes it of data).
        centre, scale: Float["steps d"], units of x (`smcinfer.twists.units` measures them).
        width, depth: of the network.
        num_nodes: of the quadrature: Gauss-Hermite, a grid of them in two dimensions; quasi-random from three on.
    """
    dim = centre.shape[1]
    network = eqx.nn.MLP(dim + 2 + features.shape[1], "scalar", width, depth, jax.nn.silu, key=key)
    last = network.layers[-1]
    network = eqx.tree_at(lambda tree: tree.layers[-1], network, jax.tree.map(jnp.zeros_like, last))
    nodes, log_weights = _quadrature(dim, num_nodes)
    dtype = centre.dtype
    return NetworkTwist(network, features, centre, scale, jnp.asarray(nodes, dtype), jnp.asarray(log_weights, dtype))


def _quadrature(dim: int, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and log weights for the standard normal law."""
    if dim > 2:
        points = qmc.Sobol(dim, scramble=False).random(num_nodes + 1)[1:]
        return norm.ppf(points), np.full(num_nodes, -np.log(num_nodes))
    points, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    log_weights = np.log(weights / weights.sum())
    index = np.array(list(product(range(num_nodes), repeat=dim)))
    return points[index], log_weights[index].sum(axis=1)


def upcoming(data: Float[Array, "steps k"] | Float[Array, " steps"], num: int) -> Float[Array, "steps features"]:
    """The observations y_t .. y_{t+num-1} beside every t, zero after the last, and how many of them there are (as a share).

    Args:
        data: y_0 .. y_T.
        num: how many.
    """
    rows = jnp.reshape(data, (data.shape[0], -1))
    padded = jnp.concatenate([rows, jnp.zeros((num - 1, rows.shape[1]), rows.dtype)])
    steps = rows.shape[0]
    window = jnp.concatenate([padded[lag : lag + steps] for lag in range(num)], axis=1)
    left = jnp.clip((steps - jnp.arange(steps)) / num, 0.0, 1.0).astype(rows.dtype)
    return jnp.concatenate([window, left[:, None]], axis=1)
