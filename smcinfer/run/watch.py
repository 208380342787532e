"""The host between two chunks of a run: how long the next chunk may be, the bar, the checkpoint, and Ctrl-C.

A chunk is some number of steps of one compiled program that takes their number as an argument: the clock decides how many, and
the numbers that the run ends with do not depend on it.
"""

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import jax

from smcinfer.ground import validate
from smcinfer.ground.errors import Interrupted
from smcinfer.ground.progress import Report, bar
from smcinfer.run.checkpoint import Checkpoint, Saved

LOOK_SECONDS = 0.5
"""How long a chunk is meant to take: as long as a person waits for the bar or for Ctrl-C."""

LEAST_SECONDS = 0.05
"""Shorter chunks would spend their time on looks."""

MOST_GROWTH = 4
"""A chunk is at most this many times as long as the one before, however quick that one was."""

UNBOUNDED = 2**30
"""Steps of a chunk where nobody looks: more than any run has."""


class _Stop:
    """Whether a person pressed Ctrl-C."""

    asked = False


class Watch:
    """Looks at a run between its chunks (made by `watching`).

    Attributes:
        on: whether anybody looks: where nobody does, a run is spared what a look costs.
    """

    def __init__(
        self, on: bool, report: Report, store: Checkpoint, compiling: list[float], stop: _Stop, seconds: float
    ) -> None:
        self.on = on
        self._report = report
        self._store = store
        self._compiling = compiling
        self._stop = stop
        self._seconds = seconds
        self._length = 1 if math.isfinite(seconds) else UNBOUNDED
        self._began = 0.0

    def length(self) -> int:
        """Steps that the next chunk may take; its clock starts now."""
        self._began = self._working_time()
        return self._length

    def look(self, fraction: float, message: str, taken: int, saved: Saved, *, over: bool = False) -> None:
        """After a chunk: move the bar, save where it is time, stop where a person asked for it, and plan the next chunk.

        Args:
            fraction: of the run that is done.
            message: a few words for the bar.
            taken: steps that the chunk took.
            saved: what a resumed run would go on from.
            over: whether the run is at its end.

        Raises:
            Interrupted: after Ctrl-C, once what there is to keep is kept.
        """
        self._report(fraction, message)
        if math.isfinite(self._seconds):
            wished = taken * self._seconds / max(self._working_time() - self._began, 1e-9)
            self._length = int(max(1, min(wished, MOST_GROWTH * max(self._length, taken), UNBOUNDED)))
        written = self._store.save(saved, now=over or self._stop.asked)
        if self._stop.asked:
            raise Interrupted(message, self._store.path, written=written)

    def _working_time(self) -> float:
        return time.perf_counter() - self._compiling[0]


@contextlib.contextmanager
def watching(progress: bool, description: str, store: Checkpoint, compiling: list[float]) -> Iterator[Watch]:
    """Watch a run while the block lasts, if anybody wants to: for the bar, or for the checkpoint.

    Args:
        progress: draw a bar on stderr.
        description: its label.
        store: the run's checkpoint.
        compiling: seconds spent on compiling so far, which are not the chunk's (`compile_clock`).

    Raises:
        ArgumentError: ``progress`` is neither true nor false.
    """
    on = validate.flag("progress", progress) or store.path is not None
    seconds = LOOK_SECONDS if store.path is None else min(LOOK_SECONDS, max(LEAST_SECONDS, store.every_seconds / 2))
    # Several processes must take the same steps at once, and their clocks differ.
    paced = on and jax.process_count() == 1
    with bar(progress, description) as report, _asking_first(paced) as stop:
        yield Watch(on, report, store, compiling, stop, seconds if paced else math.inf)


@contextlib.contextmanager
def _asking_first(enabled: bool) -> Iterator[_Stop]:
    """While the block runs, the first Ctrl-C only asks; the second interrupts at once, as the first would have done."""
    stop = _Stop()
    here = threading.current_thread() is threading.main_thread()
    if not (enabled and here and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            signal.default_int_handler(number, frame)
        stop.asked = True
        print("\nsmcinfer: stopping at the next look; Ctrl-C again stops at once", file=sys.stderr)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def compile_clock() -> Iterator[list[float]]:
    """Seconds that JAX reports spending on tracing and compiling while the block runs, none of them counted twice."""
    spent = [0.0]
    spans: list[tuple[float, float]] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if not event.startswith("/jax/core/compile/"):
            return
        ended = time.perf_counter()
        began = ended - duration_secs
        # What is traced within another trace is reported first, and is a part of the other's time.
        while spans and spans[-1][0] >= began:
            start, end = spans.pop()
            spent[0] -= end - start
        spans.append((max(began, spans[-1][1]) if spans else began, ended))
        spent[0] += ended - spans[-1][0]

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield spent
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
