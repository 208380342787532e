"""What an objective is: a loss of a twist on the paths of one sample."""

import abc
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.compose import Composed
from smcinfer.ground.arrays import Array, Float, KeyArray, Scalar
from smcinfer.twists.learned import LearnedTwist, attach
from smcinfer.twists.paths import Cloud, Paths, replay, watch


class Sample:
    """Paths drawn with a twist as it is now, each kind made when it is first asked for.

    Args:
        key: of all draws.
        model: the target, without a twist.
        twist: the twist, its parameters held fixed.
        num_particles: of each run.
        resample_below: of runs with the twist.
        exact_draws: ``key -> paths``, exact draws of the target, leaves ``(K, S, ...)``; or ``None``.
        stop: as in `smcinfer.twists.paths.Watched`.
        prepared: what `Objective.prepare` drew before the first step, or ``None``.

    Attributes:
        key: one more key, for the objective's own choices.
        prepared: as given.
    """

    def __init__(
        self,
        key: KeyArray,
        model: Composed,
        twist: LearnedTwist,
        num_particles: int,
        resample_below: float,
        exact_draws: Callable[[Any], Any] | None,
        stop: int | None,
        prepared: Any = None,
    ) -> None:
        self._keys = jax.random.split(key, 3)
        self.key, self.prepared = jax.random.fold_in(key, 3), prepared
        self._model = model
        self._twist = jax.lax.stop_gradient(eqx.filter(twist, eqx.is_array))
        self._twist = eqx.combine(self._twist, eqx.filter(twist, eqx.is_array, inverse=True))
        self._size, self._below, self._draws, self._stop = num_particles, resample_below, exact_draws, stop

    @functools.cached_property
    def twisted(self) -> Cloud:
        """A run with the twist and its proposal."""
        model = attach(self._model, self._twist)
        return watch(self._keys[0], model, self._twist, self._size, resample_below=self._below, stop=self._stop)

    @functools.cached_property
    def base(self) -> Cloud:
        """Paths of the base law, weighted by the potentials so far, none resampled."""
        model = attach(self._model, None)
        return watch(self._keys[1], model, self._twist, self._size, resample_below=0.0)

    @functools.cached_property
    def exact(self) -> Paths | None:
        """Exact draws of the target, where they can be had."""
        if self._draws is None:
            return None
        return replay(self._model, self._twist, self._draws(self._keys[2]), stop=self._stop)

    @functools.cached_property
    def target(self) -> Paths:
        """Paths weighted for the target: exact draws, or else the lines of the run with the twist."""
        return self.twisted.lines() if self.exact is None else self.exact

    @functools.cached_property
    def visited(self) -> list[Paths]:
        """Whole paths on which something that holds everywhere may be asked for: lines, and exact draws if any."""
        lines = self.twisted.lines()
        return [lines] if self.exact is None else [lines, self.exact]


class Objective(eqx.Module):
    """A loss of a twist on a sample; immutable, its settings fixed when it is compiled."""

    @property
    def needs_bounded(self) -> bool:
        """Whether it learns probabilities: a twist that is at most one, for potentials that are."""
        return False

    @property
    def learns_values(self) -> bool:
        """Whether log chi_t is learned, and not only the proposal that it induces: log C_t is of use to resampling then."""
        return True

    @property
    def stop_symbol(self) -> int | None:
        """The symbol whose potential, were it the next, it asks for; ``None`` for none."""
        return None

    def prepare(self, key: KeyArray, model: Composed, twist: LearnedTwist) -> Any:
        """What is drawn once, before the first step, and handed to all of them (`Sample.prepared`); by default nothing.

        Args:
            key: one random key.
            model: the target, without a twist.
            twist: as it starts; what it sees of a state (`LearnedTwist.look`) must not change with its arrays.

        Returns:
            A pytree of arrays, or ``None``.
        """
        del key, model, twist
        return None

    @abc.abstractmethod
    def __call__(self, twist: LearnedTwist, sample: Sample) -> Scalar:
        """The loss, a mean over steps; differentiable in the twist's arrays alone."""


def weighted(log_weights: Float[Array, "S K"], values: Float[Array, "S K"]) -> Scalar:
    """Weighted mean over particles, mean over steps; what has weight zero counts for nothing."""
    weights = jnp.exp(log_weights)
    return jnp.mean(jnp.sum(jnp.where(weights > 0, weights * values, 0.0), axis=1))
