"""A synthetic piece of music with known beats, drawn from the models that are to find them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.ground.arrays import KeyArray
from smcinfer.ground.errors import ArgumentError
from smcinfer.models.beat_tracker.beats import Pulse
from smcinfer.models.beat_tracker.meter import Bars
from smcinfer.models.beat_tracker.onsets import closeness
from smcinfer.state_space import simulate


@dataclass(frozen=True)
class Song:
    """Onset strengths of every frame, and the truth behind them.

    Attributes:
        strengths: (frames,), onset strengths in (0, 1).
        downbeat_strengths: (frames,), how much each frame sounds like the first beat of a bar, in (0, 1).
        beats: (beats,), times of the beats, seconds.
        downbeats: (bars,), times of the first beats of bars, seconds.
        meter: beats a bar.
        frame_rate: frames a second.
    """

    strengths: np.ndarray
    downbeat_strengths: np.ndarray
    beats: np.ndarray
    downbeats: np.ndarray
    meter: int
    frame_rate: float


def synthetic_song(
    key: KeyArray, *, seconds: float = 30.0, meter: int = 4, pulse: Pulse | None = None, bars: Bars | None = None
) -> Song:
    """Draw tempo, phase and onsets from `Pulse`, and downbeats of one meter from `Bars`.

    Args:
        key: one random key.
        seconds: length.
        meter: beats a bar.
        pulse, bars: the models; their defaults where ``None``.
    """
    pulse, bars = pulse or Pulse(), bars or Bars()
    if meter not in bars.meters:
        raise ArgumentError("unknown meter", expected=" | ".join(map(str, bars.meters)), got=meter)
    num_frames = round(seconds * pulse.frame_rate)
    if num_frames < 2:
        raise ArgumentError("a song of less than two frames", expected="more seconds", got=seconds)
    path_key, place_key, sound_key = jax.random.split(key, 3)
    path, strengths = simulate(path_key, pulse.initial, pulse.transition, pulse.observation, num_frames - 1)
    phase = np.asarray(path["phase"], np.float64)
    # The phase wanders by less than it grows, but for once in many thousand frames: count an integer when first reached.
    reached = np.maximum.accumulate(np.floor(phase))
    first_place = int(jax.random.randint(place_key, (), 0, meter))
    frames = np.flatnonzero(np.diff(reached) > 0)
    share = (reached[frames + 1] - phase[frames]) / (phase[frames + 1] - phase[frames])
    beats = (frames + np.clip(share, 0.0, 1.0)) / pulse.frame_rate
    is_first = (reached[frames + 1] + first_place) % meter == 0
    nearest = np.round(phase)
    on_downbeat = (nearest + first_place) % meter == 0
    close = closeness(pulse.distance(path)) * jnp.asarray(on_downbeat)
    downbeat_strengths = bars.onsets.law(close).sample(sound_key)
    inside = (1e-4, 1 - 1e-4)
    return Song(
        np.clip(np.asarray(strengths), *inside),
        np.clip(np.asarray(downbeat_strengths), *inside),
        beats,
        beats[is_first],
        meter,
        pulse.frame_rate,
    )
