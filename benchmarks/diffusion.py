"""Diffusion under a reward or an annealing: SMC and what it is compared with, at equal evaluations of the network.

    python -m benchmarks.diffusion [--quick]

- Forty modes raised to the power three (`smcinfer.diffusion.power`): integrated weights as published, matched noise, exact
  ratios, and importance sampling. The mixture lies in the reference data; without it these figures are null.
- Nine modes under two rewards, and a sharp one that importance sampling does not reach: every twist and proposal against
  importance sampling, best-of-N and plain guidance.
- Digits and masked sequences (`benchmarks.diffusion_rows_digits`).

Every line has the error of log Z with its standard error, the total variation of the modes' masses and the Wasserstein
distance beside what exact draws would show, the mean reward, the initial particles with living descendants, and seconds.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import diffusion_rows_digits
from benchmarks.diffusion_measures import Exact, row
from benchmarks.timing import parse_quick, print_json
from smcinfer import diffusion
from smcinfer.models import gaussian_mixtures

SHARED = Path(os.environ.get("SMCINFER_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
MIXTURE = SHARED / "targets" / "mixture40.json"
REFERENCE_TORCH_SECONDS = 54.0
"""The faster of the reference runs of 2000 particles by 1000 steps in torch, on another machine."""

Table = dict[str, dict[str, float]]


def forty_modes(num_particles: int, num_steps: int, *, quick: bool) -> tuple[Table, dict[str, float]]:
    """The power of the mixture, by every weight there is."""
    law, facts = gaussian_mixtures.from_json(MIXTURE)
    sharp = law.power(facts["power"], points=800)
    exact = Exact(sharp.log_z, sharp.masses, sharp.draw, lambda x: gaussian_mixtures.nearest(np.asarray(law.means), x))
    schedule = diffusion.EDM(end=facts["sigma_max"])
    model = law.model(schedule)

    def target(num_steps: int, **options: Any) -> Any:
        times = jnp.append(jnp.geomspace(facts["sigma_max"], facts["sigma_min"], num_steps), 0.0)
        return diffusion.power(model, facts["power"], times=times, data_std=0.45, **options)

    # Matched noise runs the denoiser forward and along two directions: a third of the particles for the same work.
    rows = {
        "integrated, scores alone": row(target(num_steps), exact, num_particles),
        "matched noise": row(target(num_steps, noise_scale="matched"), exact, num_particles),
        "exact ratios": row(target(num_steps, log_density=law.noised(schedule)), exact, num_particles),
    }
    if not quick:
        third = target(num_steps, noise_scale="matched")
        rows["matched noise, a third of the particles"] = row(third, exact, num_particles // 3)
        rows["integrated, twice the noise"] = row(target(num_steps, noise_scale=2.0), exact, num_particles)
        rows["importance sampling of the integral"] = row(target(num_steps), exact, num_particles, resample_below=0.0)
        reweighted = diffusion.alignment(
            model, lambda x: 2.0 * law.log_density(x), num_steps=num_steps, look="none", kernel="exponential"
        )
        rows["importance sampling of the samples"] = row(reweighted, exact, num_particles)
    timed = row(target(1000), exact, 2000, num_runs=2)
    return rows, exact.floors(num_particles) | {"seconds_2000_by_1000": timed["seconds_a_run"]}


def nine_modes(
    curvature: tuple[float, float], centre: tuple[float, float], num_particles: int, methods: list[str]
) -> tuple[Table, dict[str, float]]:
    """Nine modes under a quadratic reward, every method with the evaluations of ``num_particles`` plain ones."""
    law = gaussian_mixtures.nine_modes()
    tilted = law.tilted(curvature, centre)
    weight, middle = np.asarray(curvature), np.asarray(centre)
    means = np.asarray(law.means, np.float64)
    exact = Exact(
        tilted.log_z,
        tilted.weights,
        tilted.draw,
        lambda x: gaussian_mixtures.nearest(means, x),
        lambda x: -np.sum(weight * (x - middle) ** 2, axis=-1),
        tilted.mean_reward,
    )
    model = law.model(diffusion.Cosine())

    def reward(x: jax.Array) -> jax.Array:
        return -jnp.sum(jnp.asarray(weight) * (x - jnp.asarray(middle)) ** 2)

    # A look-ahead is worth what the signal is: its strength grows with the share of signal in the point.
    ratios = jax.vmap(model.schedule.noise_ratio)(model.schedule.grid(100))
    strength = 1.0 / (1.0 + ratios**2)

    def target(**options: Any) -> Any:
        return diffusion.alignment(model, reward, num_steps=100, kernel="euler_maruyama", **options)

    ways: dict[str, Callable[[], dict[str, float]]] = {
        "importance sampling": lambda: row(target(look="none"), exact, num_particles),
        "best of 4": lambda: row(target(look="none"), exact, num_particles, best_of=4),
        "plain guidance": lambda: row(
            target(proposal="gradient"), exact, num_particles // 3, resample_below=0.0, weighted=False
        ),
        "difference": lambda: row(target(strength=strength), exact, num_particles),
        "max, every 20": lambda: row(target(potential="max", every=20, strength=strength), exact, num_particles),
        "sum, every 20": lambda: row(target(potential="sum", every=20, strength=strength), exact, num_particles),
        "twisted diffusion": lambda: row(target(proposal="gradient", strength=strength), exact, num_particles // 3),
        "tempered by bisection": lambda: row(target(strength="ess", led=False), exact, num_particles),
        "tempered and twisted": lambda: row(
            target(strength="ess", proposal="gradient", led=False), exact, num_particles // 3
        ),
        "selection of 4": lambda: row(
            target(proposal="selection", num_children=4, strength=strength), exact, num_particles // 5
        ),
        "roll-out of 3": lambda: row(target(look="roll_out", strength=strength), exact, num_particles // 3),
    }
    if curvature[0] == curvature[1]:
        # The same target as a noisy measurement of the point: its look-ahead knows how far the data may still go.
        noise_std = (0.5 / curvature[0]) ** 0.5
        seen = diffusion.measurement(lambda x: x, middle, noise_std, data_std=3.3)
        in_nats = dataclasses.replace(exact, log_z=exact.log_z - float(np.log(np.pi / curvature[0])))
        options: dict[str, Any] = {"num_steps": 100, "kernel": "euler_maruyama"}
        ways |= {
            "measurement, difference": lambda: row(diffusion.alignment(model, seen, **options), in_nats, num_particles),
            "measurement, twisted": lambda: row(
                diffusion.alignment(model, seen, proposal="gradient", **options), in_nats, num_particles // 3
            ),
        }
    rows = {name: ways[name]() for name in methods or ways if name in ways}
    return rows, exact.floors(num_particles) | {"exact_reward": exact.mean_reward}


def main() -> None:
    """Measure and print."""
    quick = parse_quick(__doc__ or "")
    tables: dict[str, Any] = {}
    figures: dict[str, Any] = dict.fromkeys(
        ("gmm40_mode_tv", "gmm40_log_z_error", "gmm40_speedup_over_torch", "gmm40_seconds_2000_by_1000")
    )
    if MIXTURE.is_file():
        rows, facts = forty_modes(10_000, 100 if quick else 1000, quick=quick)
        tables["gmm40"] = rows | {"facts": facts}
        best = rows["matched noise"]
        seconds = facts["seconds_2000_by_1000"]
        figures |= {
            "gmm40_mode_tv": best["mode_tv"],
            "gmm40_log_z_error": best["log_z_error"],
            "gmm40_speedup_over_torch": REFERENCE_TORCH_SECONDS / seconds,
            "gmm40_seconds_2000_by_1000": seconds,
        }
    cases = {
        "gmm9": ((0.01, 1.0), (0.0, 0.0), ["importance sampling"]),
        "gmm9_second": ((1.0, 0.1), (0.0, 1.0), []),
        "gmm9_sharp": ((10.0, 10.0), (4.5, 4.5), ["measurement, twisted"]),
    }
    for name, (curvature, centre, few) in cases.items():
        if few or not quick:
            rows, facts = nine_modes(curvature, centre, 3000 if quick else 10_000, few if quick else [])
            tables[name] = rows | {"facts": facts}
    figures["gmm9_log_z_error"] = tables["gmm9"]["importance sampling"]["log_z_error"]
    for name, rows in tables.items():
        print(name)
        for line, values in rows.items():
            print(f"  {line:40s}", "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
    print_json(figures | diffusion_rows_digits.rows() | {"tables": _without_nan(tables)})


def _without_nan(value: Any) -> Any:
    """Null for what a method has no answer to: NaN is no JSON."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    return None if np.isnan(value) else value


if __name__ == "__main__":
    main()
