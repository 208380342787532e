"""Run as a process of its own: a filter whose particles several devices (or processes) share.

    python -m tests.scale_worker SPEC

SPEC is JSON; the answer is JSON on the last line of stdout. Environment variables that JAX reads at import (the number of
host devices) are the caller's to set.
"""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """log Z of all runs, by name of the case, and the collectives that the compiled steps hold."""
    if "coordinator" in spec:
        jax.distributed.initialize(spec["coordinator"], spec["num_processes"], spec["process"])
    # Importing blackjax starts JAX's backend, which the distributed runtime must precede.
    from smcinfer.run.runner import run
    from tests import exact_models

    model, _ = exact_models.linear_gaussian(spec["num_steps"])
    answer = {}
    for name, case in spec["cases"].items():
        devices = jax.devices() if case.pop("shared") else None
        done = run(jax.random.key(5), model, devices=devices, **case)
        answer[name] = np.asarray(done.log_z).tolist()
        answer[f"{name} variance"] = np.asarray(done.log_z_variance).tolist()
    if "collectives" in spec:
        answer["collectives"] = {str(islands): collectives(model, islands) for islands in spec["collectives"]}
    return answer


def collectives(model: Any, islands: int) -> list[str]:
    """Which collective operations move as much as a particle array in the compiled step."""
    from smcinfer.core import smc
    from smcinfer.core.settings import PARTICLES, Settings

    num_particles = 1024
    settings = Settings(
        num_particles, "systematic", 1.0, "none", 0, islands, Mesh(np.array(jax.devices()), (PARTICLES,))
    )
    state, _ = jax.jit(lambda keys: smc.init(keys, model, settings))(jax.random.split(jax.random.key(0), 1))
    step = jax.jit(lambda state: smc.step(jnp.ones((), jnp.int32), state, model, settings)[0])
    text = step.lower(state).compile().as_text()
    names = ("all-gather", "all-to-all", "collective-permute", "all-reduce")
    large = [line for line in text.splitlines() if f"{num_particles}" in line.split("metadata")[0]]
    return sorted({name for name in names for line in large if f" {name}(" in line or f" {name}-start(" in line})


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
