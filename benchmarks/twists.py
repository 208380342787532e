"""What learned twists save: variance on state-space models at equal time, and the gap between bounds in infilling.

Infilling: a prompt, fifteen free tokens, ten that are given; every objective learns the same head from the same number of
sequences. Published for a larger model and tuned budgets (Zhao, Brekelmans, Makhzani & Grosse 2024, KL(q||target) and
KL(target||q), nats): DPG 13.3, 4.9; SIXO 20.3, 7.4; CTL 23.9, 8.9; RL 31.4, 15.0; FUDGE 60.9, 19.9.
"""

from typing import Any

import jax
import numpy as np

from benchmarks.timing import call_s, parse_quick, print_json
from benchmarks.twist_rows import OBJECTIVES, rows, stories, with_divergences
from smcinfer import twists
from smcinfer.core.compose import Composed
from smcinfer.models import linear_gaussian
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.twists.gap import log_z_runs

NUM_RUNS = 64


def spread_and_seconds(
    models: dict[str, Composed], num_particles: int, repeats: int = 5
) -> dict[str, tuple[float, float]]:
    """Standard deviation of log Z_hat over runs and the median seconds of all of them, in turns."""
    calls = {
        name: jax.jit(lambda key, model=model: log_z_runs(key, model, num_particles, NUM_RUNS))
        for name, model in models.items()
    }
    spreads = {name: float(np.std(call(jax.random.key(0)), ddof=1)) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats):
        for name, call in calls.items():
            seconds[name].append(call_s(call, jax.random.key(1 + repeat)))
    return {name: (spreads[name], float(np.median(seconds[name]))) for name in calls}


def state_space(name: str, models: dict[str, Composed], num_particles: int, rounds: int) -> dict[str, Any]:
    """The first model against a twist learned on it, the rest beside: spread of log Z, and the gain at equal time."""
    learned = twists.learn(
        jax.random.key(1), next(iter(models.values())), "controlled", num_particles=num_particles, num_steps=rounds
    )
    found = spread_and_seconds(models | {"twisted": learned.attach(next(iter(models.values())))}, num_particles)
    variance_seconds = {kind: spread**2 * seconds for kind, (spread, seconds) in found.items()}
    for kind, (spread, seconds) in found.items():
        print(f"{name:22s} {kind:10s} sd of log Z {spread:9.4f}   {seconds:7.3f} s for {NUM_RUNS} runs")
    return {
        "sd": {kind: spread for kind, (spread, _) in found.items()},
        "gain_at_equal_time": {
            kind: value / variance_seconds["twisted"] for kind, value in variance_seconds.items() if kind != "twisted"
        },
        "learning_s": learned.seconds,
    }


def main() -> None:
    """Print the figures; the last line is JSON."""
    quick = parse_quick(__doc__ or "")
    linear = linear_gaussian.example()
    _, y = linear.simulate(jax.random.key(0), 50)
    figures: dict[str, Any] = {
        "linear_gaussian": state_space(
            "linear Gaussian", {kind: linear.state_space(y, kind) for kind in ("bootstrap", "guided")}, 64, 2
        )
    }
    volatility = StochasticVolatility()
    _, returns = volatility.simulate(jax.random.key(0), 200 if quick else 1000)
    models = {kind: volatility.state_space(returns, kind) for kind in ("bootstrap", "guided")}
    figures["stochastic_volatility"] = state_space("stochastic volatility", models, 128 if quick else 512, 3)
    options: dict[str, Any] = {"objectives": (*OBJECTIVES, "dpg+ctl"), "sizes": (1, 4, 16, 64, 256, 1024), "most": 1024}
    options |= {"num_steps": 400, "num_contexts": 32}
    if quick:
        options |= {"objectives": ("dpg", "rl"), "sizes": (1, 16), "most": 64, "num_contexts": 8}
        options |= {"num_steps": 60}
    table = with_divergences(dict(rows(stories(), **options)))
    print("objective   KL(q||target)  KL(target||q)  gap by particles")
    for name, row in table.items():
        gaps = "  ".join(f"{size}: {gap:.2f}" for size, gap in row["gap"].items())
        print(f"{name:11s} {row['kl_q_target']:13.2f}  {row['kl_target_q']:13.2f}  {gaps}")
    best = min(row["gap"][16] for name, row in table.items() if name != "base")
    most = max(table["base"]["gap"])
    figures |= {f"gap_16_learned_over_gap_{most}_base": best / table["base"]["gap"][most], "infilling": table}
    print_json(figures)


if __name__ == "__main__":
    main()
