"""Beat tracking: a synthetic song, its beats and bars as two filters hear them, with the information gate and without.

python examples/beat_tracking.py [--out output/beat_tracking] [--meter 3]
"""

import argparse
from pathlib import Path

import jax

from smcinfer.models.beat_tracker import f_measure, synthetic_song, track
from smcinfer.models.beat_tracker.plots import plot_beats


def main(out: Path, meter: int = 3, seconds: float = 30.0, num_particles: int = 2000) -> None:
    """Draw a song, track it, print what was heard and draw it."""
    out.mkdir(parents=True, exist_ok=True)
    song = synthetic_song(jax.random.key(2), meter=meter, seconds=seconds)
    for gate in (None, 0.3):
        heard = track(
            jax.random.key(0), song.strengths, song.downbeat_strengths, num_particles=num_particles, gate=gate
        )
        print(heard)
        beats, downbeats = f_measure(heard.beats, song.beats), f_measure(heard.downbeats, song.downbeats)
        print(f"  F of beats {beats:.3f}, of downbeats {downbeats:.3f}\n")
    figure = plot_beats(song.strengths, song.frame_rate, found=heard.beats, truth=song.beats)
    figure.savefig(out / "beats.png")
    print(f"saved {out / 'beats.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("output/beat_tracking"), help="folder for the figure")
    parser.add_argument("--meter", type=int, default=3, choices=(2, 3, 4), help="beats a bar")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the song")
    parser.add_argument("--num-particles", type=int, default=2000)
    arguments = parser.parse_args()
    main(arguments.out, arguments.meter, arguments.seconds, arguments.num_particles)
