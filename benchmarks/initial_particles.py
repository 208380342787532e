"""Where to start from: initial particles on digits at equal evaluations, judged by a reward that nobody optimised.

    python -m benchmarks.initial_particles [--quick]

A reverse diffusion is aligned to a digit halfway between two, by the reward ``(log p(3) + log p(8)) / 2`` of one
classifier. The judge is the same reward of another classifier, trained on other images. Every row spends as many
evaluations a particle: starts on tries and chains before the path, plain noise on more steps or on more particles. An
evaluation with its gradient counts once, as usually published; one row counts it three times. The model is the
straightened flow, whose word on pure noise is already an image: the look-ahead has its full strength from the start.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from benchmarks.timing import parse_quick, print_json
from smcinfer import diffusion
from smcinfer.diffusion import initial
from smcinfer.models import digits
from smcinfer.results.finished import Run
from smcinfer.run.runner import run

PAIR = (3, 8)
STEPS, START_COST = 10, 20
TEMPERATURE = 0.5
ETAS = {"remembers its noise": 0.1, "forgets it": 0.5}
SEED = 1


class Row(NamedTuple):
    """One start: the target, and how many particles it may have."""

    target: diffusion.Alignment
    num_particles: int


class Outcome(NamedTuple):
    """One number a run of each: weighted means of rewards, mean distance of two, founders left, log Z; seconds."""

    reward: np.ndarray
    judged: np.ndarray
    distance: np.ndarray
    roots: np.ndarray
    log_z: np.ndarray
    seconds: float


def halfway(classifier: digits.Classifier) -> Callable[[jax.Array], jax.Array]:
    """The reward of an image that could be either of the pair, nats."""

    def reward(x: jax.Array) -> jax.Array:
        log_p = classifier(x)
        return 0.5 * (log_p[PAIR[0]] + log_p[PAIR[1]])

    return reward


def rows(num_particles: int, eta: float, *, every: bool) -> dict[str, Callable[[], Row]]:
    """The starts to compare, on a path of ``DDIM(eta)``."""
    found = digits.load()

    def aligned(num_steps: int = STEPS, strength: float | None = 1.0) -> diffusion.Alignment:
        kernel, reward = diffusion.DDIM(eta), halfway(found.reward)
        made = diffusion.alignment(
            found.straight, reward, TEMPERATURE, num_steps=num_steps, kernel=kernel, strength=strength
        )
        assert isinstance(made, diffusion.Alignment)
        return made

    path = aligned()
    draws = steps = START_COST // 2
    key = jax.random.key(7)

    def chain(kernel: str, num_steps: int = steps, num_tries: int = draws, **how: bool) -> Callable[[], Row]:
        chains = functools.partial(initial.chains, key, path, kernel, num_steps=num_steps, num_tries=num_tries, **how)
        return lambda: Row(chains(), num_particles)

    ratio = 1 + START_COST // STEPS
    made = {
        "noise, more steps": lambda: Row(aligned(ratio * STEPS), num_particles),
        "noise, more particles": lambda: Row(path, ratio * num_particles),
        "best of 20": lambda: Row(initial.best_of(path, 2 * draws), num_particles),
        "tries, then ula": chain("ula"),
        "tries, then mala": chain("mala"),
        "tries, then pcn": chain("pcn"),
        "tries, then pcnl": chain("pcnl"),
    }
    if every:
        annealed = functools.partial(initial.annealed_chains, key, path, num_steps=2 * steps - 1)
        made |= {
            "noise, more steps, trust with signal": lambda: Row(aligned(ratio * STEPS, None), num_particles),
            "one of 20, weighted": lambda: Row(initial.selected(path, 2 * draws), num_particles),
            "pcnl, as published": chain("pcnl", 2 * steps - 1, 1, pooled=False, converged=True),
            "tries, then pcnl, gradients at three": chain("pcnl", max(steps // 3, 1)),
            "own tries, then pcnl": chain("pcnl", pooled=False),
            "annealed pcnl": lambda: Row(annealed(), num_particles),
        }
    return made


def cost(row: Row, num_particles: int) -> float:
    """Evaluations for one particle of the table's size, a gradient's not counted apart."""
    start = getattr(row.target.proposal, "start", None)
    before = 0 if start is None else start.num_evaluations
    return (row.target.num_evaluations + before) * row.num_particles / num_particles


@jax.jit
def _figures(
    x: jax.Array, log_weights: jax.Array, classifier: digits.Classifier, other: digits.Classifier
) -> tuple[jax.Array, ...]:
    weights = jnp.exp(log_weights)
    reward, judge = halfway(classifier), halfway(other)

    def one(x: jax.Array, w: jax.Array) -> tuple[jax.Array, ...]:
        squares = jnp.sum(x**2, axis=1)
        gaps = jnp.sqrt(jnp.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0))
        return w @ jax.vmap(reward)(x), w @ jax.vmap(judge)(x), w @ gaps @ w

    return jax.vmap(one)(x, weights)


def outcome(row: Row, num_runs: int) -> Outcome:
    """Independent runs of one row."""
    done: Run = run(jax.random.key(SEED), row.target, row.num_particles, num_runs=num_runs)
    found = digits.load()
    particles: Any = done.particles
    figures = _figures(particles.state.x, done.log_weights, found.reward, found.judge)
    return Outcome(
        *(np.asarray(value, np.float64) for value in figures),
        np.asarray(done.num_roots),
        np.asarray(done.log_z, np.float64),
        done.seconds - done.compile_seconds,
    )


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over runs and half the width of its 95% interval."""
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def table(name: str, num_particles: int, num_runs: int, *, every: bool) -> dict[str, dict[str, float]]:
    """Run and print one table, of an entry of `ETAS`; its figures by row."""
    print(f"\na path that {name}: {num_particles} particles, {num_runs} runs, means with half of a 95% interval")
    heads = ("reward", 16), ("judged", 16), ("distance", 14), ("founders", 8), ("sd log Z", 8), ("s", 6)
    print(f"{'start':36s} {'cost':>5s} " + " ".join(f"{head:>{width}s}" for head, width in heads))
    found = {}
    for start, make in rows(num_particles, ETAS[name], every=every).items():
        row = make()
        got = outcome(row, num_runs)
        (reward, dr), (judged, dj), (distance, dd) = map(interval, (got.reward, got.judged, got.distance))
        spent = cost(row, num_particles)
        print(
            f"{start:36s} {spent:5.0f} {reward:8.3f} ± {dr:5.3f} {judged:8.3f} ± {dj:5.3f} "
            f"{distance:6.2f} ± {dd:5.2f} {got.roots.mean():8.1f} {got.log_z.std(ddof=1):8.2f} {got.seconds:6.2f}",
            flush=True,
        )
        found[start] = {
            "evaluations": spent,
            "reward": reward,
            "reward_half_width": dr,
            "judged": judged,
            "judged_half_width": dj,
            "distance": distance,
            "distance_half_width": dd,
            "founders": float(got.roots.mean()),
            "log_z_sd": float(got.log_z.std(ddof=1)),
            "seconds": got.seconds,
        }
    return found


def main() -> None:
    """Measure and print."""
    quick = parse_quick(__doc__ or "")
    figures: dict[str, Any] = {}
    for name in list(ETAS)[: 1 if quick else 2]:
        found = table(name, 64, 10 if quick else 20, every=not quick)
        plain = max(row["judged"] for start, row in found.items() if start.startswith("noise"))
        figures[name] = {"judged_pcnl_minus_plain": found["tries, then pcnl"]["judged"] - plain} | found
    print_json(figures)


if __name__ == "__main__":
    main()
