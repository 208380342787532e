"""Beats, tempo and bars of a piece of music, from the onset strengths of its frames: a cascade of two filters."""

from smcinfer.models.beat_tracker.beats import BeatFilter, Pulse
from smcinfer.models.beat_tracker.cascade import BeatTrack, f_measure, gated, track
from smcinfer.models.beat_tracker.meter import Bars
from smcinfer.models.beat_tracker.onsets import Onsets
from smcinfer.models.beat_tracker.song import Song, synthetic_song

__all__ = [
    "BeatFilter",
    "BeatTrack",
    "Bars",
    "Onsets",
    "Pulse",
    "Song",
    "f_measure",
    "gated",
    "synthetic_song",
    "track",
]
