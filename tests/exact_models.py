"""Feynman-Kac models whose normaliser is known, for tests of the driver."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp

from smcinfer.core.compose import Bootstrap, Composed, Guided, Process, Proposal, compose, process
from smcinfer.models import finite_hmm
from smcinfer.models.linear_gaussian import linear_gaussian as exact_linear_gaussian

NUM_STATES = 3
OBSERVATIONS = np.array([0, 1, 1, 2, 0, 2], dtype=np.int32)
INITIAL = np.array([0.5, 0.3, 0.2])
TRANSITION = np.array([[0.7, 0.2, 0.1], [0.15, 0.6, 0.25], [0.3, 0.1, 0.6]])
# One emission probability is zero, so that particles die.
EMISSION = np.array([[0.8, 0.2, 0.0], [0.1, 0.7, 0.2], [0.25, 0.25, 0.5]])


class Chain(Process):
    """A finite hidden Markov chain."""

    def initial(self) -> dist.Distribution:
        """Law of the first symbol."""
        return dist.Categorical(probs=jnp.asarray(INITIAL))

    def transition(self, t, state) -> dist.Distribution:  # noqa: ANN001
        """Law of the next symbol."""
        return dist.Categorical(logits=jnp.log(jnp.asarray(TRANSITION)[state]))


def emission(t, state):  # noqa: ANN001, ANN201
    """Log probability of the observation at t."""
    return jnp.log(jnp.asarray(EMISSION)[state, jnp.asarray(OBSERVATIONS)[t]])


class Weighted(Proposal):
    """A proposal that draws from a fixed law and accounts for the potential itself."""

    includes_potential: bool = True

    def __call__(self, key, t, state):  # noqa: ANN001, ANN204
        """A draw of the uniform law with the weight of transition and potential."""
        x = jax.random.randint(key, (), 0, NUM_STATES)
        return x, jnp.log(jnp.asarray(TRANSITION)[state, x]) + emission(t, x) + jnp.log(NUM_STATES)


def chain() -> finite_hmm.FiniteHMM:
    """The same chain with its exact answers."""
    return finite_hmm.finite_hmm(INITIAL, TRANSITION, EMISSION)


def hmm_log_z() -> float:
    """Exact log normaliser."""
    return chain().posterior(OBSERVATIONS).log_z


def hmm(kind: str) -> Composed:
    """The chain under a named way of twisting and proposing."""
    hidden, steps = Chain(), len(OBSERVATIONS) - 1
    guide = dist.Categorical(probs=jnp.full(NUM_STATES, 1.0 / NUM_STATES))
    match kind:
        case "bootstrap":
            return compose(hidden, emission, num_steps=steps)
        case "guided":
            return compose(hidden, emission, proposal=Guided(hidden, lambda t, state: guide, guide), num_steps=steps)
        case "weighted":
            return compose(hidden, emission, proposal=Weighted(), num_steps=steps)
        case "auxiliary":
            ahead = lambda t, state: 0.7 * logsumexp(jnp.log(jnp.asarray(TRANSITION)[state]) + 0.1 * jnp.arange(3.0))  # noqa: E731
            return compose(hidden, emission, look_ahead=ahead, num_steps=steps)
        case "twisted":
            twist = chain().twist(OBSERVATIONS, 0.5)
            return compose(hidden, emission, twist, num_steps=steps)
        case "twisted_weights":
            return compose(hidden, emission, chain().twist(OBSERVATIONS, 0.8), Bootstrap(hidden), num_steps=steps)
        case "exact_twist":
            twist = chain().twist(OBSERVATIONS)
            return compose(hidden, emission, twist, num_steps=steps)
    raise ValueError(kind)


KINDS = ("bootstrap", "guided", "weighted", "auxiliary", "twisted", "twisted_weights")


def linear_gaussian(num_steps: int = 20) -> tuple[Composed, float]:
    """A scalar linear Gaussian model and its exact log likelihood by the Kalman filter."""
    a, q, r = 0.9, 0.4, 0.6
    data = np.sin(np.arange(num_steps + 1) / 3.0) + 0.3 * np.cos(np.arange(num_steps + 1) * 1.7)
    exact = exact_linear_gaussian([0.0], [[1.0]], [[a]], [[q * q]], [[1.0]], [r * r]).posterior(data[:, None])
    observed = jnp.asarray(data)
    model = compose(
        process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(a * x, q)),
        lambda t, x: dist.Normal(x, r).log_prob(observed[t]),
        num_steps=num_steps,
    )
    return model, exact.log_z
