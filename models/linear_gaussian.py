r"""Linear Gaussian state-space models: everything about them is known exactly.

.. math:: x_0 \sim N(m_0, P_0), \quad x_t \sim N(A x_{t-1}, Q), \quad y_t \sim N(C x_t, R)

Answers are computed in float64 on the host: Kalman (1960) for the filter and the likelihood, Rauch, Tung & Striebel (1965)
for the smoother. NaN in the data is an observation, or a coordinate of it, that was not made.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import ArrayLike, NDArray

from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.state_space import StateSpace, simulate, state_space

Host = NDArray[np.float64]
KINDS = ("bootstrap", "guided", "auxiliary", "twisted")


@dataclass(frozen=True)
class Kalman:
    """Exact answers of one data set, float64.

    Attributes:
        mean, covariance: (T+1, d) and (T+1, d, d), of the filter p(x_t | y_0:t).
        predicted_mean, predicted_covariance: of p(x_t | y_0:t-1).
        smoothed_mean, smoothed_covariance: of p(x_t | y_0:T).
        gains: (T, d, d), what x_t learns from x_{t+1}.
        log_z_increments: (T+1,), log p(y_t | y_0:t-1), nats.
    """

    mean: Host
    covariance: Host
    predicted_mean: Host
    predicted_covariance: Host
    smoothed_mean: Host
    smoothed_covariance: Host
    gains: Host
    log_z_increments: Host

    @property
    def log_z(self) -> float:
        """log p(y_0:T), the sum of the increments, nats."""
        return float(self.log_z_increments.sum())


class PathSampler(eqx.Module):
    """Exact draws of x_0:T given y_0:T, by sampling backwards: ``sampler(key) -> Float["T+1 d"]``."""

    mean: Float[Array, "steps d"]
    predicted_mean: Float[Array, "steps d"]
    gains: Float[Array, "steps_1 d d"]
    scales: Float[Array, "steps d d"]

    def __call__(self, key: KeyArray) -> Float[Array, "steps d"]:
        noise = jnp.einsum("tij,tj->ti", self.scales, jax.random.normal(key, self.mean.shape, self.mean.dtype))
        last = self.mean[-1] + noise[-1]

        def back(after: Array, parts: tuple[Array, ...]) -> tuple[Array, Array]:
            mean, predicted, gain, shock = parts
            x = mean + gain @ (after - predicted) + shock
            return x, x

        parts = (self.mean[:-1], self.predicted_mean[1:], self.gains, noise[:-1])
        _, path = jax.lax.scan(back, last, parts, reverse=True)
        return jnp.concatenate([path, last[None]])


class LinearGaussian(eqx.Module):
    """A linear Gaussian model (made by `linear_gaussian`); scales are Cholesky factors of covariances.

    Attributes:
        initial_mean, initial_scale: Float["d"], Float["d d"].
        transition_matrix, transition_scale: Float["d d"].
        observation_matrix: Float["k d"].
        observation_scale: Float["k k"], or Float["k"] of standard deviations where coordinates are independent.
    """

    initial_mean: Float[Array, " d"]
    initial_scale: Float[Array, "d d"]
    transition_matrix: Float[Array, "d d"]
    transition_scale: Float[Array, "d d"]
    observation_matrix: Float[Array, "k d"]
    observation_scale: Float[Array, "k k"] | Float[Array, " k"]

    @property
    def initial(self) -> dist.Distribution:
        """The law of x_0, a Gaussian in d dimensions."""
        return dist.MultivariateNormal(self.initial_mean, scale_tril=self.initial_scale)

    def transition(self, t: Int[Array, ""], x: Float[Array, " d"]) -> dist.Distribution:
        """Law of x_t given x_{t-1}."""
        del t
        return dist.MultivariateNormal(self.transition_matrix @ x, scale_tril=self.transition_scale)

    def observation(self, t: Int[Array, ""], x: Float[Array, " d"]) -> dist.Distribution:
        """Law of y_t given x_t."""
        del t
        mean = self.observation_matrix @ x
        if self.observation_scale.ndim == 1:
            return dist.Normal(mean, self.observation_scale).to_event(1)
        return dist.MultivariateNormal(mean, scale_tril=self.observation_scale)

    def simulate(self, key: KeyArray, num_steps: int) -> tuple[Float[Array, "steps d"], Float[Array, "steps k"]]:
        """A path x_0:T and data y_0:T of it, T = ``num_steps``."""
        return simulate(key, self.initial, self.transition, self.observation, num_steps)

    def state_space(self, data: ArrayLike | None, kind: str = "guided", **options: Any) -> StateSpace:
        """The model with data, filtered in a named way.

        Args:
            data: (T+1, k); NaN where nothing was observed (with ``missing="skip"``); ``None`` for observations to come
                (`smcinfer.online`).
            kind: ``"bootstrap"``; ``"guided"`` by p(x_t | x_{t-1}, y_t), the best that looks no further; ``"auxiliary"``: that
                and the exact look-ahead p(y_t | x_{t-1}), the fully adapted filter; ``"twisted"`` by the exact
                p(y_{t+1:T} | x_t), with its proposal: no variance at all.
            options: of `smcinfer.state_space.state_space`.
        """
        if kind not in KINDS:
            raise ArgumentError("unknown kind of filter", expected=" | ".join(KINDS), got=kind)
        parts: dict[str, Any] = {}
        if kind in ("guided", "auxiliary"):
            parts = {"proposal": _Guide.of(self)}
        if kind == "auxiliary":
            parts["look_ahead"] = _LookAhead.of(self)
        if kind == "twisted":
            if data is None:
                raise ArgumentError(
                    "the exact twist looks at all data", expected="data, or another kind", got="data=None"
                )
            exact = _backward(self, data)
            parts = {"twist": exact.log_psi, "proposal": exact.guide, "initial_proposal": exact.initial(self, data)}
        return state_space(self.initial, self.transition, self.observation, data, **(parts | options))

    def posterior(self, data: ArrayLike) -> Kalman:
        """The exact filter, smoother and likelihood, one coordinate of an observation missing where it is NaN."""
        y = np.asarray(data, np.float64)
        host = _host(self)
        means, covariances, predicted_means, predicted_covariances, log_z = [], [], [], [], []
        mean, covariance = host.initial_mean, host.initial_covariance
        for t, seen in enumerate(y):
            if t:
                mean, covariance = host.a @ mean, host.a @ covariance @ host.a.T + host.q
            predicted_means.append(mean)
            predicted_covariances.append(covariance)
            kept = ~np.isnan(seen)
            c, r = host.c[kept], host.r[np.ix_(kept, kept)]
            surprise, total = seen[kept] - c @ mean, c @ covariance @ c.T + r
            log_z.append(_log_normal(surprise, total))
            gain = np.linalg.solve(total, c @ covariance).T
            mean, covariance = mean + gain @ surprise, covariance - gain @ c @ covariance
            means.append(mean)
            covariances.append(covariance)
        gains = [
            np.linalg.solve(after, host.a @ before).T
            for before, after in zip(covariances[:-1], predicted_covariances[1:], strict=True)
        ]
        smooth_means, smooth_covariances = [means[-1]], [covariances[-1]]
        for t in range(len(y) - 2, -1, -1):
            smooth_means.append(means[t] + gains[t] @ (smooth_means[-1] - predicted_means[t + 1]))
            difference = smooth_covariances[-1] - predicted_covariances[t + 1]
            smooth_covariances.append(covariances[t] + gains[t] @ difference @ gains[t].T)
        dim = host.a.shape[0]
        return Kalman(
            np.stack(means),
            np.stack(covariances),
            np.stack(predicted_means),
            np.stack(predicted_covariances),
            np.stack(smooth_means[::-1]),
            np.stack(smooth_covariances[::-1]),
            np.reshape(gains, (-1, dim, dim)),
            np.array(log_z),
        )

    def path_sampler(self, data: ArrayLike) -> PathSampler:
        """Exact draws of the path given the data."""
        exact = self.posterior(data)
        lost = exact.gains @ exact.predicted_covariance[1:] @ np.swapaxes(exact.gains, 1, 2)
        covariances = np.concatenate([exact.covariance[:-1] - lost, exact.covariance[-1:]])
        scales = np.stack([_root(covariance) for covariance in covariances])
        return PathSampler(*map(jnp.asarray, (exact.mean, exact.predicted_mean, exact.gains, scales)))


def linear_gaussian(
    initial_mean: ArrayLike,
    initial_covariance: ArrayLike,
    transition_matrix: ArrayLike,
    transition_covariance: ArrayLike,
    observation_matrix: ArrayLike,
    observation_covariance: ArrayLike,
) -> LinearGaussian:
    """A model from its means, matrices and covariances (module equation).

    Args:
        initial_mean, initial_covariance: (d,), (d, d).
        transition_matrix, transition_covariance: (d, d), the second positive definite.
        observation_matrix: (k, d).
        observation_covariance: (k, k), or (k,) of variances of independent coordinates, which may then be missing singly.
    """
    noise = np.asarray(observation_covariance, np.float64)
    covariances = [np.asarray(part, np.float64) for part in (initial_covariance, transition_covariance)]
    try:
        roots = [np.linalg.cholesky(part) for part in covariances]
        root = np.sqrt(noise) if noise.ndim == 1 else np.linalg.cholesky(noise)
    except np.linalg.LinAlgError as error:
        raise ArgumentError("a covariance is not positive definite", hint="every noise needs some variance") from error
    parts = (initial_mean, roots[0], transition_matrix, roots[1], observation_matrix, root)
    return LinearGaussian(*(jnp.asarray(part, jnp.result_type(float)) for part in parts))


def example() -> LinearGaussian:
    """A damped oscillation in two dimensions, its first coordinate and their sum seen through noise."""
    angle, damping = 0.4, 0.95
    turn = damping * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    noise = np.array([[0.2, 0.05], [0.05, 0.1]])
    return linear_gaussian([1.0, 0.0], np.eye(2), turn, noise, [[1.0, 0.0], [1.0, 1.0]], [0.25, 0.5])


class _Guide(eqx.Module):
    """p(x_t | x_{t-1}, y_t): the law that makes the variance of the next weight zero given x_{t-1}."""

    transition_matrix: Array
    observation_matrix: Array
    gain: Array
    scale: Array

    @classmethod
    def of(cls, model: LinearGaussian) -> "_Guide":
        host = _host(model)
        gain = np.linalg.solve(host.c @ host.q @ host.c.T + host.r, host.c @ host.q).T
        scale = _root(host.q - gain @ host.c @ host.q)
        return cls(model.transition_matrix, model.observation_matrix, jnp.asarray(gain), jnp.asarray(scale))

    def __call__(self, t: Array, x: Array, y: Array) -> dist.Distribution:
        del t
        mean = self.transition_matrix @ x
        mean = mean + self.gain @ (y - self.observation_matrix @ mean)
        return dist.MultivariateNormal(mean, scale_tril=self.scale)


class _LookAhead(eqx.Module):
    """log p(y_t | x_{t-1}), nats."""

    matrix: Array
    scale: Array

    @classmethod
    def of(cls, model: LinearGaussian) -> "_LookAhead":
        host = _host(model)
        scale = _root(host.c @ host.q @ host.c.T + host.r)
        return cls(jnp.asarray(host.c @ host.a), jnp.asarray(scale))

    def __call__(self, t: Array, x: Array, y: Array) -> Scalar:
        del t
        return dist.MultivariateNormal(self.matrix @ x, scale_tril=self.scale).log_prob(y)


class _Backward(eqx.Module):
    r"""What the data to come say: :math:`\log p(y_{t+1:T} \mid x_t) = c_t + h_t^\top x_t - x_t^\top \Lambda_t x_t / 2`."""

    precision: Array
    shift: Array
    constant: Array
    guide_matrix: Array
    guide_offset: Array
    guide_scale: Array

    def log_psi(self, t: Array, x: Array) -> Scalar:
        """log p(y_{t+1:T} | x_t = x), nats."""
        return self.constant[t] + self.shift[t] @ x - 0.5 * x @ self.precision[t] @ x

    def guide(self, t: Array, x: Array, y: Array) -> dist.Distribution:
        """p(x_t | x_{t-1} = x, y_{t:T})."""
        del y
        mean = self.guide_matrix[t] @ x + self.guide_offset[t]
        return dist.MultivariateNormal(mean, scale_tril=self.guide_scale[t])

    def initial(self, model: LinearGaussian, data: ArrayLike) -> dist.Distribution:
        """The law of x_0 given all data, p(x_0 | y_{0:T}), from the Kalman smoother."""
        exact = model.posterior(data)
        scale = jnp.asarray(_root(exact.smoothed_covariance[0]))
        return dist.MultivariateNormal(jnp.asarray(exact.smoothed_mean[0]), scale_tril=scale)


def _backward(model: LinearGaussian, data: ArrayLike) -> _Backward:
    """The information filter run backwards, and the proposals it makes optimal."""
    y = np.asarray(data, np.float64)
    host = _host(model)
    dim = host.a.shape[0]
    precision, shift, constant = np.zeros((dim, dim)), np.zeros(dim), 0.0
    twists, guides = [], []
    q_inverse = np.linalg.inv(host.q)
    for seen in y[::-1]:
        twists.append((precision, shift, constant))
        kept = ~np.isnan(seen)
        c, r_inverse = host.c[kept], np.linalg.inv(host.r[np.ix_(kept, kept)])
        # Everything from t on, as a function of x_t; then x_t is integrated out.
        precision = precision + c.T @ r_inverse @ c
        shift = shift + c.T @ r_inverse @ seen[kept]
        constant = constant + _log_normal(seen[kept], host.r[np.ix_(kept, kept)])
        covariance = np.linalg.inv(q_inverse + precision)
        guides.append((covariance @ q_inverse @ host.a, covariance @ shift, _root(covariance)))
        shrink = host.a.T @ q_inverse @ covariance
        constant += 0.5 * (np.linalg.slogdet(covariance @ q_inverse)[1] + shift @ covariance @ shift)
        shift = shrink @ shift
        precision = shrink @ precision @ host.a
    parts = [np.stack(part) for part in (*zip(*twists[::-1], strict=True), *zip(*guides[::-1], strict=True))]
    return _Backward(*map(jnp.asarray, parts))


@dataclass(frozen=True)
class _Host:
    """The model's parts in float64 on the host."""

    initial_mean: Host
    initial_covariance: Host
    a: Host
    q: Host
    c: Host
    r: Host


def _host(model: LinearGaussian) -> _Host:
    def covariance(scale: Array) -> Host:
        root = np.asarray(scale, np.float64)
        return np.diag(root**2) if root.ndim == 1 else root @ root.T

    return _Host(
        np.asarray(model.initial_mean, np.float64),
        covariance(model.initial_scale),
        np.asarray(model.transition_matrix, np.float64),
        covariance(model.transition_scale),
        np.asarray(model.observation_matrix, np.float64),
        covariance(model.observation_scale),
    )


def _log_normal(x: Host, covariance: Host) -> float:
    """Log density of N(0, covariance), zero in no dimensions."""
    return float(
        -0.5 * (x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(covariance)[1] + len(x) * np.log(2 * np.pi))
    )


def _root(covariance: Host) -> Host:
    """Cholesky factor, the covariance made symmetric first."""
    return np.linalg.cholesky((covariance + covariance.T) / 2)
