"""What is known exactly of a mixture that was tilted or raised to a power, computed in float64 on the host."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from smcinfer.ground.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Tilted:
    r"""A mixture times a Gaussian factor, again a mixture.

    .. math::
        Z = E_q\Bigl[e^{-\sum_j c_j (x_j - b_j)^2}\Bigr], \qquad
        v_j = \frac{s^2}{1 + 2 c_j s^2}, \quad m'_{kj} = \frac{m_{kj} + 2 c_j s^2 b_j}{1 + 2 c_j s^2}

    Attributes:
        log_z: log Z, nats.
        weights: Float["num_modes"], of the modes.
        means: Float["num_modes dim"].
        std: Float["dim"].
        mean_reward: the mean of :math:`-\sum_j c_j (x_j - b_j)^2`, nats.
    """

    log_z: float
    weights: Float[np.ndarray, " num_modes"]
    means: Float[np.ndarray, "num_modes dim"]
    std: Float[np.ndarray, " dim"]
    mean_reward: float

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n dim"]:
        """``n`` exact draws: a mode by its weight, then a Gaussian about its mean."""
        which = rng.choice(len(self.weights), n, p=self.weights)
        return self.means[which] + self.std * rng.standard_normal((n, self.means.shape[1]))


def tilt(means: ArrayLike, log_weights: ArrayLike, std: float, curvature: ArrayLike, centre: ArrayLike) -> Tilted:
    """The tilted mixture (see `Tilted`).

    Args:
        means: Float["num_modes dim"], of the mixture q.
        log_weights: Float["num_modes"], normalised, nats.
        std: s, standard deviation of every coordinate of every mode.
        curvature: c, Float["dim"] or one number for all coordinates, at least zero.
        centre: b, Float["dim"] or one number for all coordinates.

    Raises:
        ArgumentError: for a negative curvature.
    """
    means, log_weights = np.asarray(means, np.float64), np.asarray(log_weights, np.float64)
    curvature = np.broadcast_to(np.asarray(curvature, np.float64), means.shape[1:])
    centre = np.broadcast_to(np.asarray(centre, np.float64), means.shape[1:])
    if (curvature < 0).any():
        raise ArgumentError("the tilt is no Gaussian factor", expected="curvature at least zero", got=curvature)
    grown = 1.0 + 2.0 * curvature * std**2
    log_terms = log_weights - np.sum(curvature * (means - centre) ** 2 / grown + 0.5 * np.log(grown), axis=1)
    log_z = float(logsumexp(log_terms))
    weights = np.exp(log_terms - log_z)
    moved = (means + 2.0 * curvature * std**2 * centre) / grown
    variance = std**2 / grown
    mean_reward = -float(weights @ np.sum(curvature * ((moved - centre) ** 2 + variance), axis=1))
    return Tilted(log_z, weights / weights.sum(), moved, np.sqrt(variance), mean_reward)


@dataclasses.dataclass(frozen=True)
class Power:
    r"""A power of the density of a mixture in the plane, on a grid.

    .. math:: \pi(x) \propto q(x)^b, \qquad \log Z = \log \int q(x)^b\, dx

    Attributes:
        log_z: nats. masses: Float["num_modes"], the mass of the points nearest to each mean. cells: Float["num_points
        2"], centres of the grid's cells, and ``probabilities``, their masses; ``width`` of a cell.
    """

    log_z: float
    masses: Float[np.ndarray, " num_modes"]
    cells: Float[np.ndarray, "num_points 2"]
    probabilities: Float[np.ndarray, " num_points"]
    width: Float[np.ndarray, " 2"]

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 2"]:
        """Draws: a cell by its mass, a place in it at random."""
        which = rng.choice(len(self.cells), n, p=self.probabilities)
        return self.cells[which] + self.width * (rng.random((n, 2)) - 0.5)


def raise_to(
    means: ArrayLike, log_weights: ArrayLike, std: float, power: float, noise: float, *, reach: float, points: int
) -> Power:
    """The power of the mixture (see `Power`), first blurred by Gaussian noise where asked.

    Args:
        means: Float["num_modes 2"], of the mixture.
        log_weights: Float["num_modes"], normalised, nats.
        std: standard deviation of every coordinate of every mode.
        power: b.
        noise: standard deviation of the noise that is added to the mixture before its power is taken; zero for none.
        reach: how far the grid goes beyond the outermost means, in standard deviations of a mode with its noise.
        points: of the grid along each axis.

    Raises:
        ArgumentError: for a mixture that is not in the plane.
    """
    means, log_weights = np.asarray(means, np.float64), np.asarray(log_weights, np.float64)
    if means.shape[1] != 2:
        raise ArgumentError("the grid is for mixtures in the plane", expected="dim 2", got=means.shape[1])
    variance = std**2 + noise**2
    margin = reach * variance**0.5
    axes = [np.linspace(means[:, j].min() - margin, means[:, j].max() + margin, points) for j in range(2)]
    # A product over the two axes for every mode: the density on the grid is one matrix product.
    kernels = [np.exp(-0.5 * (axes[j][:, None] - means[:, j]) ** 2 / variance) for j in range(2)]
    density = (kernels[0] * np.exp(log_weights)) @ kernels[1].T / (2.0 * np.pi * variance)
    with np.errstate(divide="ignore"):
        log_power = power * np.log(density).reshape(-1)
    width = np.array([axis[1] - axis[0] for axis in axes])
    total = logsumexp(log_power)
    probabilities = np.exp(log_power - total)
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    masses = np.bincount(nearest(means, cells), probabilities, minlength=len(means))
    return Power(float(total + np.log(width).sum()), masses, cells, probabilities / probabilities.sum(), width)


def nearest(means: Float[np.ndarray, "num_modes dim"], x: Float[np.ndarray, "n dim"]) -> Int[np.ndarray, " n"]:
    """The mean nearest to each point."""
    return np.argmin(np.sum(means**2, axis=1) - 2.0 * x @ means.T, axis=1)
