r"""Objectives that ask the values along a path to agree: soft reinforcement learning and its relatives.

For the exact twist :math:`\log \chi_t = \log \phi_t + \log C_{t+1}`, and :math:`\log C_t - \log \chi_t = \log p_0/q` of
the step, so that along *every* path the potential function

.. math:: P_t = \log \chi_t + \sum_{s < t} \big[\log \phi_s + \log C_{s+1} - \log \chi_{s+1}\big], \qquad P_{\mathrm{end}}
          = \log \phi_T + \sum_{s < T} \big[\dots\big]

does not depend on t. Soft RL compares neighbours, the later one held fixed; path consistency compares :math:`P_t` with
:math:`P_{t+c}`; sub-trajectory balance compares all pairs.

Where a sequence may stop at every step, the value of a prefix is known from what stopping earns, and *modified* sub-trajectory
balance needs no separate flow:

.. math:: \Big(\log r_i + \sum_{k=i}^{j-1} \log q(s_{k+1} \mid s_{1:k}) + \log q(\mathrm{end} \mid s_{1:j})
          - \log r_j - \log q(\mathrm{end} \mid s_{1:i})\Big)^2,
          \qquad r_i = p_0(s_{1:i}\, \mathrm{end}) \prod_{s \le i + 1} \phi_s(s_{1:i}\, \mathrm{end}).

It sees the twist through q alone: a proposal is amortised, and the values are left open up to a function of the past.

Differences count squared while they are small and linearly beyond (Huber), and potentials below a floor are raised to
it: one path of probability nearly zero must not outweigh all others. Where all agree nothing is changed by that.

Sources: Zhao et al. (2024), appendix; Nachum, Norouzi, Xu & Schuurmans (2017); Madan et al. (2023);
Hu, Jain, Elmoznino, Kaddar, Lajoie, Bengio & Malkin (2024), equation 3.
"""

from typing import override

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.ground.arrays import Array, Float, Scalar
from smcinfer.ground.errors import ArgumentError
from smcinfer.twists.learned import LearnedTwist
from smcinfer.twists.objectives.base import Objective, Sample
from smcinfer.twists.paths import Paths

FLOOR = -100.0
"""What a log potential counts for at least, nats."""

ELBOW = 5.0
"""Differences beyond this count linearly, nats."""


def cost(difference: Array) -> Array:
    """Square of a difference, linear beyond the elbow."""
    size = jnp.abs(difference)
    return jnp.where(size < ELBOW, size**2, ELBOW * (2.0 * size - ELBOW))


class SoftBellman(Objective):
    """``"rl"``: the error of log chi_t against log phi_t + log C_{t+1}, held fixed, at all particles of a run.

    Attributes:
        floor: of the log potentials, nats.
    """

    floor: float = eqx.field(static=True, default=FLOOR)

    @override
    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """Mean over the particles, and over exact draws where there are any."""
        places = [sample.twisted.paths, *([] if sample.exact is None else [sample.exact])]
        return sum((self._error(twist, paths) for paths in places), jnp.zeros(())) / len(places)

    def _error(self, twist: LearnedTwist, paths: Paths) -> Scalar:
        goal = jax.lax.stop_gradient(jnp.maximum(paths.log_potential, self.floor) + paths.means_after(twist))
        return jnp.mean(cost(paths.values(twist) - goal))


class PathConsistency(Objective):
    """``"pcl"``: the difference of P over ``span`` steps.

    Attributes:
        span: c, steps; ``None`` compares every step with the end.
        floor: of the log potentials, nats.
    """

    span: int | None = eqx.field(static=True, default=None)
    floor: float = eqx.field(static=True, default=FLOOR)

    def __check_init__(self) -> None:
        if self.span is not None and self.span < 1:
            raise ArgumentError("span is a number of steps", expected="at least 1, or None", got=self.span)

    @override
    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """Mean over steps and paths."""
        return _mean(self._error(path_potential(twist, paths, self.floor)) for paths in sample.visited)

    def _error(self, levels: Float[Array, "S1 K"]) -> Scalar:
        last = levels.shape[0] - 1
        ahead = jnp.minimum(jnp.arange(last) + (last if self.span is None else self.span), last)
        return jnp.mean(cost(levels[ahead] - levels[:-1]))


