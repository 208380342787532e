"""Memory of runs whose likelihoods or networks are large: all particles at once against slices of them, in new processes.

What XLA plans to hold is asked of its compiler, which runs nothing; what a run did hold is the peak of its process less what
the process held after its imports. A little memory is said to be free, and runs choose their slices by themselves.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import print_json

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30


def data(*, quick: bool) -> tuple[Any, dict[str, Any]]:
    """Logistic regression on a million data, and how to run it: two steps, one move each."""
    import jax
    import jax.numpy as jnp
    import numpyro.distributions as dist

    import smcinfer

    count, num_particles = (50_000, 1024) if quick else (1_000_000, 4096)
    x = jax.random.normal(jax.random.key(1), (count,))
    signs = jnp.where(jax.random.uniform(jax.random.key(2), (count,)) < jax.nn.sigmoid(0.01 * x), 1.0, -1.0)
    prior = dist.Normal(0.0, 0.1)
    target = smcinfer.posterior(prior, lambda slope: -jnp.sum(jnp.logaddexp(0.0, -signs * slope * x)))
    method = smcinfer.Tempering(schedule=[0.1, 1.0], moves=smcinfer.Moves.exactly(1), led=False)
    return target, {"num_particles": num_particles, "method": method, "kernel": "random_walk"}


def denoised(*, quick: bool) -> tuple[Any, dict[str, Any]]:
    """Pictures of 784 pixels that a small convolutional network of no training denoises, and how to run them: two steps."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from smcinfer import diffusion

    keys, shape = jax.random.split(jax.random.key(1), 3), (28, 28)
    layers = [
        eqx.nn.Conv2d(*channels, 3, padding=1, key=key)
        for channels, key in zip(((1, 32), (32, 32), (32, 1)), keys, strict=True)
    ]

    def denoise(x: Any, time: Any) -> Any:
        del time
        first, second, last = layers
        return last(jax.nn.relu(second(jax.nn.relu(first(x[None])))))[0]

    model = diffusion.diffusion_model(denoise, diffusion.Cosine(), shape, parameterisation="x0")
    target = diffusion.alignment(model, lambda x: -jnp.sum(x**2) / 784.0, num_steps=2)
    return target, {"num_particles": 512 if quick else 4096}


CASES: dict[str, Callable[..., tuple[Any, dict[str, Any]]]] = {"data": data, "diffusion": denoised}
FREE = {"data": 2 * GIB, "diffusion": GIB // 4}
"""Bytes that are said to be free."""


class _PlannedError(Exception):
    """A run is planned, and not wanted."""


def measured(case: str, *, quick: bool, whole: bool) -> dict[str, float]:
    """Bytes of a case in this process: planned for all particles at once, or held by a run in slices.

    Args:
        case: its name.
        quick: a smaller one.
        whole: plan all particles at once, and run nothing.
    """
    import jax

    import smcinfer
    from smcinfer.ground import memory

    target, options = CASES[case](quick=quick)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    plans: list[int] = []
    ask = memory.needed_by

    def plan(program: Any) -> int:
        plans.append(ask(program))
        if whole:
            raise _PlannedError
        return plans[-1]

    memory.needed_by = plan
    memory.free_memory = lambda: FREE[case] // 16 if quick else FREE[case]
    try:
        found = smcinfer.sample(jax.random.key(0), target, num_runs=1, progress=False, **options)
    except _PlannedError:
        return {"planned": plans[-1]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"planned": plans[-1], "peak": peak, "run": peak - held, "log_z": found.log_z, "seconds": found.seconds}


def in_a_new_process(case: str, *, quick: bool, whole: bool) -> dict[str, float]:
    """`measured` of a case in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.memory", "--case", case] + ["--quick"] * quick + ["--whole"] * whole
    known = os.environ | {"PYTHONPATH": str(ROOT), "SMCINFER_CACHE_DIR": "off"}
    run = subprocess.run(words, env=known, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{case} failed:\n{run.stderr[-3000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    """Print a line a case, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--whole", action="store_true", help="with --case: plan all particles at once")
    parser.add_argument("--case", choices=CASES, default=None, help="measure one in this process")
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measured(options.case, quick=options.quick, whole=options.whole)))
        return
    figures = {}
    for case in CASES:
        whole = in_a_new_process(case, quick=options.quick, whole=True)
        run = in_a_new_process(case, quick=options.quick, whole=False)
        print(
            f"{case:10} all at once {whole['planned'] / GIB:6.2f} GiB planned; in slices {run['planned'] / GIB:6.2f} "
            f"planned, {run['run'] / GIB:6.2f} held by the run, {run['peak'] / GIB:6.2f} by its process",
            flush=True,
        )
        figures |= {
            f"{case}_planned_ratio": whole["planned"] / run["planned"],
            f"{case}_whole_gib": whole["planned"] / GIB,
            f"{case}_sliced_gib": run["planned"] / GIB,
            f"{case}_run_gib": run["run"] / GIB,
            f"{case}_process_gib": run["peak"] / GIB,
        }
    print_json(figures)


if __name__ == "__main__":
    main()
