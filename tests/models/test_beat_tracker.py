"""The beat tracker against songs whose beats are known, and its second filter against an exact recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.models import beat_tracker
from smcinfer.models.beat_tracker import Bars, Pulse, Song, f_measure, gated, synthetic_song, track
from smcinfer.run.runner import run
from tests.statistics import assert_mean_one_log

GATE = 0.3


@pytest.fixture(scope="module")
def song() -> Song:
    return synthetic_song(jax.random.key(2), meter=3, seconds=16.0)


def exact_log_z(bars: Bars, strengths: np.ndarray) -> float:
    """The forward recursion of the meter, in float64."""
    emissions = np.exp(np.stack([np.asarray(bars.log_emission(jnp.asarray(y)), np.float64) for y in strengths]))
    forward, log_z = np.full(len(bars.table), 1.0 / len(bars.table)), 0.0
    for step, emission in enumerate(emissions):
        forward = emission * (forward @ bars.transition_matrix if step else forward)
        log_z += np.log(forward.sum())
        forward /= forward.sum()
    return log_z


@pytest.mark.slow
@pytest.mark.parametrize("gate", [pytest.param(None, marks=pytest.mark.slow), GATE])
def test_the_cascade_finds_beats_bars_and_meter(song: Song, gate: float | None) -> None:
    heard = track(jax.random.key(7), song.strengths, song.downbeat_strengths, gate=gate, num_particles=400)
    assert f_measure(heard.beats, song.beats) > 0.9
    assert f_measure(heard.downbeats, song.downbeats) > 0.8
    assert heard.meters[-1] == song.meter
    assert (heard.share_gated > 0.6) == (gate is not None)
    assert "beats a bar" in str(heard)


@pytest.mark.slow
def test_a_song_without_beats_to_find_is_not_tracked(song: Song) -> None:
    """The control: the same onsets in another order."""
    shuffled = np.random.default_rng(0).permutation(song.strengths)
    heard = track(jax.random.key(7), shuffled, song.downbeat_strengths, num_particles=400)
    assert f_measure(heard.beats, song.beats) < 0.7


@pytest.mark.slow
def test_gated_frames_are_neither_weighed_nor_resampled(song: Song) -> None:
    heard = gated(song.strengths, GATE)
    history = run(jax.random.key(1), Pulse().state_space(heard), 64).history
    dull = np.isnan(heard)
    dull[0] = False
    assert not history["resampled"][0, dull].any() and history["resampled"][0].any()
    assert np.all(history["log_z_increment"][0, dull] == 0)
    np.testing.assert_array_equal(history["ess"][0, 1:][dull[1:]], history["ess"][0, :-1][dull[1:]])


@pytest.mark.slow
def test_the_meter_filter_is_unbiased() -> None:
    bars = Bars(change=0.05, slip=0.02)
    strengths = np.random.default_rng(3).uniform(0.02, 0.98, size=6)
    done = run(jax.random.key(4), bars.state_space(strengths), 8, num_runs=1000)
    assert_mean_one_log(done.log_z, exact_log_z(bars, strengths))


def test_rows_of_the_meter_sum_to_one() -> None:
    for bars in (Bars(), Bars(meters=(3,)), Bars(meters=(2, 5, 7), slip=0.1)):
        np.testing.assert_allclose(bars.transition_matrix.sum(axis=1), 1.0)


def test_f_measure() -> None:
    truth = np.arange(6.0, 12.0)
    assert f_measure(truth + 0.05, truth) == 1.0
    assert f_measure(truth[::2], truth) == pytest.approx(2 * 3 / 9)
    assert f_measure(truth + 0.2, truth) == 0.0
    # One event matches one truth, however many are near.
    assert f_measure(np.sort(np.concatenate([truth, truth + 0.01])), truth) == pytest.approx(2 * 6 / 18)


def test_bad_input_is_refused(song: Song) -> None:
    with pytest.raises(ArgumentError, match="differ in shape"):
        track(jax.random.key(0), song.strengths, song.downbeat_strengths[:-1])
    with pytest.raises(ArgumentError, match="out of range"):
        track(jax.random.key(0), song.strengths * 0, song.downbeat_strengths)
    with pytest.raises(ArgumentError, match="meter"):
        synthetic_song(jax.random.key(0), meter=7)
    with pytest.raises(ArgumentError, match="at least two beats"):
        beat_tracker.Bars(meters=(1,))
