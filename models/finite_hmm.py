r"""Hidden Markov models on finitely many states: every sum is finite, so everything is known exactly.

.. math:: P(x_0 = i) = \mu_i, \quad P(x_t = j \mid x_{t-1} = i) = A_{ij}, \quad P(y_t = k \mid x_t = i) = E_{ik}

Answers are computed in float64 on the host by the recursions of Baum, Petrie, Soules & Weiss (1970).
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import ArrayLike, NDArray

from smcinfer.core.nouns import Twist
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.state_space import StateSpace, simulate, state_space

Host = NDArray[np.float64]
KINDS = ("bootstrap", "guided", "auxiliary", "twisted")


@dataclass(frozen=True)
class ForwardBackward:
    """Exact answers of one data set, float64.

    Attributes:
        filtered: (T+1, n), P(x_t | y_0:t).
        smoothed: (T+1, n), P(x_t | y_0:T).
        log_backward: (T+1, n), log P(y_{t+1:T} | x_t), nats.
        log_z_increments: (T+1,), log P(y_t | y_0:t-1), nats.
    """

    filtered: Host
    smoothed: Host
    log_backward: Host
    log_z_increments: Host

    @property
    def log_z(self) -> float:
        """log P(y_0:T), the sum of the increments, nats."""
        return float(self.log_z_increments.sum())


class PathSampler(eqx.Module):
    """Exact draws of x_0:T given y_0:T, forwards by the backward recursion: ``sampler(key) -> Int["T+1"]``."""

    initial_logits: Float[Array, " n"]
    logits: Float[Array, "steps n n"]

    def __call__(self, key: KeyArray) -> Int[Array, " steps_1"]:
        keys = jax.random.split(key, self.logits.shape[0] + 1)
        first = jax.random.categorical(keys[0], self.initial_logits)

        def step(x: Array, parts: tuple[Array, Array]) -> tuple[Array, Array]:
            key, logits = parts
            x = jax.random.categorical(key, logits[x])
            return x, x

        _, later = jax.lax.scan(step, first, (keys[1:], self.logits))
        return jnp.concatenate([first[None], later])


class BackwardTwist(Twist):
    """log psi_t = ``power`` times log P(y_{t+1:T} | x_t): exact where the power is one.

    Attributes:
        log_backward: Float["T+1 n"].
        log_emission: Float["T+1 n"], log P(y_t | x_t) of the data.
        power: from 0, no twist, to 1.
    """

    log_backward: Float[Array, "steps n"]
    log_emission: Float[Array, "steps n"]
    power: float = eqx.field(static=True, default=1.0)

    def __call__(self, t: Int[Array, ""], state: Int[Array, ""]) -> Scalar:
        """log psi_t of one state, nats."""
        return self.power * self.log_backward[t, state]

    def next(self, t: Int[Array, ""], state: Int[Array, ""]) -> Float[Array, " n"]:
        """log of phi_t psi_t for every state that step t could move to."""
        del state
        return self.log_emission[t] + self.power * self.log_backward[t]


class FiniteHMM(eqx.Module):
    """A finite hidden Markov model (made by `finite_hmm`).

    Attributes:
        log_initial: Float["n"], log of mu.
        log_transition: Float["n n"], log of A.
        log_emission: Float["n m"], log of E.
    """

    log_initial: Float[Array, " n"]
    log_transition: Float[Array, "n n"]
    log_emission: Float[Array, "n m"]

    @property
    def initial(self) -> dist.Distribution:
        """The law of x_0, a categorical one over n states."""
        return dist.Categorical(logits=self.log_initial)

    def transition(self, t: Int[Array, ""], x: Int[Array, ""]) -> dist.Distribution:
        """Law of x_t given x_{t-1}."""
        del t
        return dist.Categorical(logits=self.log_transition[x])

    def observation(self, t: Int[Array, ""], x: Int[Array, ""]) -> dist.Distribution:
        """Law of y_t given x_t."""
        del t
        return dist.Categorical(logits=self.log_emission[x])

    def _guide(self, t: Int[Array, ""], x: Int[Array, ""], y: Int[Array, ""]) -> dist.Distribution:
        """P(x_t | x_{t-1}, y_t)."""
        del t
        return dist.Categorical(logits=self.log_transition[x] + self.log_emission[:, y])

    def _look_ahead(self, t: Int[Array, ""], x: Int[Array, ""], y: Int[Array, ""]) -> Scalar:
        """log P(y_t | x_{t-1}), nats."""
        del t
        return jax.nn.logsumexp(self.log_transition[x] + self.log_emission[:, y])

    def simulate(self, key: KeyArray, num_steps: int) -> tuple[Int[Array, " steps"], Int[Array, " steps"]]:
        """A path x_0:T and data y_0:T of it, T = ``num_steps``."""
        return simulate(key, self.initial, self.transition, self.observation, num_steps)

    def state_space(self, data: ArrayLike, kind: str = "guided", **options: Any) -> StateSpace:
        """The model with data, filtered in a named way.

        Args:
            data: (T+1,), integers.
            kind: ``"bootstrap"``; ``"guided"`` by P(x_t | x_{t-1}, y_t); ``"auxiliary"``: that and the exact look-ahead
                P(y_t | x_{t-1}); ``"twisted"`` by the exact P(y_{t+1:T} | x_t), with the proposal it induces.
            options: of `smcinfer.state_space.state_space`.
        """
        if kind not in KINDS:
            raise ArgumentError("unknown kind of filter", expected=" | ".join(KINDS), got=kind)
        parts: dict[str, Any] = {}
        if kind in ("guided", "auxiliary"):
            parts = {"proposal": self._guide}
        if kind == "auxiliary":
            parts["look_ahead"] = self._look_ahead
        if kind == "twisted":
            parts = {"twist": self.twist(data)}
        return state_space(self.initial, self.transition, self.observation, data, **(parts | options))

    def twist(self, data: ArrayLike, power: float = 1.0) -> BackwardTwist:
        """The exact twist of the data, or a tempered one."""
        seen = self.log_emission[:, jnp.asarray(data)].T
        return BackwardTwist(jnp.asarray(self.posterior(data).log_backward), seen, power)

    def posterior(self, data: ArrayLike) -> ForwardBackward:
        """The exact filter, smoother, backward function and likelihood."""
        y = np.asarray(data)
        initial, transition, emission = (
            np.exp(np.asarray(part, np.float64)) for part in (self.log_initial, self.log_transition, self.log_emission)
        )
        predicted, filtered, increments = initial, [], []
        for seen in y:
            joint = predicted * emission[:, seen]
            increments.append(np.log(joint.sum()))
            filtered.append(joint / joint.sum())
            predicted = filtered[-1] @ transition
        log_backward = [np.zeros(len(initial))]
        with np.errstate(divide="ignore"):
            for seen in y[:0:-1]:
                top = log_backward[-1].max()
                log_backward.append(top + np.log(transition @ (emission[:, seen] * np.exp(log_backward[-1] - top))))
        backward = np.stack(log_backward[::-1])
        smoothed = np.stack(filtered) * np.exp(backward - backward.max(axis=1, keepdims=True))
        smoothed /= smoothed.sum(axis=1, keepdims=True)
        return ForwardBackward(np.stack(filtered), smoothed, backward, np.array(increments))

    def path_sampler(self, data: ArrayLike) -> PathSampler:
        """Exact draws of the path given the data."""
        twist = self.twist(data)
        ahead = twist.log_emission + twist.log_backward
        return PathSampler(self.log_initial + ahead[0], self.log_transition + ahead[1:, None, :])


def finite_hmm(initial: ArrayLike, transition: ArrayLike, emission: ArrayLike) -> FiniteHMM:
    """A model from its probabilities.

    Args:
        initial: (n,), of x_0.
        transition: (n, n), rows sum to one.
        emission: (n, m), rows sum to one.
    """
    tables = [np.asarray(part, np.float64) for part in (initial, transition, emission)]
    for name, table in zip(("initial", "transition", "emission"), tables, strict=True):
        if np.any(table < 0) or not np.allclose(table.sum(axis=-1), 1.0):
            raise ArgumentError(f"{name} is no table of probabilities", expected="rows that sum to one", got=table)
    with np.errstate(divide="ignore"):
        return FiniteHMM(*(jnp.asarray(np.log(table), jnp.result_type(float)) for table in tables))


def example() -> FiniteHMM:
    """Three states that persist; one emission is impossible, so that particles die."""
    return finite_hmm(
        [0.5, 0.3, 0.2],
        [[0.7, 0.2, 0.1], [0.15, 0.6, 0.25], [0.3, 0.1, 0.6]],
        [[0.8, 0.2, 0.0], [0.1, 0.7, 0.2], [0.25, 0.25, 0.5]],
    )
