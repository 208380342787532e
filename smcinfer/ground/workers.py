"""Many calls of one function in plain Python: here, or by an executor that people already run.

An executor is anything with ``submit`` (`concurrent.futures`, `mpi4py.futures`, a dask client), ``apply_async`` (pools of
`multiprocessing` and ray) or ``map``. This module imports no JAX: a worker process that unpickles `evaluate` starts quickly.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from smcinfer.ground.errors import ArgumentError, SmcinferError, TargetError, calling

FIRST_GUESS = 5e-3
"""Seconds that a call is taken for before there was any."""

CHUNK_SECONDS = 0.02
"""What a worker is sent at once is meant to take this long: much longer than the sending."""

START_SECONDS = 120.0
"""How long the workers of an executor may take to start."""


class Outcome(NamedTuple):
    """What became of a chunk of calls: their values, or what one of them raised, in words; and seconds spent on them."""

    values: list[Any]
    raised: str | None
    seconds: float


def evaluate(function: Callable[..., Any], name: str, points: Sequence[tuple[Any, ...]]) -> Outcome:
    """Call a function once a point; runs in a worker.

    Args:
        function: what is called.
        name: what to call it in messages.
        points: its arguments, one tuple a call.
    """
    began, values = time.perf_counter(), []
    for point in points:
        try:
            with calling(name, expected="an answer wherever the prior may go"):
                values.append(function(*point))
        except SmcinferError as error:
            # A worker's exception may not survive the way back; its words do.
            at = ", ".join(_short(part) for part in point)
            return Outcome([], f"{error}\n  called at: {at}", time.perf_counter() - began)
    return Outcome(values, None, time.perf_counter() - began)


def ready() -> bool:
    """True, said by a worker that has started."""
    return True


class Pool:
    """An executor as it is used here: asked for outcomes in order, and tried once more after a death.

    Args:
        executor: see the module, or a function without arguments that makes one; ``None`` calls in this process.
        timeout: seconds that one call may take; ``None`` for any time.
        name: what to call the function in messages.

    Raises:
        ArgumentError: the executor is none, or has no way to wait for a time.
    """

    def __init__(self, executor: Any, timeout: float | None, name: str) -> None:
        self._timeout, self._name = timeout, name
        self._make = executor if callable(executor) and not _way(executor) else None
        self._executor: Any = _Here() if executor is None else executor
        self._started, self._seconds = executor is None, FIRST_GUESS
        if self._make is None:
            self._check(self._executor)

    def chunk(self, count: int) -> int:
        """How many of ``count`` calls to send at once, by what calls took so far."""
        if isinstance(self._executor, _Here) and self._timeout is None:
            return count
        fair = -(-count // (2 * (os.cpu_count() or 1)))
        return max(1, min(fair, int(CHUNK_SECONDS / max(self._seconds, 1e-9))))

    def run(
        self, function: Callable[..., Any], chunks: Sequence[Sequence[tuple[Any, ...]]], count: int
    ) -> tuple[list[Any], float]:
        """Values of all calls, chunk by chunk, and the seconds that workers spent on them.

        Args:
            function: what is called.
            chunks: arguments of the calls that are sent together.
            count: points in all chunks: one call may be of several.

        Raises:
            TargetError: a call raised, or took too long, or workers died twice.
        """
        jobs = [(function, self._name, chunk) for chunk in chunks]
        found: list[Outcome | None] = [None] * len(jobs)
        failed = self._attempt(jobs, found, list(range(len(jobs))))
        if failed:
            # A dead worker takes its chunk along, or the whole pool with it.
            self._started = self._started and self._make is None
            failed = self._attempt(jobs, found, list(failed))
        if failed:
            raise self._lost(failed, len(jobs))
        outcomes = [outcome for outcome in found if outcome is not None]
        for outcome in outcomes:
            if outcome.raised is not None:
                raise TargetError(outcome.raised)
        seconds = sum(outcome.seconds for outcome in outcomes)
        self._seconds = seconds / count
        return [value for outcome in outcomes for value in outcome.values], seconds

    def _attempt(
        self, jobs: list[tuple[Any, ...]], found: list[Outcome | None], wanted: list[int]
    ) -> dict[int, Exception]:
        """Send some of the jobs and keep what comes back; what the executor itself raised, by job."""
        failed: dict[int, Exception] = {}
        waiting: dict[int, Callable[[float | None], Any]] = {}
        # What a function of the user's raises comes back as an outcome: what is caught here is the executor's.
        try:
            self._start()
            if _way(self._executor) == "map":
                outcomes = list(self._executor.map(_Spread(evaluate), [jobs[place] for place in wanted]))
                found[:] = [outcomes[wanted.index(at)] if at in wanted else old for at, old in enumerate(found)]
                return {}
            for place in wanted:
                waiting[place] = self._send(evaluate, jobs[place])
        except SmcinferError:
            raise
        except Exception as error:
            failed = {place: error for place in wanted if place not in waiting}
        for place, receive in waiting.items():
            try:
                found[place] = receive(None if self._timeout is None else self._timeout * len(jobs[place][2]))
            except Exception as error:
                if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
                    raise self._hangs() from error
                failed[place] = error
        return failed

    def _start(self) -> None:
        """Make the executor where it is to be made, and wait for a first worker: a time-out is of calls alone."""
        if self._started:
            return
        if self._make is not None:
            self._executor = self._make()
            self._check(self._executor)
        if _way(self._executor) != "map":
            self._send(ready, ())(START_SECONDS)
        self._started = True

    def _send(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[float | None], Any]:
        if _way(self._executor) == "submit":
            return self._executor.submit(function, *arguments).result
        return self._executor.apply_async(function, arguments).get

    def _check(self, executor: Any) -> None:
        way = _way(executor)
        if not way:
            raise ArgumentError(
                "executor is none",
                expected="an object with submit, apply_async or map, a function that makes one, or None",
                got=type(executor).__name__,
            )
        if way == "map" and self._timeout is not None:
            raise ArgumentError(
                "an executor that has map alone cannot say that a call takes too long",
                expected="timeout=None, or an executor with submit or apply_async",
                got=f"timeout={self._timeout:g}",
            )

    def _hangs(self) -> TargetError:
        # A process that hangs would keep its pool, and so the program, from ending.
        for process in list((getattr(self._executor, "_processes", None) or {}).values()):
            process.kill()
        return TargetError(
            f"{self._name} hangs",
            expected=f"an answer within timeout={self._timeout:g} s a call",
            got="none",
            hint="raise timeout, or call it by hand; a run with a checkpoint goes on from where it was saved",
        )

    def _lost(self, failed: dict[int, Exception], count: int) -> TargetError:
        error = next(iter(failed.values()))
        return TargetError(
            f"the executor failed twice under {self._name}: {type(error).__name__}: {error}",
            expected="workers that live, and that can import the function: one at the top level of a module",
            got=f"{len(failed)} of {count} pieces of work lost",
            hint="executor=a function that makes one is called anew after a death; "
            "a run with a checkpoint goes on from where it was saved, with another executor",
        )


class _Here:
    """The executor that is none: calls in this process, when they are waited for."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "_Later":
        return _Later(function, arguments)


class _Later(NamedTuple):
    """A call that is yet to be made."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def result(self, timeout: float | None) -> Any:
        """Make it; in a thread of its own where it may be given up."""
        if timeout is None:
            return self.function(*self.arguments)
        found: list[Any] = []
        # A daemon: a call that hangs for ever does not keep the program from ending.
        thread = threading.Thread(target=lambda: found.append(self.function(*self.arguments)), daemon=True)
        thread.start()
        thread.join(timeout)
        if not found:
            raise TimeoutError
        return found[0]


class _Spread(NamedTuple):
    """A function of one tuple of arguments."""

    function: Callable[..., Any]

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        return self.function(*arguments)


def _way(executor: Any) -> str:
    """How an executor is asked: the method it has, or nothing."""
    return next((way for way in ("submit", "apply_async", "map") if callable(getattr(executor, way, None))), "")


def _short(part: Any) -> str:
    text = " ".join(repr(part).split())
    return text if len(text) < 200 else text[:197] + "..."
