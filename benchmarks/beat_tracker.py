"""The information gate of the beat tracker: time and accuracy with it and without, and how many frames it passes over."""

import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import call_s, parse_quick, print_json
from smcinfer.core import smc
from smcinfer.core.settings import Settings
from smcinfer.models.beat_tracker import Pulse, Song, f_measure, gated, synthetic_song, track

GATES = (None, 0.1, 0.3, 0.5)
SIZES = (1_000, 10_000)
SECONDS = 30.0


def filter_of(song: Song, gate: float | None, num_particles: int) -> Callable[[], jax.Array]:
    """The first filter as one compiled program."""
    model = Pulse().state_space(song.strengths if gate is None else gated(song.strengths, gate))
    settings = Settings(num_particles)

    @jax.jit
    def log_z(key: jax.Array) -> tuple[jax.Array, smc.Record]:
        state, _ = smc.init(key[None], model, settings)
        state, record = smc.scan(jnp.asarray(1, jnp.int32), state, model, settings, model.num_steps)
        return state.log_z, record

    return lambda: log_z(jax.random.key(1))[0]


def seconds_in_turns(functions: dict[str, Callable[[], jax.Array]], repeats: int) -> dict[str, float]:
    """Median seconds of a call, taking turns, after one that compiles."""
    for function in functions.values():
        call_s(function)
    taken = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            taken[name].append(call_s(function))
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    quick = parse_quick(__doc__ or "")
    first = synthetic_song(jax.random.key(0), seconds=SECONDS)
    figures: dict[str, dict[str, float]] = {}
    for num_particles in SIZES:
        seconds = seconds_in_turns(
            {str(gate): filter_of(first, gate, num_particles) for gate in GATES}, 7 if quick else 21
        )
        figures[f"time_ratio_all_frames_over_gated_{num_particles}"] = {
            gate: seconds["None"] / value for gate, value in seconds.items() if gate != "None"
        }
        figures[f"milliseconds_{num_particles}"] = {gate: 1e3 * value for gate, value in seconds.items()}
    gates = (None, 0.3) if quick else GATES
    heard: dict[str, list[tuple[float, float, float, float]]] = {str(gate): [] for gate in gates}
    for seed in range(2 if quick else 8):
        song = synthetic_song(jax.random.key(seed), seconds=SECONDS, meter=(3, 4)[seed % 2])
        for gate in gates:
            found = track(jax.random.key(7), song.strengths, song.downbeat_strengths, gate=gate)
            right = float(found.meters[-1] == song.meter)
            scores = f_measure(found.beats, song.beats), f_measure(found.downbeats, song.downbeats)
            heard[str(gate)].append((*scores, right, found.share_gated))
    print(f"{'gate':>6s}  F of beats  F of downbeats  meter right  frames passed over")
    means = {gate: np.mean(rows, axis=0) for gate, rows in heard.items()}
    for gate, (beats, downbeats, right, passed) in means.items():
        print(f"{gate:>6s}  {beats:10.3f}  {downbeats:14.3f}  {right:11.2f}  {passed:18.2f}")
    for column, name in enumerate(("f_beats", "f_downbeats", "meter_right", "share_passed_over")):
        figures[name] = {gate: float(row[column]) for gate, row in means.items()}
    print_json(figures)


if __name__ == "__main__":
    main()
