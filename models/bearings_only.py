r"""Bearings-only tracking: a target is heard by direction alone, from a ship that manoeuvres (Gordon, Salmond & Smith 1993).

The state is (position, velocity) in the plane, moved by white acceleration between looks ``interval`` apart:

.. math::
    x_t \sim N(F x_{t-1}, Q), \qquad
    F = \begin{pmatrix} I & \Delta I \\ 0 & I \end{pmatrix}, \quad
    Q = q \begin{pmatrix} \Delta^3/3\, I & \Delta^2/2\, I \\ \Delta^2/2\, I & \Delta I \end{pmatrix}, \qquad
    y_t \sim \mathrm{VonMises}(\angle(p_t - s_t), 1 / r^2)

with :math:`p_t` the target's position, :math:`s_t` the observer's, and r the standard deviation of a bearing. Only an
observer that turns can tell how far away the target is.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import ArrayLike

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.state_space import StateSpace, simulate, state_space

KINDS = ("bootstrap", "guided")


class BearingsOnly(eqx.Module):
    """The model along an observer's course (made by `bearings_only`).

    Attributes:
        observer: Float["T+1 2"], where the observer is at each look, kilometres.
        initial_mean: Float["4"], of position (km) and velocity (km a minute).
        initial_sd: Float["4"].
        matrix: Float["4 4"], F.
        scale: Float["4 4"], Cholesky factor of Q.
        bearing_sd: standard deviation of a bearing, radians.
    """

    observer: Float[Array, "steps 2"]
    initial_mean: Float[Array, "4"]
    initial_sd: Float[Array, "4"]
    matrix: Float[Array, "4 4"]
    scale: Float[Array, "4 4"]
    bearing_sd: Scalar

    @property
    def initial(self) -> dist.Distribution:
        """The law of x_0: independent Gaussians of the two positions (km) and the two velocities (km a minute)."""
        return dist.Normal(self.initial_mean, self.initial_sd).to_event(1)

    def transition(self, t: Int[Array, ""], x: Float[Array, "4"]) -> dist.Distribution:
        """Law of x_t given x_{t-1}."""
        del t
        return dist.MultivariateNormal(self.matrix @ x, scale_tril=self.scale)

    def observation(self, t: Int[Array, ""], x: Float[Array, "4"]) -> dist.Distribution:
        """Law of the bearing y_t, radians counterclockwise from east."""
        east, north = x[0] - self.observer[t, 0], x[1] - self.observer[t, 1]
        return dist.VonMises(jnp.arctan2(north, east), self.bearing_sd**-2)

    def guide(self, t: Int[Array, ""], x: Float[Array, "4"], y: Scalar) -> dist.Distribution:
        """The transition corrected by the bearing, made linear at its mean: one extended Kalman step a particle.

        Source: Doucet, Godsill & Andrieu (2000), section II-D.
        """
        mean = self.matrix @ x
        east, north = mean[0] - self.observer[t, 0], mean[1] - self.observer[t, 1]
        square = east**2 + north**2
        slope = jnp.stack([-north / square, east / square, jnp.zeros_like(east), jnp.zeros_like(east)])
        turned = y - jnp.arctan2(north, east)
        surprise = jnp.arctan2(jnp.sin(turned), jnp.cos(turned))
        spread = self.scale.T @ slope
        variance = self.bearing_sd**2
        total = spread @ spread + variance
        # S (I - a v v^T) S^T with v = S^T slope is the posterior covariance, and S (I - b v v^T) a root of it.
        gain = self.scale @ spread / total
        shrink = (1.0 - jnp.sqrt(variance / total)) / jnp.maximum(spread @ spread, jnp.finfo(x.dtype).tiny)
        root = self.scale @ (jnp.eye(4, dtype=x.dtype) - shrink * jnp.outer(spread, spread))
        covariance = root @ root.T
        return dist.MultivariateNormal(mean + gain * surprise, covariance_matrix=covariance)

    def simulate(
        self, key: KeyArray, start: ArrayLike | tuple[float, ...] | None = None
    ) -> tuple[Float[Array, "steps 4"], Array]:
        """The target's path, the truth, and bearings of it; ``start`` fixes x_0."""
        initial = (
            self.initial if start is None else dist.Delta(jnp.asarray(start, self.initial_mean.dtype), event_dim=1)
        )
        return simulate(key, initial, self.transition, self.observation, self.observer.shape[0] - 1)

    def state_space(self, data: ArrayLike, kind: str = "guided", **options: Any) -> StateSpace:
        """The model with data.

        Args:
            data: (T+1,), bearings in radians, in [-pi, pi]; NaN where there was none (with ``missing="skip"``).
            kind: ``"bootstrap"``, or ``"guided"`` by `guide`.
            options: of `smcinfer.state_space.state_space`.
        """
        if kind not in KINDS:
            raise ArgumentError("unknown kind of filter", expected=" | ".join(KINDS), got=kind)
        parts: dict[str, Any] = {"proposal": self.guide} if kind == "guided" else {}
        return state_space(self.initial, self.transition, self.observation, data, **(parts | options))


def bearings_only(
    observer: ArrayLike,
    *,
    initial_mean: ArrayLike | tuple[float, ...] = (4.5, 3.5, -0.1, 0.0),
    initial_sd: ArrayLike | tuple[float, ...] = (0.5, 0.5, 0.1, 0.1),
    interval: float = 1.0,
    acceleration: float = 1e-3,
    bearing_sd: float = 0.02,
) -> BearingsOnly:
    """The model along an observer's course.

    Args:
        observer: (T+1, 2), positions of the observer, km.
        initial_mean, initial_sd: (4,), of x_0: position (km) and velocity (km a minute).
        interval: minutes between looks.
        acceleration: q, spectral density of the acceleration, km^2 / min^3.
        bearing_sd: standard deviation of a bearing, radians.
    """
    block = np.array([[interval**3 / 3, interval**2 / 2], [interval**2 / 2, interval]])
    moved = np.kron(np.array([[1.0, interval], [0.0, 1.0]]), np.eye(2))
    scale = np.linalg.cholesky(acceleration * np.kron(block, np.eye(2)))
    parts = (observer, initial_mean, initial_sd, moved, scale, bearing_sd)
    return BearingsOnly(*(jnp.asarray(part, jnp.result_type(float)) for part in parts))


def zigzag(num_steps: int, *, speed: float = 0.2, leg: int = 10) -> np.ndarray:
    """An observer's course that turns by a right angle every ``leg`` minutes, between north-east and south-east.

    Args:
        num_steps: minutes to travel.
        speed: km a minute.
        leg: minutes from one turn to the next.

    Returns:
        Float["num_steps+1 2"], positions at each minute, km, from the origin.
    """
    headings = np.where((np.arange(num_steps) // leg) % 2 == 0, 0.25 * np.pi, -0.25 * np.pi)
    steps = speed * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
