"""Whether a transition has a density that looks back: smoothing by it is silently wrong where it has none.

Where part of the state is a function of the state before, p(x_t | x_{t-1}) is a point mass, and only the particle's own
parent can have led there. Asking a density for it means comparing floats that two programs computed, which misses parents by
a rounding. Such a model is refused by its laws before any work; a transition that is degenerate in its numbers (a scale of
zero) shows after the filter, when a particle cannot be reached from the parent that it came from.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from smcinfer.core.compose import Composed
from smcinfer.ground.arrays import Array, Bool, Float, Int, PyTree
from smcinfer.ground.errors import TargetError
from smcinfer.ground.names import leaves_by_name
from smcinfer.ground.programs import compiled
from smcinfer.state_space.joint import Joint, is_law
from smcinfer.state_space.smoothing.backward import reach

WAYS_OUT = (
    'method="genealogy" or "fixed_lag", which follow particles to their parents and ask no density; or make the noise that '
    "drives the model its state, and compute the rest in the observation"
)


FEW = 1e-4
"""Share of particles that may lie a rounding outside the support of a bounded transition."""


def refuse_point_masses(model: Composed) -> None:
    """Raise `TargetError` where a transition draws part of the state from a point mass (`numpyro.distributions.Delta`).

    Args:
        model: a composed model whose state is x itself.
    """
    found: list[str] = []

    def look(key: Array) -> Array:
        particles: Any = model.init(key, 1).particles
        state = jax.tree.map(lambda leaf: leaf[0], particles.state)
        law = model.process.transition(jnp.ones((), jnp.int32), state)
        laws = leaves_by_name(law.laws, is_law) if isinstance(law, Joint) else {"x": law}
        found.extend(name for name, part in laws.items() if _holds_point_mass(part))
        return jnp.zeros(())

    jax.eval_shape(look, jax.random.key(0))
    if found:
        raise TargetError(
            f"the transition has no density: {', '.join(map(repr, found))} of the state follows from the state before",
            expected="a transition that draws every part of the state from a law with a density",
            got="dist.Delta",
            hint=WAYS_OUT,
        )


def _holds_point_mass(law: Any) -> bool:
    """Whether a Delta is anywhere inside: reshaped, transformed, or a part of a mixture."""
    parts = jax.tree.leaves(law, is_leaf=lambda part: isinstance(part, dist.Delta))
    return any(isinstance(part, dist.Delta) for part in parts)


@compiled
def orphans(
    model: Composed,
    particles: Any,
    log_weights: Float[Array, "runs steps n"],
    ancestors: Int[Array, "runs steps n"],
) -> Int[Array, ""]:
    """How many particles of positive weight their own parents cannot have led to, by the transition's density.

    Args:
        model: a composed model whose state is x itself.
        particles: what the history recorded, every leaf ``(R, T+1, n, ...)``.
        log_weights: Float["R T+1 n"], nats.
        ancestors: Int["R T+1 n"]; entry [r, t, i] is the particle of t - 1 that particle i of t came from.
    """

    def of_run(part: tuple[PyTree[Any], Array, Array]) -> Array:
        states, log_w, parents = part

        def of_step(at: tuple[Array, PyTree[Any], PyTree[Any], Array, Array]) -> Bool[Array, " n"]:
            t, before, now, weights, chosen = at
            parent = jax.tree.map(lambda leaf: leaf[chosen], before)
            one = lambda x, state: reach(model, t, jax.tree.map(lambda leaf: leaf[None], state), x)[0]  # noqa: E731
            return (weights > -jnp.inf) & ~jnp.isfinite(jax.vmap(one)(now, parent))

        before = jax.tree.map(lambda leaf: leaf[:-1], states)
        now = jax.tree.map(lambda leaf: leaf[1:], states)
        steps = jnp.arange(1, log_w.shape[0])
        return jnp.sum(jax.lax.map(of_step, (steps, before, now, log_w[1:], parents[1:])))

    return jnp.sum(jax.lax.map(of_run, (particles.state, log_weights, ancestors)))


def refuse_orphans(model: Composed, history: dict[str, Any]) -> None:
    """Raise `TargetError` where the filter's own moves are impossible by the transition's density.

    Args:
        model: a composed model whose state is x itself.
        history: of its filter, at level ``"full"``.
    """
    parts = (history["particles"], history["log_weights"], history["ancestors"])
    count = int(orphans(model, *jax.tree.map(jnp.asarray, parts)))
    if count > FEW * parts[1].size:
        raise TargetError(
            "the transition's density misses the filter's own moves: it is degenerate, or rounds to zero",
            expected="a finite log density of every particle from the parent that it was drawn from",
            got=f"{count} of {parts[1].size} particles that their parents cannot have led to",
            hint=WAYS_OUT,
        )
