"""Builds the site strictly without drawing its figures: every page, link, anchor and docstring is read, none is shown.

    python -m docs.check

A blank image stands for each figure that a page shows; `python -m docs.figures` draws them.
"""

import re
import shutil
import tempfile
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config
from PIL import Image

DOCS = Path(__file__).resolve().parent
FIGURE = re.compile(r"\]\((figures/[\w./-]+\.(?:png|gif))\)")


def main() -> None:
    """Build into a folder that is thrown away; a warning is an error that ends with exit code 1."""
    with tempfile.TemporaryDirectory() as folder:
        pages, site = Path(folder, "docs"), Path(folder, "site")
        shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("figures", "__pycache__"))
        for page in DOCS.glob("*.md"):
            for name in FIGURE.findall(page.read_text(encoding="utf8")):
                (pages / name).parent.mkdir(exist_ok=True)
                Image.new("L", (1, 1)).save(pages / name)
        build(load_config(str(DOCS.parent / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(site), strict=True))


if __name__ == "__main__":
    main()
