"""What every benchmark shares: compiling apart from running, medians, and the last line of JSON."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """How long one function took.

    Attributes:
        compile_s: seconds to trace and compile; zero for a function that is not compiled.
        median_s: median seconds of a call.
        least_s: seconds of the fastest call: nearer the truth where other work shares the machine.
    """

    compile_s: float
    median_s: float
    least_s: float


def measure(function: Callable[..., Any], *args: Any, repeats: int = 7) -> Timing:
    """Compile ``function`` for ``args``, call it once unmeasured, then ``repeats`` times."""
    return measure_together({"": function}, *args, repeats=repeats)[""]


def measure_together(functions: Mapping[str, Callable[..., Any]], *args: Any, repeats: int = 7) -> dict[str, Timing]:
    """`measure` of several functions of the same arguments, in turns, so that a busy moment hits them all.

    Args:
        functions: what to compile and call, by name.
        args: pytrees of arrays; anything static belongs in a closure.
        repeats: calls of each that count, at least five.
    """
    if repeats < 5:
        raise ValueError(f"a median of fewer than five calls says little: repeats = {repeats}")
    compiled, compile_s = {}, {}
    for name, function in functions.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*args).compile()
        compile_s[name] = time.perf_counter() - start
        jax.block_until_ready(compiled[name](*args))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, call in compiled.items():
            seconds[name].append(call_s(call, *args))
    return {name: Timing(compile_s[name], statistics.median(all_s), min(all_s)) for name, all_s in seconds.items()}


def measure_host(function: Callable[..., Any], *args: Any, repeats: int = 7) -> Timing:
    """Time a function that is no JAX function (a peer in plain Python), after one unmeasured call."""
    call_s(function, *args)
    all_s = [call_s(function, *args) for _ in range(repeats)]
    return Timing(0.0, statistics.median(all_s), min(all_s))


def call_s(function: Callable[..., Any], *args: Any) -> float:
    """Seconds of one call, until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def parse_quick(description: str = "") -> bool:
    """Whether ``--quick`` was asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="end within fifty seconds")
    return parser.parse_args().quick


def print_json(figures: Mapping[str, Any]) -> None:
    """The last line of a benchmark: one JSON object, floats to four significant digits."""
    print(json.dumps(_rounded(figures)), flush=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    return float(f"{float(value):.4g}")