class SubTrajectoryBalance(Objective):
    """``"subtb"``: the squared differences of P between all pairs of steps; modified where sequences may stop at every step.

    Attributes:
        stop: the symbol that ends a sequence, for the modified form; ``None`` for a fixed length.
        floor: of the log potentials, nats.
    """

    stop: int | None = eqx.field(static=True, default=None)
    floor: float = eqx.field(static=True, default=FLOOR)

    @property
    @override
    def stop_symbol(self) -> int | None:
        return self.stop

    @property
    @override
    def learns_values(self) -> bool:
        """Not in the modified form, which sees q alone."""
        return self.stop is None

    @override
    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """Mean over all pairs of prefixes, and over paths."""
        return _mean(self._error(twist, paths) for paths in sample.visited)

    def _error(self, twist: LearnedTwist, paths: Paths) -> Scalar:
        if self.stop is None:
            levels = path_potential(twist, paths, self.floor)
            alive = jnp.ones(levels.shape, bool)
        else:
            levels, alive = stopping_potential(twist, paths, self.stop, self.floor)
        # Pairs are many where paths are long: the loop keeps one row of them at a time.
        both = jax.lax.map(lambda row: jnp.sum(jnp.where(row[1] & alive, cost(levels - row[0]), 0.0)), (levels, alive))
        num_pairs = jnp.sum(jnp.sum(alive, axis=0) ** 2)
        return jnp.sum(both) / jnp.maximum(num_pairs, 1)


def path_potential(twist: LearnedTwist, paths: Paths, floor: float) -> Float[Array, "S1 K"]:
    """P_t at every step and, in the last row, P_end (module equation).

    Args:
        twist: the twist.
        paths: K paths of S steps.
        floor: what a log potential counts for at least, nats.

    Returns:
        Float["S+1 K"], nats.
    """
    values, means = paths.values(twist), paths.means(twist)
    earned = jnp.maximum(paths.log_potential, floor)
    gains = earned[:-1] + (means - values)[1:]
    past = jnp.concatenate([jnp.zeros_like(values[:1]), jnp.cumsum(gains, axis=0)])
    return jnp.concatenate([values + past, (earned + past)[-1:]])


def stopping_potential(twist: LearnedTwist, paths: Paths, stop: int, floor: float) -> tuple[Float[Array, "S K"], Array]:
    r"""log of :math:`r_i / (q(\mathrm{end} \mid s_{1:i}) \prod_k q_k / p_0)` of every prefix, and where it still went on.

    The last row is the path cut at the length limit, where q(end) is one.

    Args:
        twist: the twist, one of symbols.
        paths: K paths of S steps, with the potentials of stopping.
        stop: the symbol that ends a sequence.
        floor: what a log potential counts for at least, nats.

    Returns:
        Float["S K"], nats, and Bool["S K"].

    With :math:`q(\mathrm{end}) = p_0(\mathrm{end}) \chi(\mathrm{end}) / C` the base law cancels:
    :math:`\log \phi(\mathrm{end}) - \log \chi_{i+1}(\mathrm{end}) + \log C_{i+1}
    + \sum_{k \le i} [\log \phi_k + \log C_k - \log \chi_k]`.
    """
    assert paths.log_stop is not None
    earned = jnp.maximum(paths.log_potential, floor)
    walked = jnp.cumsum(earned + paths.means(twist) - paths.values(twist), axis=0)
    ending = jnp.maximum(paths.log_stop, floor) - paths.values_of(twist, stop) + paths.means_after(twist)
    # At the limit a path ends whatever it drew: q(end) is one there, and so is its probability under the base law.
    ending = jnp.where((paths.t < paths.t[-1])[:, None], ending, 0.0)
    return walked + ending, jnp.cumprod(paths.x != stop, axis=0).astype(bool)


def _mean(errors) -> Scalar:  # noqa: ANN001
    terms = list(errors)
    return sum(terms, jnp.zeros(())) / len(terms)
