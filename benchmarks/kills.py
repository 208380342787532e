"""Processes killed at random moments and started again: does every run end, bit for bit, where an undisturbed one ends?

    python -m benchmarks.kills [--num 100] [--seed 0] [--quick]

Runs of five kinds take turns: adaptive tempering, a filter, chains at their own pace, particle Gibbs, a training. Each writes
its checkpoint as often as it can. A process is killed (SIGKILL) at a moment drawn uniformly over the run, compiling included;
it is started again, sometimes killed again, and its result's digest is held against that of a process that nobody disturbed.
Programs come from a compilation cache that only undisturbed processes write.

``equal`` must be ``ended``; ``resumed`` are the kills after which there was a checkpoint to go on from.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import print_json

AGAIN = 0.4
"""How likely a run that was started again is killed again."""


def tempered(options: dict[str, Any]) -> Any:
    """Particles and log Z of adaptive tempering."""
    import jax
    import numpyro.distributions as dist

    import smcinfer

    law = dist.Normal(0.0, 1.0).expand([4]).to_event(1)
    target = smcinfer.posterior(law, lambda x: -2000.0 * ((x - 1.0) ** 2).sum())
    result = smcinfer.sample(
        jax.random.key(0), target, num_particles=2000, num_runs=2, kernel="random_walk", progress=False, **options
    )
    return result.particles, result.log_z_runs, result.history


def filtered(options: dict[str, Any]) -> Any:
    """A filter's particles, likelihood and whole history."""
    import jax
    import jax.numpy as jnp
    import numpyro.distributions as dist

    import smcinfer

    data = jnp.sin(jnp.arange(400.0))
    model = smcinfer.state_space(
        dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(0.9 * x, 0.5), lambda t, x: dist.Normal(x, 0.5), data
    )
    options = options | {"num_particles": 20_000, "num_runs": 2, "history": "ancestors", "progress": False}
    result = smcinfer.sample(jax.random.key(1), model, **options)
    return result.particles, result.log_z_runs, result.history


def own_pace(options: dict[str, Any]) -> Any:
    """Draws of slice chains, each at its own pace."""
    import jax

    from smcinfer.models import conjugate
    from smcinfer.run.chains import mcmc

    target = conjugate.EXAMPLES["linear_regression"]().target
    options = options | {"num_chains": 64, "num_draws": 4000, "num_warmup": 2000, "pace": "flat", "progress": False}
    chains = mcmc(jax.random.key(2), target, "gibbsian_polar_slice", **options)
    return chains.draws, chains.num_evals, chains.settings["ticks"]


def particle_chains(options: dict[str, Any]) -> Any:
    """Parameters and paths of particle Gibbs."""
    import jax
    import jax.numpy as jnp
    import numpyro.distributions as dist

    import smcinfer

    def build(theta: Any) -> Any:
        return smcinfer.state_space(
            dist.Normal(0.0, 1.0),
            lambda t, x: dist.Normal(theta["a"] * x, 0.5),
            lambda t, x: dist.Normal(x, 0.5),
            jnp.sin(jnp.arange(21.0)),
        )

    model = smcinfer.parametric({"a": dist.Normal(0.5, 0.5)}, build)
    options = options | {"num_particles": 16, "num_draws": 1000, "num_warmup": 300, "progress": False}
    return smcinfer.particle_gibbs(jax.random.key(3), model, **options).draws


