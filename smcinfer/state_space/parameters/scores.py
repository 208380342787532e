r"""The gradient of a log likelihood by a particle filter: Fisher's identity, along the particles' own paths.

.. math::
    \nabla \log p_\theta(y) = E[\nabla \log p_\theta(x_{0:T}, y_{0:T}) \mid y], \qquad
    -\nabla^2 \log p_\theta(y) = -E[\nabla^2 \log p_\theta(x, y) \mid y] - \mathrm{Var}[\nabla \log p_\theta(x, y) \mid y]

Every particle carries the sums of its path's gradients (and second derivatives), and resampling copies them with it. That is
what a differentiable filter with stopped gradients computes (Scibior & Wood 2021), without going backwards: :math:`\hat Z`
times the estimate is unbiased for :math:`\nabla p_\theta(y)`, and the ratio has a bias of order 1/N. Its variance grows with
the square of the length of a series, since paths coalesce.

Sources: Poyiadjis, Doucet & Singh (2011), algorithm 1; Louis (1982) for the second derivative.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from smcinfer.core.compose import Composed
from smcinfer.core.nouns import Process, Proposal
from smcinfer.core.settings import Settings
from smcinfer.ground.arrays import Array, Float, KeyArray, LogWeights, Particles, PyTree, Scalar, Time
from smcinfer.state_space.parameters.parametric import Parametric, Position, filter_to, log_z


class Scored(eqx.Module):
    """One particle with the sums of its path.

    Attributes:
        x: the state.
        slope: Float["dim"], of the gradients of its log density with the data.
        bend: Float["dim dim"], of the second derivatives; ``None`` where nobody asks.
    """

    x: PyTree[Any]
    slope: Float[Array, " dim"]
    bend: Float[Array, "dim dim"] | None


class ScoredProcess(Process):
    """A model's process whose state carries the sums along.

    Attributes:
        target: the model with unknown parameters.
        model: the model at the position.
        position: Float["dim"], where derivatives are taken.
        twice: whether second derivatives are summed too.
    """

    target: Parametric
    model: Composed
    position: Position
    twice: bool = eqx.field(static=True)

    def initial(self) -> Distribution | None:
        """The law of x_0, as the model has it."""
        return self.model.process.initial()

    def transition(self, t: Time, state: Scored) -> Distribution:
        """Law of x_t given the particle's last state."""
        return self.model.process.transition(t, state.x)

    def advance(self, t: Time, state: Scored | None, x: PyTree[Any]) -> Scored:
        """The particle at x_t, its sums with the derivatives of this step's densities added.

        Args:
            t: Int[""], the step.
            state: the particle before; ``None`` at t = 0.
            x: the state x_t that was drawn.
        """

        def terms(position: Position) -> Scalar:
            model = self.target.at(position)
            law: Any = model.process.initial() if state is None else model.process.transition(t, state.x)
            return jnp.sum(law.log_prob(x)) + model.potential(t, x)

        slope = jax.grad(terms)(self.position)
        bend = jax.hessian(terms)(self.position) if self.twice else None
        before = Scored(None, jnp.zeros_like(slope), jax.tree.map(jnp.zeros_like, bend)) if state is None else state
        return Scored(x, before.slope + slope, None if bend is None else before.bend + bend)


class OnX(Proposal):
    """A proposal of states, for particles that carry more than that."""

    inner: Proposal
    includes_potential: bool = eqx.field(static=True)

    def __call__(self, key: KeyArray, t: Time, state: Scored) -> tuple[PyTree[Any], Scalar]:
        """The inner proposal's draw and its log weight."""
        return self.inner(key, t, state.x)

    def look_ahead(self, t: Time, state: Scored) -> Scalar | None:
        """What the inner proposal knows before the draw."""
        return self.inner.look_ahead(t, state.x)

    def initial(self, key: KeyArray) -> tuple[PyTree[Any], Scalar] | None:
        """The inner proposal's draw of x_0."""
        return self.inner.initial(key)

    def propose(self, key: KeyArray, t: Time, states: Particles, size: int) -> tuple[Particles, LogWeights]:
        """The inner proposal's batched draws.

        Args:
            key: one random key.
            t: Int[""], the step.
            states: of particles, every leaf with a leading axis of ``size``.
            size: how many there are.
        """
        scored: Any = states
        return self.inner.propose(key, t, scored.x, size)


class Slopes(eqx.Module):
    """What one filter says of the log likelihood at a point.

    Attributes:
        log_z: log of the unbiased estimate of p(y), nats.
        score: Float["dim"], the gradient of log p(y).
        information: Float["dim dim"], minus its second derivative; ``None`` where nobody asks.
    """

    log_z: Scalar
    score: Float[Array, " dim"]
    information: Float[Array, "dim dim"] | None


def slopes(key: KeyArray, target: Parametric, position: Position, settings: Settings, *, twice: bool = False) -> Slopes:
    """The score at a point, by one filter.

    Args:
        key: one random key.
        target: made by `parametric`.
        position: Float["dim"], unconstrained.
        settings: of the filter.
        twice: whether to estimate the information too.
    """
    model = target.at(position)
    process = ScoredProcess(target, model, position, twice)
    on_x = lambda function: None if function is None else (lambda t, state: function(t, state.x))  # noqa: E731
    scored = Composed(
        process,
        lambda t, state: model.potential(t, state.x),
        on_x(model.twist),
        OnX(model.proposal, model.proposal.includes_potential),
        model.num_steps,
        on_x(model.ahead),
    )
    state = filter_to(key, scored, settings, jnp.asarray(model.num_steps, jnp.int32))
    particles: Any = state.population.particles
    weights = jnp.exp(state.population.log_weights[0])
    slope = particles.state.slope[0]
    score = weights @ slope
    if not twice:
        return Slopes(log_z(state), score, None)
    spread = slope - score
    bend = jnp.einsum("n,nij->ij", weights, particles.state.bend[0])
    return Slopes(log_z(state), score, -bend - jnp.einsum("n,ni,nj->ij", weights, spread, spread))
