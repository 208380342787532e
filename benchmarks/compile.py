"""What a first result costs: CPU seconds of tracing, lowering and compiling, by family and program, in new processes.

On a CPU the price of a program is that of its kernels: about ten milliseconds for each that is unlike the others, and half a
millisecond for each of their instructions. Both are counted from what XLA says it compiled. The columns of seconds are CPU
seconds, which other work on the machine does not stretch. PyMC runs in the interpreter that ``PYMC_PYTHON`` names, or in this
one where it is installed; else its figure is null.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.compile_families import FAMILIES, KINDS
from benchmarks.timing import print_json

ROOT = Path(__file__).resolve().parent.parent
QUICK = ("readme",)


class Counted(Counter[str]):
    """Instructions, kernels of all kinds, and kernels unlike all others of one program."""


def in_a_new_process(family: str, level: int | None, dump: Path | None = None, **environment: str) -> dict[str, Any]:
    """`compile_families.measured` of a family in a process of its own.

    Args:
        family: its name.
        level: of ``--xla_backend_optimization_level``; the default where ``None``.
        dump: a folder for what XLA compiled.
        **environment: variables of the process.
    """
    flags = [] if level is None else [f"--xla_backend_optimization_level={level}"]
    flags += (
        [] if dump is None else [f"--xla_dump_to={dump}", "--xla_dump_hlo_as_text", "--xla_dump_hlo_as_long_text=false"]
    )
    known = (
        os.environ | {"XLA_FLAGS": " ".join(flags), "PYTHONPATH": str(ROOT), "SMCINFER_CACHE_DIR": "off"} | environment
    )
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.compile_families", family],
        env=known,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f"{family} failed:\n{run.stderr[-3000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def counted(folder: Path) -> dict[str, Counted]:
    """What XLA compiled, by program, from its dump."""
    found: dict[str, Counted] = {}
    for path in sorted(folder.glob("*after_optimizations.txt")):
        text = path.read_text()
        name = re.sub(r"^module_\d+\.jit_(.*)\.\w+_after_optimizations$", r"\1", path.stem)
        bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.-]+)[^\n]* ?\{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE))
        kernels = re.findall(r" fusion\(.*calls=%?([\w.-]+)", text)
        plain = {re.sub(r"metadata=\{[^}]*\}|%?[\w-]+\.[\d.]+", "", bodies[kernel]) for kernel in kernels}
        row = Counted(instructions=text.count(" = "), kernels=len(kernels), unlike=len(plain))
        found[name] = Counted(found.get(name, Counted()) + row)
    return found


def table(family: str, run: dict[str, Any], counts: dict[str, Counted]) -> None:
    """A family's programs, dearest first; those that cost less than a tenth of a second together in one line."""
    seconds = "  trace  lower    xla"
    print(f"\n{family:13} programs{seconds}   instructions  kernels  unlike")
    rows = {name: row for name, row in run["programs"].items() if sum(row[kind] for kind in KINDS.values()) >= 0.1}
    small: Counter[str] = Counter()
    for name, row in run["programs"].items():
        if name not in rows:
            small.update(row)
    ordered = sorted(rows.items(), key=lambda item: -sum(item[1][kind] for kind in KINDS.values()))
    for name, row in [*ordered, ("the others", small)]:
        size = counts.get(name, Counted())
        seconds = " ".join(f"{row[kind]:6.2f}" for kind in KINDS.values())
        shape = f"{size['instructions'] or '':>12} {size['kernels'] or '':>8} {size['unlike'] or '':>7}"
        print(f"  {name[:18]:18} {int(row['count']):2d} {seconds}   {shape}")
    imports = f"imports {run['import_jax']:.2f} + {run['import_smcinfer']:.2f}"
    print(f"  {imports}, all else {run['rest']:.2f}, total {run['total']:.2f}", flush=True)


def compiling(run: dict[str, Any]) -> float:
    """CPU seconds of tracing, lowering and XLA together."""
    return sum(row[kind] for row in run["programs"].values() for kind in KINDS.values())


def main() -> None:
    """Print a table a family, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=None)
    parser.add_argument("--level", type=int, default=None, help="of --xla_backend_optimization_level; the tests use 0")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for family in options.families or (QUICK if options.quick else FAMILIES):
        run = in_a_new_process(family, options.level)
        counts: dict[str, Counted] = {}
        if not options.quick:
            with tempfile.TemporaryDirectory() as folder:
                in_a_new_process(family, options.level, Path(folder))
                counts = counted(Path(folder))
        table(family, run, counts)
        figures[family] = {
            "compile_cpu_seconds": compiling(run),
            "programs": sum(row["count"] for row in run["programs"].values()),
            "total_cpu_seconds": run["total"],
        }
    print_json(first_result(options.level) | figures if options.families is None else figures)


def first_result(level: int | None) -> dict[str, Any]:
    """Ratios of the README's first example: to peers, to itself with a cache, of imports; and what new data compile.

    Args:
        level: of optimisation, as in `in_a_new_process`.
    """
    cold, peer, pymc = in_a_new_process("readme", level), in_a_new_process("nuts", level), pymc_seconds()
    with tempfile.TemporaryDirectory() as folder:
        in_a_new_process("readme", level, SMCINFER_CACHE_DIR=folder)
        warm = in_a_new_process("readme", level, SMCINFER_CACHE_DIR=folder)
    # The peer needs no smcinfer, which its process imports all the same.
    return {
        "readme_first_seconds_ratio_numpyro": cold["total"] / (peer["total"] - peer["import_smcinfer"]),
        "readme_first_seconds_ratio_pymc": None if pymc is None else cold["total"] / pymc,
        "readme_first_cpu_seconds": cold["total"],
        "second_process_seconds_ratio": warm["total"] / cold["total"],
        "recompiles_new_data": int(in_a_new_process("new_data", level)["printed"]),
        "import_seconds_ratio_jax": 1.0 + cold["import_smcinfer"] / cold["import_jax"],
        "programs": sum(row["count"] for row in cold["programs"].values()),
    }


def pymc_seconds() -> float | None:
    """CPU seconds of PyMC on the README's first example; ``None`` where it is not installed, with the reason printed."""
    python = os.environ.get("PYMC_PYTHON") or (sys.executable if importlib.util.find_spec("pymc") else None)
    if python is None:
        print("PyMC is not installed: set PYMC_PYTHON to an interpreter that has it")
        return None
    program = Path(__file__).parent / "peers" / "pymc_line.py"
    done = subprocess.run([python, program], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["total"])


if __name__ == "__main__":
    main()
