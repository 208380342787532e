"""A bootstrap filter of a thousand observations, beside the library `particles`: time at equal variance of log Z.

Stochastic volatility, systematic resampling below half of N, log Z and the effective sample size of every step. The filter
runs as `smcinfer.run` compiles it, once with nothing but log Z, once with what `smcinfer.sample` adds: filtered moments
and a single-run error bar. `particles` computes in float64, smcinfer in float32 (and in float64 where asked).
"""

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import particles
from particles import state_space_models

from benchmarks.resampling import NUM, ours
from benchmarks.timing import call_s, measure_together, parse_quick, print_json
from smcinfer.core import smc
from smcinfer.core.resampling import SCHEMES
from smcinfer.core.settings import Settings
from smcinfer.models.stochastic_volatility import StochasticVolatility
from smcinfer.state_space import StateSpace

NUM_OBSERVATIONS = 1000
SIZES = (1_000, 10_000, 100_000)
NUM_FOR_SPREAD = 1_000

Filter = Callable[[int], float]
"""seed -> log Z."""


def filter_of(model: StateSpace, num_particles: int, *, certified: bool) -> Filter:
    """The whole filter as one compiled program; ``certified`` adds moments of each step and the error bar's genealogy."""
    settings = Settings(
        num_particles, history="scalars" if certified else "none", lag=model.plan.lag if certified else 0
    )

    @jax.jit
    def log_z(key: jax.Array) -> tuple[jax.Array, object]:
        state, _ = smc.init(key[None], model, settings)
        state, record = smc.scan(jnp.asarray(1, jnp.int32), state, model, settings, model.num_steps)
        return state.log_z + state.log_z_error, (state.lineage, record)

    return lambda seed: float(jax.block_until_ready(log_z(jax.random.key(seed)))[0][0])


def peer_of(truth: StochasticVolatility, data: np.ndarray, num_particles: int) -> Filter:
    """The same filter by `particles`."""
    parameters = {"mu": float(truth.mu), "rho": float(truth.rho), "sigma": float(truth.sigma)}
    model = state_space_models.Bootstrap(ssm=state_space_models.StochVol(**parameters), data=data.astype(np.float64))

    def run(seed: int) -> float:
        np.random.seed(seed)
        algorithm = particles.SMC(fk=model, N=num_particles, resampling="systematic", ESSrmin=0.5)
        algorithm.run()
        return float(algorithm.logLt)

    return run


def in_turns(filters: dict[str, Filter], repeats: int) -> dict[str, tuple[float, list[float]]]:
    """Median seconds and log Z of every repeat, the filters taking turns, after one call that compiles."""
    for run in filters.values():
        run(0)
    seconds: dict[str, list[float]] = {name: [] for name in filters}
    log_z: dict[str, list[float]] = {name: [] for name in filters}
    for seed in range(1, repeats + 1):
        for name, run in filters.items():
            seconds[name].append(call_s(lambda seed, run=run, name=name: log_z[name].append(run(seed)), seed))
    return {name: (statistics.median(seconds[name]), log_z[name]) for name in filters}


def peak_gib_of_a_million() -> float:
    """Peak memory of a process that filters a million particles over all observations without history, GiB."""
    code = (
        "from benchmarks import particle_filter as b\n"
        "model = b.the_model()[1]\n"
        "b.filter_of(model, 1_000_000, certified=False)(0)\n"
        "print(b.peak_gib())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def peak_gib() -> float:
    """Peak memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def the_model() -> tuple[StochasticVolatility, StateSpace, np.ndarray]:
    """The parameters, the filter's model, and the data they simulate."""
    truth = StochasticVolatility()
    _, data = truth.simulate(jax.random.key(2024), NUM_OBSERVATIONS - 1)
    return truth, truth.state_space(data), np.asarray(data)


def main() -> None:
    quick = parse_quick(__doc__ or "")
    truth, model, data = the_model()
    figures: dict[str, dict[str, float]] = {
        "time_ratio_particles_over_smcinfer": {},
        "time_ratio_particles_over_smcinfer_with_error_bar": {},
        "seconds": {},
        "seconds_with_error_bar": {},
        "seconds_particles": {},
    }
    print(f"{'N':>8s}  smcinfer  with error bar  particles  (median seconds)")
    for num_particles in SIZES:
        filters = {
            "bare": filter_of(model, num_particles, certified=False),
            "certified": filter_of(model, num_particles, certified=True),
            "peer": peer_of(truth, data, num_particles),
        }
        # Beyond 1e5 float operations a step, three calls of the peer are all that fifty seconds hold.
        repeats = (3 if num_particles > 10_000 else 7) if quick else 11
        timed = in_turns(filters, repeats)
        bare, certified, peer = (timed[name][0] for name in ("bare", "certified", "peer"))
        print(f"{num_particles:8d}  {bare:8.4f}  {certified:14.4f}  {peer:9.4f}")
        for name, value in zip(figures, (peer / bare, peer / certified, bare, certified, peer), strict=True):
            figures[name][str(num_particles)] = value
    spread = in_turns(
        {
            "smcinfer": filter_of(model, NUM_FOR_SPREAD, certified=False),
            "particles": peer_of(truth, data, NUM_FOR_SPREAD),
        },
        40 if quick else 200,
    )
    deviation = {name: float(np.std(log_z, ddof=1)) for name, (_, log_z) in spread.items()}
    log_weights = 1.5 * jax.random.normal(jax.random.key(0), (NUM,))
    resampling = measure_together({name: ours(name) for name in SCHEMES}, jax.random.key(1), log_weights, repeats=5)
    print_json(
        figures
        | {
            f"log_z_mean_{NUM_FOR_SPREAD}": {name: float(np.mean(log_z)) for name, (_, log_z) in spread.items()},
            f"log_z_sd_{NUM_FOR_SPREAD}": deviation,
            "resampling_ms_1e6": {name: 1e3 * timing.median_s for name, timing in resampling.items()},
            "peak_gib_1e6_particles": None if quick else peak_gib_of_a_million(),
        }
    )


if __name__ == "__main__":
    main()
