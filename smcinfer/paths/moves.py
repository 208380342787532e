r"""How often a cloud moves: as many times as it takes to forget where it started.

The cloud measures its own mixing. After k moves the autocorrelation

.. math:: \rho_k = \max\bigl( \max_j\, \mathrm{corr}_i(x_j^{0,i}, x_j^{k,i}),
    \ \mathrm{corr}_i(\Phi^{0,i}, \Phi^{k,i}) \bigr)

over particles i compares where they are with where they were, in the slowest coordinate j (one minus it is half the
squared jump in units of the variance) and in the potential, which is what log Z is made of. The moves stop once it is small
(Kantas, Beskos & Jasra 2014, section 4.2), or at a cap, and then the run says so.

Where modes lie apart a coordinate is never forgotten: what is left is the mode. `Moves.within_modes` then looks at how the
autocorrelation falls. An exponential that has fallen to :math:`\rho_k = x^2` had x left after half the moves, so that
:math:`q = (\rho_{k/2} - \rho_k) / (1 - \rho_k) = x / (1 + x)`; the moves stop once :math:`(q / (1 - q))^2` is small, that is
once the fall has levelled off, wherever it ends. Whether moves were too few is then told by the potential alone: which mode a
particle is in, or where in it, may be remembered.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from smcinfer.core.feynman_kac import follow_leader
from smcinfer.ground import validate
from smcinfer.ground.arrays import Array, Float, Int, KeyArray, Particles, Scalar
from smcinfer.ground.errors import ArgumentError

Once = Callable[[KeyArray, Particles], tuple[Particles, dict[str, Scalar]]]
"""One move of all particles, and what it reports."""
Look = tuple[Callable[[Particles], Array], Callable[[Particles], Array | None]]
"""The potential of the particles, and the coordinates that a move must forget."""


class Moves(eqx.Module):
    """How often a move is repeated at each step of a path.

    Attributes:
        max_steps: the most moves.
        min_steps: the fewest.
        autocorrelation: stop once the autocorrelation with the start is below this; 0 takes ``max_steps`` always.
        within_modes: stop also once it has levelled off: each particle has then forgotten where in its mode it was.
    """

    max_steps: int = eqx.field(static=True, default=100)
    min_steps: int = eqx.field(static=True, default=1)
    autocorrelation: float = eqx.field(static=True, default=0.2)
    within_modes: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        validate.count("max_steps of the moves", self.max_steps)
        validate.count("min_steps of the moves", self.min_steps)
        if self.min_steps > self.max_steps:
            raise ArgumentError(
                "min_steps of the moves is out of range",
                expected=f"at most max_steps = {self.max_steps}",
                got=self.min_steps,
            )
        validate.number("autocorrelation", self.autocorrelation, at_least=0.0, below=1.0)
        validate.flag("within_modes", self.within_modes)

    @classmethod
    def exactly(cls, count: int) -> "Moves":
        """This many moves a step, whatever the cloud has forgotten."""
        return cls(count, count, 0.0)


class Repeated(eqx.Module):
    """What the moves of one step did: how many, what they reported together, and the autocorrelation that is left.

    `remembered` is the part of it that says whether the moves were too few.
    """

    num_steps: Int[Array, ""]
    report: dict[str, Scalar]
    autocorrelation: Scalar
    remembered: Scalar


def correlation(before: Float[Array, "n k"], after: Float[Array, "n k"]) -> Float[Array, " k"]:
    """Correlation over particles, a column at a time; a constant column counts as one (it did not move)."""
    a = before - jnp.mean(before, axis=0)
    b = after - jnp.mean(after, axis=0)
    scale = jnp.sqrt(jnp.mean(a**2, axis=0) * jnp.mean(b**2, axis=0))
    return jnp.where(scale > 0, jnp.mean(a * b, axis=0) / jnp.where(scale > 0, scale, 1.0), 1.0)


def autocorrelations(start: Particles, end: Particles, look: Look) -> Float[Array, " k"]:
    """How much a population still resembles where it started: rho of the module, of the potential and of each coordinate.

    Args:
        start, end: the particles before the moves and after, leading axis particles.
        look: the potential and the coordinates that are compared; particles of zero potential count for no correlation.
    """
    log_potential, coordinates = look
    before, after = log_potential(start), log_potential(end)
    finite = (before > -jnp.inf) & (after > -jnp.inf)
    before, after = (jnp.where(finite, value, 0.0)[:, None] for value in (before, after))
    # A potential that is the same everywhere, a constant likelihood or a threshold say, has nothing to forget.
    flat = jnp.max(before) == jnp.min(before)
    rho, first = jnp.where(flat, 0.0, correlation(before, after)), coordinates(start)
    if first is None:
        return rho
    last: Any = coordinates(end)
    return jnp.concatenate([rho, correlation(first, last).astype(rho.dtype)])


def levelled(half: Float[Array, " k"], now: Float[Array, " k"]) -> Float[Array, " k"]:
    """What an exponential would have left that fell as much since half the moves; see the module.

    Args:
        half: autocorrelations after half the moves.
        now: after all of them.
    """
    q = jnp.clip((half - now) / jnp.maximum(1.0 - now, 1e-6), 0.0, 0.5)
    return jnp.where(now < 1.0, (q / (1.0 - q)) ** 2, 1.0)


def rise_of_mean(before: Float[Array, " n"], after: Float[Array, " m"]) -> Scalar:
    r"""How much the mean potential rose by moves, in standard errors: what particles find that they had missed.

    .. math:: \frac{\bar\Phi^k - \bar\Phi^0}{s \sqrt{2 / n + 1 / m}}

    with s the standard deviation after the moves. Moves leave the law of the particles as it is, so it is of order one where
    the cloud had what it needed, and large where it goes on to find a region of large potential, the neck of a funnel say.

    Args:
        before: Float["n"], potential of resampled particles, some of them copies of one another, nats.
        after: Float["m"], potential after moves, nats; what is not finite counts in neither.
    """

    def moments(values: Array) -> tuple[Array, Array]:
        there = jnp.isfinite(values)
        mean = jnp.mean(values, where=there)
        return mean, jnp.mean(jnp.where(there, values - mean, 0.0) ** 2, where=there)

    (first, _), (last, variance) = moments(before), moments(after)
    error = jnp.sqrt(variance * (2 / before.shape[0] + 1 / after.shape[0]))
    return jnp.where(error > 0, (last - first) / jnp.where(error > 0, error, 1.0), 0.0)


def repeat(
    key: KeyArray,
    particles: Particles,
    once: Once,
    look: Look,
    moves: Moves,
    blank: dict[str, Scalar],
    *,
    led: bool,
    wanted: Array | bool = True,
) -> tuple[Particles, Repeated]:
    """Move all particles until they have forgotten their start, or the cap.

    Args:
        key: one key.
        particles: leading axis of particles, equally weighted.
        once: one move.
        look: what must be forgotten.
        moves: the stopping rule.
        blank: a zero for everything that a move reports.
        led: whether to stop when the leader's particles have forgotten theirs, and not one's own.
        wanted: where false, take none; the loop then costs nothing.

    Returns:
        The moved particles and what was done.
    """
    start = particles
    one = jnp.ones((), jnp.result_type(float))
    kinds = jax.eval_shape(lambda: autocorrelations(start, start, look)).shape
    past = jnp.ones((moves.max_steps + 1, *kinds) if moves.within_modes else (0,), one.dtype)

    def unfinished(carry: tuple[Any, ...]) -> Array:
        step, rho = carry[0], carry[4]
        more = (step < moves.min_steps) | (rho > moves.autocorrelation) | (moves.autocorrelation == 0)
        return wanted & (step < moves.max_steps) & more

    def again(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, particles, sums, past = *carry[:3], carry[6]
        particles, report = once(jax.random.fold_in(key, step), particles)
        each = autocorrelations(start, particles, look).astype(one.dtype)
        if moves.within_modes:
            half = past[(step + 1) // 2]
            past = past.at[step + 1].set(each)
            each = jnp.where(step % 2 == 1, jnp.minimum(each, levelled(half, each)), each)
        own = jnp.max(each)
        judged = each[0] if moves.within_modes else own
        sums = jax.tree.map(jnp.add, sums, report)
        return step + 1, particles, sums, own, follow_leader(own) if led else own, judged, past

    carry = (jnp.zeros((), jnp.int32), particles, blank, one, one, one, past)
    step, particles, sums, rho, _, judged, _ = jax.lax.while_loop(unfinished, again, carry)
    taken = step > 0
    means = {name: jnp.where(taken, total / jnp.maximum(step, 1), jnp.nan) for name, total in sums.items()}
    report = {name: sums[name] if name.startswith("num_") else means[name] for name in sums}
    rho, judged = (jnp.where(taken, value, jnp.nan) for value in (rho, judged))
    return particles, Repeated(step, report, rho, judged)


def chain(key: KeyArray, particles: Particles, once: Once, look: Look, length: int) -> tuple[Particles, Repeated]:
    """Chains of ``length`` states from each particle, every state kept (waste-free).

    Args:
        key: one key.
        particles: M starting states; they are the first states of their chains.
        once: one move.
        look: as in `repeat`.
        length: P, states a chain; P - 1 moves.

    Returns:
        M * P states, a chain's states side by side, and a report whose autocorrelation is that of the chains' *means*:
        the share of the potential's variance that averaging over a chain does not remove, against 1/P for independent
        states.
    """

    def again(particles: Particles, index: Array) -> tuple[Particles, Any]:
        particles, report = once(jax.random.fold_in(key, index), particles)
        return particles, (particles, report)

    _, (later, reports) = jax.lax.scan(again, particles, jnp.arange(length - 1))
    joined = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), particles, later)
    flat = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:]), joined)
    values = jax.vmap(look[0])(joined)
    values = jnp.where(values > -jnp.inf, values, 0.0)
    spread = jnp.var(values)
    share = jnp.where(spread > 0, jnp.var(jnp.mean(values, axis=0)) / jnp.where(spread > 0, spread, 1.0), 0.0)
    report = {name: (jnp.sum if name.startswith("num_") else jnp.mean)(each) for name, each in reports.items()}
    share = share.astype(jnp.result_type(float))
    return flat, Repeated(jnp.asarray(length - 1, jnp.int32), report, share, share)
