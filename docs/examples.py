"""The pages' examples: found, run, and their printed output kept true.

A ```python block is run, all blocks of a page one after the other in one namespace. A ```text block that follows one
directly is what it prints. ``python docs/examples.py`` rewrites those blocks.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

EXAMPLE = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One block of code, what the page says it prints (or ``None``), and where the code starts."""

    code: str
    output: str | None
    line: int


def examples(page: Path) -> list[Example]:
    """The examples of a page, in order."""
    text = page.read_text(encoding="utf8")
    return [
        Example(match["code"], match["output"], text.count("\n", 0, match.start("code")))
        for match in EXAMPLE.finditer(text)
    ]


def run(page: Path) -> list[str]:
    """What each example of a page prints, run in the current folder."""
    namespace: dict[str, Any] = {"__name__": "__example__"}
    printed = []
    for example in examples(page):
        # Empty lines in front make a traceback name the page's own line.
        program = compile("\n" * example.line + example.code, str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(program, namespace)
        printed.append("\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n")
    return printed


def update(page: Path) -> None:
    """Rewrite the outputs on a page."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = iter(run(page))

    def fill(match: re.Match[str]) -> str:
        output = next(printed)
        block = f"```python\n{match['code']}```\n"
        return block if match["output"] is None else f"{block}\n```text\n{output}```\n"

    page.write_text(EXAMPLE.sub(fill, page.read_text(encoding="utf8")), encoding="utf8")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    for path in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
        update(path)
        print(f"ran {path.relative_to(ROOT)}")
