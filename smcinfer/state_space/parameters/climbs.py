"""Ways to the parameters that make data likeliest: each a number of passes through the data, one filter a pass."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from smcinfer.core.feynman_kac import FeynmanKac, Mutation, Population
from smcinfer.core.resampling import by_name
from smcinfer.core.settings import Settings
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Flag, Float, Int, KeyArray, PyTree, Scalar
from smcinfer.state_space.parameters.parametric import Parametric, Position, filter_to, log_z
from smcinfer.state_space.parameters.scores import slopes

Steps = tuple[Float[Array, "steps dim"], Float[Array, " steps"]]
"""Positions and log likelihood estimates of all passes."""


class Climb(eqx.Module):
    """A way to the likeliest parameters."""

    name: ClassVar[str]

    @abc.abstractmethod
    def steps(self, key: KeyArray, target: Parametric, settings: Settings, start: Position, num_steps: int) -> Steps:
        """All passes.

        Args:
            key: one random key.
            target: made by `parametric`.
            settings: of the filters.
            start: unconstrained parameters.
            num_steps: passes.
        """


class Score(Climb):
    r"""Steps along the score of a particle filter, those of Adam, which shrink to nothing by a cosine.

    .. math:: \theta_{k+1} = \theta_k + a_k\, \widehat{\nabla \log p_{\theta_k}(y)}

    The laws of the model must have densities that can be differentiated by the parameters.

    Attributes:
        learning_rate: the first step, on the unconstrained scale.

    Source: Poyiadjis, Doucet & Singh (2011); Scibior & Wood (2021).
    """

    learning_rate: float = eqx.field(static=True, default=0.1)

    name = "score"

    def __check_init__(self) -> None:
        validate.number("learning_rate", self.learning_rate, above=0.0)

    def steps(self, key: KeyArray, target: Parametric, settings: Settings, start: Position, num_steps: int) -> Steps:
        """A filter with its score a step."""
        adam = optax.scale_by_adam()

        def once(carry: tuple[Position, Any], step: Array) -> tuple[tuple[Position, Any], tuple[Position, Array]]:
            position, moments = carry
            found = slopes(jax.random.fold_in(key, step), target, position, settings)
            # A filter that died, or a density that is no number there, says nothing of where to go.
            score = jnp.where(jnp.isfinite(found.score), found.score, 0.0)
            way: Any
            way, moments = adam.update(score, moments)
            assert isinstance(way, jax.Array)
            length = self.learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * step / num_steps))
            moved = position + length * way
            return (moved, moments), (moved, found.log_z)

        return jax.lax.scan(once, (start, adam.init(start)), jnp.arange(num_steps))[1]


class IteratedFiltering(Climb):
    r"""Filters whose particles bring parameters of their own, which walk a little at every step, ever less from pass to pass.

    .. math:: \theta_t^i = \theta_{t-1}^i + \sigma_m \epsilon_t^i, \qquad x_t^i \sim f_{\theta_t^i}(\cdot \mid x_{t-1}^i)

    Nothing is differentiated, and nothing but draws is asked of the transition. The swarm that survives a pass begins the next.

    Attributes:
        perturbation: sigma of the first pass, on the unconstrained scale.
        cooling: sigma of the last pass over that of the first.

    Source: Ionides, Nguyen, Atchade, Stoev & King (2015).
    """

    perturbation: float = eqx.field(static=True, default=0.1)
    cooling: float = eqx.field(static=True, default=0.01)

    name = "iterated_filtering"

    def __check_init__(self) -> None:
        validate.number("perturbation", self.perturbation, above=0.0)
        validate.number("cooling", self.cooling, above=0.0, below=1.0)

    def steps(self, key: KeyArray, target: Parametric, settings: Settings, start: Position, num_steps: int) -> Steps:
        """The mean of the swarm after each pass."""
        last = jnp.asarray(target.num_steps, jnp.int32)

        def once(swarm: Array, step: Array) -> tuple[Array, tuple[Position, Array]]:
            filter_key, choose_key = jax.random.split(jax.random.fold_in(key, step))
            sigma = self.perturbation * self.cooling ** (step / max(num_steps - 1, 1))
            state = filter_to(filter_key, _Perturbed(target, swarm, sigma, target.num_steps), settings, last)
            particles, log_weights = (
                jax.tree.map(lambda leaf: leaf[0], state.population.particles),
                state.population.log_weights[0],
            )
            swarm = particles.position[by_name("systematic")(choose_key, log_weights, log_weights.shape[0])]
            return swarm, (jnp.exp(log_weights) @ particles.position, log_z(state))

        swarm = jnp.broadcast_to(start, (settings.num_particles, *start.shape))
        return jax.lax.scan(once, swarm, jnp.arange(num_steps))[1]


class _Placed(eqx.Module):
    """A state with the parameters that it was drawn by, or many with theirs."""

    position: Float[Array, "*n dim"]
    x: PyTree[Any]


class _Perturbed(FeynmanKac):
    """A filter whose particles bring parameters that walk."""

    target: Parametric
    swarm: Float[Array, "n dim"]
    sigma: Scalar
    num_steps: int = eqx.field(static=True)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """The swarm, a step on, each with a draw of its own x_0."""
        begin = lambda key, position: self._model(position).process.initial().sample(key)  # noqa: E731
        return self._moved(key, jnp.zeros((), jnp.int32), self.swarm, begin)

    def mutate(self, key: KeyArray, t: Int[Array, ""], particles: Any, shared: Any, resampled: Flag) -> Mutation:
        """Parameters a step on, and each state moved by its own."""
        del shared, resampled
        move = lambda key, position, x: self._model(position).process.transition(t, x).sample(key)  # noqa: E731
        return self._moved(key, t, particles.position, move, particles.x)

    def _moved(
        self, key: KeyArray, t: Int[Array, ""], positions: Array, draw: Callable[..., Any], *states: Any
    ) -> Mutation:
        walk_key, draw_key = jax.random.split(key)
        positions = positions + self.sigma * jax.random.normal(walk_key, positions.shape, positions.dtype)
        x = jax.vmap(draw)(jax.random.split(draw_key, positions.shape[0]), positions, *states)
        return Mutation(_Placed(positions, x), jax.vmap(lambda at, x: self._model(at).potential(t, x))(positions, x))

    def _model(self, position: Position) -> Any:
        return self.target.at(position)


class OnlineEM(Climb):
    r"""Expectation maximisation with an M-step at every observation, by statistics that particles carry along their paths.

    .. math::
        S_n^i = (1 - \gamma_n) S_{n-1}^{a_i} + \gamma_n\, s(x_{t-1}, x_t, y_t), \qquad
        \theta_n = \arg\max_\theta\, \ell\Bigl(\theta; \sum_i W_n^i S_n^i\Bigr), \qquad \gamma_n = n^{-\kappa}

    For models whose complete data have a law of exponential family in the parameters: the best parameters of states and data
    together depend on averages of s alone. A long series needs one pass; a short one is gone through again and again.

    Attributes:
        statistics: ``(t, x_before, x, y) -> tree of Float``, s of one step, t = 1 .. T.
        maximise: ``averages of s -> theta``, as ``build`` takes it.
        decay: kappa, above 1/2 and at most 1.
        wait: steps before the first M-step.

    Source: Cappe (2011), section 4, in path space.
    """

    statistics: Callable[..., Any] = eqx.field(static=True)
    maximise: Callable[[Any], Any] = eqx.field(static=True)
    decay: float = eqx.field(static=True, default=0.7)
    wait: int = eqx.field(static=True, default=20)

    name = "online_em"

    def __check_init__(self) -> None:
        validate.number("decay", self.decay, above=0.5, at_most=1.0)
        validate.count("wait", self.wait)

    def steps(self, key: KeyArray, target: Parametric, settings: Settings, start: Position, num_steps: int) -> Steps:
        """The parameters at the end of each pass."""
        last = jnp.asarray(target.num_steps, jnp.int32)

        def once(
            carry: tuple[Position, Any, Array], step: Array
        ) -> tuple[tuple[Position, Any, Array], tuple[Position, Array]]:
            model = _Averaging(target, self, *carry, target.num_steps)
            state = filter_to(jax.random.fold_in(key, step), model, settings, last)
            population = jax.tree.map(lambda leaf: leaf[0], state.population)
            averages, position = _mean(population), model.adapt(last + 1, population, state.shared[0])
            return (position, averages, carry[2] + last), (position, log_z(state))

        one = target.at(start)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda: self._seen(one)))
        return jax.lax.scan(once, (start, nothing, jnp.zeros((), jnp.int32)), jnp.arange(num_steps))[1]

    def _seen(self, model: Any) -> PyTree[Any]:
        x = model.process.initial().sample(jax.random.key(0))
        return self.of(jnp.ones((), jnp.int32), x, x, model)

    def of(self, t: Int[Array, ""], before: PyTree[Any], x: PyTree[Any], model: Any) -> PyTree[Any]:
        """The statistics of one step, as floats."""
        found = self.statistics(t, before, x, model.observations.at(t))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), found)


class _Carrying(eqx.Module):
    """A state with the averages of the statistics along its path."""

    x: PyTree[Any]
    averages: PyTree[Any]


class _Averaging(FeynmanKac):
    """A filter at parameters that follow from the averages so far."""

    target: Parametric
    em: OnlineEM = eqx.field(static=True)
    start: Position
    kept: PyTree[Any]
    count: Int[Array, ""]
    num_steps: int = eqx.field(static=True)

    def init(self, key: KeyArray, num_particles: int) -> Mutation:
        """Draws of x_0, with the averages that the passes before have left."""
        model: Any = self.target.at(self.start)
        x = jax.vmap(model.process.initial().sample)(jax.random.split(key, num_particles))
        kept = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_particles, *leaf.shape)), self.kept)
        zero = jnp.zeros((), jnp.int32)
        return Mutation(_Carrying(x, kept), jax.vmap(lambda x: model.potential(zero, x))(x), self.start)

    def adapt(self, t: Int[Array, ""], population: Population, shared: Position) -> Position:
        """The M-step; where it makes no number, parameters stay."""
        theta, prior = self.em.maximise(_mean(population)), self.target.prior
        found = prior.unconstrain(prior.named(theta)).astype(shared.dtype)
        return jnp.where((self.count + t > self.em.wait) & jnp.all(jnp.isfinite(found)), found, shared)

    def mutate(self, key: KeyArray, t: Int[Array, ""], particles: Any, shared: Position, resampled: Flag) -> Mutation:
        """States moved, and the averages of each path with the statistics of this step."""
        del resampled
        model: Any = self.target.at(shared)
        keys = jax.random.split(key, jax.tree.leaves(particles.x)[0].shape[0])
        x = jax.vmap(lambda key, x: model.process.transition(t, x).sample(key))(keys, particles.x)
        new = jax.vmap(lambda before, x: self.em.of(t, before, x, model))(particles.x, x)
        rate = ((self.count + t) * 1.0) ** -self.em.decay
        averages = jax.tree.map(lambda old, new: old + rate * (new - old), particles.averages, new)
        return Mutation(_Carrying(x, averages), jax.vmap(lambda x: model.potential(t, x))(x), shared)


def _mean(population: Population) -> PyTree[Any]:
    particles: Any = population.particles
    weights = jnp.exp(population.log_weights)
    return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1), particles.averages)


CLIMBS: dict[str, type[Climb]] = {"score": Score, "iterated_filtering": IteratedFiltering}
"""Ways that need nothing but their name."""
