"""Both filters in a row: beats from frames, then bars from beats; and the gate that passes over dull frames."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.beat_tracker.beats import Pulse
from smcinfer.models.beat_tracker.meter import Bars
from smcinfer.run.runner import run

# Frames on either side of a beat in which its downbeat strength is looked for.
NEIGHBOURS = 1

# Sequences of beats are filled up with unheard ones to a multiple of this: one compiled filter serves songs of many lengths.
PADDING = 64


@dataclass(frozen=True)
class BeatTrack:
    """What the cascade heard.

    Attributes:
        beats: (beats,), seconds.
        downbeats: (bars,), seconds.
        meters: (beats,), the most probable beats a bar at each beat.
        tempo: (frames,), beats a minute, filtered.
        log_z_beats, log_z_meter: log likelihoods of frames and of beats under the two models, nats.
        share_gated: share of frames that the gate passed over.
    """

    beats: np.ndarray
    downbeats: np.ndarray
    meters: np.ndarray
    tempo: np.ndarray
    log_z_beats: float
    log_z_meter: float
    share_gated: float

    def __str__(self) -> str:
        tempo = f"tempo {self.tempo[-1]:.0f} beats a minute" if self.tempo.size else "no tempo"
        meter = f"{self.meters[-1]} beats a bar" if self.meters.size else "no meter"
        return (
            f"beat track: {self.beats.size} beats, {self.downbeats.size} bars; at the end {tempo}, {meter}\n"
            f"  log Z  {self.log_z_beats:.2f} nats of the frames, {self.log_z_meter:.2f} of the beats\n"
            f"  gate   {self.share_gated:.0%} of the frames passed over"
        )


def gated(strengths: ArrayLike, gate: float) -> np.ndarray:
    """Onset strengths with those below the gate as NaN: frames that say little.

    Frames without an onset speak against a beat, weakly, since beats may be silent; passing over them keeps the
    filter exact for the model of the other frames, and costs what they would have said.
    """
    strengths = np.asarray(strengths, np.float32 if jnp.result_type(float) == jnp.float32 else np.float64)
    return np.where(strengths < gate, np.nan, strengths)


def track(
    key: KeyArray,
    strengths: ArrayLike,
    downbeat_strengths: ArrayLike,
    *,
    num_particles: int = 2000,
    gate: float | None = None,
    pulse: Pulse | None = None,
    bars: Bars | None = None,
) -> BeatTrack:
    """Find beats, then bars, frame by frame: nothing looks ahead.

    Args:
        key: one random key.
        strengths: (frames,), onset strengths in (0, 1).
        downbeat_strengths: (frames,), how much each frame sounds like the first beat of a bar, in (0, 1).
        num_particles: of the first filter; the second takes as many.
        gate: frames below this onset strength are neither weighed nor resampled (`gated`), 0.1 to 0.3 say; ``None`` uses all.
        pulse, bars: the two models; their defaults where ``None``.

    Returns:
        A `BeatTrack`.

    Raises:
        ArgumentError: the two sequences differ in length, or strengths are not in (0, 1).
    """
    pulse, bars = pulse or Pulse(), bars or Bars()
    strengths, downbeat_strengths = np.asarray(strengths), np.asarray(downbeat_strengths)
    if strengths.ndim != 1 or strengths.shape != downbeat_strengths.shape:
        raise ArgumentError(
            "strengths of frames differ in shape",
            expected="two arrays (frames,)",
            got=(strengths.shape, downbeat_strengths.shape),
        )
    for name, values in (("strengths", strengths), ("downbeat_strengths", downbeat_strengths)):
        if not np.all((values > 0) & (values < 1)):
            raise ArgumentError(
                f"{name} are out of range", expected="numbers in (0, 1)", got=(values.min(), values.max())
            )
    beat_key, meter_key = jax.random.split(key)
    heard = strengths if gate is None else gated(strengths, gate)
    done = run(beat_key, pulse.state_space(heard), num_particles)
    history = {name: values[0] for name, values in done.history.items() if name in ("cos", "sin", "log_period")}
    frames = _beat_frames(history["cos"], history["sin"])
    sounds = _loudest(downbeat_strengths, frames)
    meters, firsts, log_z_meter = _bars(meter_key, bars, sounds, num_particles)
    return BeatTrack(
        beats=frames / pulse.frame_rate,
        downbeats=frames[firsts] / pulse.frame_rate,
        meters=meters,
        tempo=60.0 * pulse.frame_rate * np.exp(-history["log_period"]),
        log_z_beats=float(done.log_z[0]),
        log_z_meter=log_z_meter,
        share_gated=float(np.mean(np.isnan(heard))),
    )


def _beat_frames(cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Frames, with fractions, at which the filtered phase passes through an integer."""
    phase = np.arctan2(sine, cosine) / (2 * np.pi)
    before, after = phase[:-1], phase[1:]
    # Upwards through zero, and not through the jump from one half to minus one half.
    passed = np.flatnonzero((before < 0) & (after >= 0) & (after - before < 0.5))
    share = -before[passed] / (after[passed] - before[passed])
    return passed + share


def _loudest(strengths: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The strongest of the frames about each beat."""
    near = np.round(frames).astype(int)[:, None] + np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
    return strengths[np.clip(near, 0, strengths.size - 1)].max(axis=1)


def _bars(key: KeyArray, bars: Bars, sounds: np.ndarray, num_particles: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The most probable meter and whether a bar begins, at every beat, and log Z."""
    if sounds.size == 0:
        return np.zeros(0, int), np.zeros(0, bool), 0.0
    padded = np.full(-(-sounds.size // PADDING) * PADDING, np.nan)
    padded[: sounds.size] = sounds
    # One missing more, so that some always are: the filter is then the same program.
    done = run(key, bars.state_space(np.append(padded, np.nan)), num_particles, history="full")
    particles: Any = done.history["particles"]
    states = np.asarray(particles.state)[0, : sounds.size]
    weights = np.exp(done.history["log_weights"][0, : sounds.size])
    shares = np.stack(
        [np.bincount(row, mass, minlength=len(bars.table)) for row, mass in zip(states, weights, strict=True)]
    )
    of_meter = np.stack([shares[:, bars.table[:, 0] == meter].sum(axis=1) for meter in bars.meters], axis=1)
    first = shares[:, bars.table[:, 1] == 0].sum(axis=1) > 0.5
    return np.asarray(bars.meters)[of_meter.argmax(axis=1)], first, float(done.log_z[0])


def f_measure(found: ArrayLike, truth: ArrayLike, *, tolerance: float = 0.07, skip: float = 5.0) -> float:
    """Harmonic mean of precision and recall of events, each true one matched once at most.

    Args:
        found, truth: times, seconds, ascending.
        tolerance: how far apart a pair may be, seconds.
        skip: what falls into the first seconds does not count (Davies, Degara & Plumbley 2009).
    """
    found, truth = (np.asarray(times, float) for times in (found, truth))
    found, truth = found[found >= skip], truth[truth >= skip]
    if found.size == 0 or truth.size == 0:
        return float(found.size == truth.size)
    hits, left = 0, 0
    for time in found:
        while left < truth.size and truth[left] < time - tolerance:
            left += 1
        if left < truth.size and truth[left] <= time + tolerance:
            hits, left = hits + 1, left + 1
    return 2.0 * hits / (found.size + truth.size)