def training(options: dict[str, Any]) -> Any:
    """Weights and losses of a small regression."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from smcinfer.run.fit import fit

    def loss(network: Any, key: Any, data: Any) -> Any:
        x = jax.random.normal(key, (256, 8))
        return jnp.mean((jax.vmap(network)(x)[:, 0] - jnp.sin(x.sum(axis=1))) ** 2)

    network = eqx.nn.MLP(8, 1, 64, 2, key=jax.random.key(4))
    fitted = fit(jax.random.key(5), network, loss, num_steps=4000, check_every=500, **options)
    return eqx.filter(fitted.module, eqx.is_array), fitted.losses


KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    run.__name__: run for run in (tempered, filtered, own_pace, particle_chains, training)
}


def work(kind: str, checkpoint: Path | None) -> None:
    """One run in a process of its own: says when it starts, and the digest of what came out."""
    import jax
    import numpy as np

    print("started", flush=True)
    options = {} if checkpoint is None else {"checkpoint": checkpoint, "checkpoint_seconds": 0.0}
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(KINDS[kind](options)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    print("digest", digest.hexdigest(), flush=True)


class Worker:
    """A process that makes one run."""

    def __init__(self, kind: str, cache: Path, checkpoint: Path | None, *, fills_cache: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.kills", "--work", kind]
        command += [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
        # A process that is killed while it writes to the cache leaves half an entry: such processes only read.
        seconds = "0" if fills_cache else "1e9"
        cached = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": seconds}
        cached |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        self.process = subprocess.Popen(command, env=os.environ | cached, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "started\n", (
            "the run did not start"
        )
        self.since = time.monotonic()

    def killed(self, after: float) -> float | None:
        """Kill the process at a moment; where it ended before that, how long it ran."""
        try:
            self.process.wait(max(0.0, self.since + after - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            return None
        self.process.communicate()
        return time.monotonic() - self.since

    def digest(self) -> str:
        """Wait for the end."""
        said = self.process.communicate()[0].split()
        if self.process.returncode or said[:1] != ["digest"]:
            raise SystemExit(f"a run failed with exit status {self.process.returncode}: {said}")
        return said[1]


def main(num: int, seed: int) -> None:
    """Kill, start again, compare."""
    chance = random.Random(seed)
    kills, resumed, left = dict.fromkeys(KINDS, 0), 0, 0
    ended = equal = 0
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "cache"
        truth, lasts = {}, {}
        for kind in KINDS:
            # With a checkpoint too, so that the cache has all programs; twice, so that the time is one without compiling.
            digests = set()
            for again in range(3):
                worker = Worker(kind, cache, folder / f"{kind}.{again}" if again else None, fills_cache=again < 2)
                digests.add(worker.digest())
                lasts[kind] = time.monotonic() - worker.since
            if len(digests) > 1:
                raise SystemExit(f"{kind}: undisturbed runs, with and without a checkpoint, differ: {digests}")
            truth[kind] = digests.pop()
            print(f"{kind}: {lasts[kind]:.1f} s undisturbed", flush=True)
        while sum(kills.values()) < num:
            kind = list(KINDS)[ended % len(KINDS)]
            checkpoint = folder / f"{ended}.checkpoint"
            go_on = True
            while go_on:
                checkpoint_before = checkpoint.exists()
                worker = Worker(kind, cache, checkpoint, fills_cache=False)
                ran = worker.killed(chance.uniform(0.0, lasts[kind]))
                if ran is not None:
                    # Too late: the machine is quicker now, or the run had little left to do.
                    lasts[kind] = min(lasts[kind], ran) if not checkpoint_before else lasts[kind]
                    checkpoint.unlink(missing_ok=True)
                    continue
                kills[kind] += 1
                resumed += checkpoint.exists()
                go_on = chance.random() < AGAIN and sum(kills.values()) < num
            same = Worker(kind, cache, checkpoint, fills_cache=False).digest() == truth[kind]
            ended += 1
            equal += same
            left += len(list(folder.glob(".*.tmp")))
            print(
                f"{sum(kills.values())} kills, {ended} runs ended, {equal} equal{'' if same else f'; {kind} DIFFERS'}"
            )
            for file in [checkpoint, *folder.glob(".*.tmp")]:
                file.unlink(missing_ok=True)
    figures = {
        "kills": sum(kills.values()),
        "resumed": resumed,
        "ended": ended,
        "equal": equal,
        "unfinished_files": left,
    }
    print_json(figures | {f"kills_{kind}": count for kind, count in kills.items()})
    if equal < ended:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=100, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of their moments")
    parser.add_argument("--quick", action="store_true", help="five kills")
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work, asked.checkpoint)
    else:
        main(5 if asked.quick else asked.num, asked.seed)
