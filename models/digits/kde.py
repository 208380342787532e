r"""The exact twin of the learned denoiser: a kernel density over the images, whose every noised version is known.

.. math::
    q(x_0) = \frac1n \sum_j N(x_0;\, y_j,\, h^2 I), \qquad
    E[x_0 \mid x_u = x] = \sum_j W_j(x) \Bigl[ y_j + \frac{\alpha h^2}{\alpha^2 h^2 + \sigma^2} (x - \alpha y_j) \Bigr],
    \qquad W_j \propto N(x;\, \alpha y_j,\, (\alpha^2 h^2 + \sigma^2) I)

Under a reward the mass of image j becomes proportional to :math:`E[e^{r(x_0)} \mid j]`: with 1797 images the normaliser
and the mass of every class are sums.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from smcinfer.diffusion import Cosine, Model, NoiseSchedule, diffusion_model
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.models.digits.data import NUM_CLASSES, images


class Denoiser(eqx.Module):
    """The mean of an image given a noisy one, exactly.

    Attributes:
        pixels: Float["n 64"], the images.
        bandwidth: h.
        schedule: of the noise.
    """

    pixels: Float[Array, "n dim"]
    bandwidth: Scalar
    schedule: NoiseSchedule

    def __call__(self, x: Float[Array, " dim"], time: Scalar) -> Float[Array, " dim"]:
        """One point, one diffusion time."""
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time)
        variance = alpha**2 * self.bandwidth**2 + sigma**2
        # The square of x is the same for all images.
        log_w = (alpha * self.pixels @ x - 0.5 * alpha**2 * jnp.sum(self.pixels**2, axis=1)) / variance
        mean = jax.nn.softmax(log_w) @ self.pixels
        return mean + alpha * self.bandwidth**2 / variance * (x - alpha * mean)


@dataclass(frozen=True)
class Tilted:
    """What a reward makes of the images, float64.

    Attributes:
        log_z: log of E[exp(r)], nats.
        masses: (n,), of every image's kernel, summing to one.
        classes: (10,), of every digit.
    """

    log_z: float
    masses: NDArray[np.float64]
    classes: NDArray[np.float64]


def tilted(log_factors: ArrayLike, labels: NDArray[np.int64]) -> Tilted:
    """What rewards make of a mixture with one component an image.

    Args:
        log_factors: (n,), log E[exp(r)] under every component, nats.
        labels: (n,).
    """
    terms = np.asarray(log_factors, np.float64) - np.log(len(labels))
    log_z = np.logaddexp.reduce(terms)
    masses = np.exp(terms - log_z)
    return Tilted(float(log_z), masses, np.bincount(labels, masses, NUM_CLASSES))


@dataclass(frozen=True)
class KernelDensity:
    """The density, its model for the engine, and its exact answers (made by `kernel_density`).

    Attributes:
        model: the diffusion model.
        pixels, labels: the images, (n, 64) and (n,).
        bandwidth: h.
    """

    model: Model
    pixels: NDArray[np.float64]
    labels: NDArray[np.int64]
    bandwidth: float

    def linear(self, direction: ArrayLike) -> Tilted:
        r"""Under the reward :math:`\langle w, x_0 \rangle`: :math:`E[e^r \mid j] = e^{\langle w, y_j \rangle + h^2 |w|^2 / 2}`.

        Args:
            direction: (64,), w, nats a unit of ink.
        """
        w = np.asarray(direction, np.float64)
        return tilted(self.pixels @ w + 0.5 * self.bandwidth**2 * w @ w, self.labels)

    def classes(self, x: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
        """Mass of every digit among weighted samples, each counted for its nearest image.

        Args:
            x: (m, 64), samples.
            weights: (m,), that sum to one.
        """
        points = np.asarray(x, np.float64)
        distances = np.sum(self.pixels**2, axis=1) - 2.0 * points @ self.pixels.T
        return np.bincount(self.labels[distances.argmin(axis=1)], np.asarray(weights, np.float64), NUM_CLASSES)


def kernel_density(bandwidth: float = 0.2, schedule: NoiseSchedule | None = None) -> KernelDensity:
    """The kernel density of the digits.

    Args:
        bandwidth: h, in units of half the range from paper to ink, above zero. The nearest neighbours of images
            are 1.3 to 2.6 away.
        schedule: of the noise; `Cosine` where ``None``.
    """
    validate.number("bandwidth", bandwidth, above=0.0)
    found, noise = images(), schedule or Cosine()
    denoiser = Denoiser(jnp.asarray(found.pixels, float), jnp.asarray(bandwidth, float), noise)
    model = diffusion_model(denoiser, noise, (found.pixels.shape[1],), parameterisation="x0")
    return KernelDensity(model, found.pixels.astype(np.float64), found.labels, bandwidth)
