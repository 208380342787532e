"""Puts KaTeX beside the pages, out of its npm package, so that mathematics is shown where there is no network.

    python -m docs.katex

What is there already is left as it is. Where the package cannot be had, the site is built all the same and shows LaTeX as text.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "0.16.47"
FOLDER = Path(__file__).resolve().parent / "javascripts" / "katex"
WANTED = ("katex.min.js", "katex.min.css", "auto-render.min.js")


def main() -> None:
    """Fetch the package and keep what a browser asks for."""
    if all((FOLDER / name).exists() for name in WANTED):
        return
    npm = shutil.which("npm")
    if npm is None:
        print("docs.katex: npm is not installed: mathematics stays LaTeX", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            [npm, "pack", f"katex@{VERSION}", "--silent"], cwd=folder, capture_output=True, text=True
        )
        if packed.returncode:
            print(f"docs.katex: {packed.stderr.strip()}: mathematics stays LaTeX", file=sys.stderr)
            return
        with tarfile.open(Path(folder, packed.stdout.split()[-1])) as archive:
            archive.extractall(folder, filter="data")
        keep(Path(folder, "package", "dist"))


def keep(dist: Path) -> None:
    """Copy scripts, the style sheet and its fonts.

    Args:
        dist: the package's folder of built files.
    """
    (FOLDER / "fonts").mkdir(parents=True, exist_ok=True)
    for font in (dist / "fonts").glob("*.woff2"):
        shutil.copy(font, FOLDER / "fonts")
    for name in WANTED:
        shutil.copy(next(dist.rglob(name)), FOLDER)


if __name__ == "__main__":
    main()
