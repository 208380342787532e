"""Pages of a folder as a headless chromium sees them: a probe measures the page once it is loaded, and posts what it found.

The browser's only interface here is its command line, so that nothing else has to be installed.
"""

import json
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_SECONDS = 180.0

# Faults are listened for before any script of the page; the rest is looked at when all is there.
LISTEN = "<script>window.faults = []; addEventListener('error', e => faults.push(e.message || e.target.src || '?'), true)</script>"
PROBE = """<script>addEventListener("load", async () => {
  const wait = ms => new Promise(done => setTimeout(done, ms));
  await wait(1500);
  const query = document.querySelector("[data-md-component=search-query]");
  let found = 0;
  if (query && SEARCH) {
    query.focus(); query.value = SEARCH; query.dispatchEvent(new Event("keyup")); query.dispatchEvent(new Event("input"));
    await wait(2500);
    found = document.querySelectorAll(".md-search-result__item").length;
  }
  const root = document.documentElement, formulas = [...document.querySelectorAll(".arithmatex")];
  await fetch("/found", { method: "POST", body: JSON.stringify({
    faults, found, formulas: formulas.length,
    rendered: formulas.filter(one => one.querySelector(".katex")).length,
    wrong: [...document.querySelectorAll(".katex-error")].map(one => one.title),
    broken: [...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src),
    overflow: root.scrollWidth - root.clientWidth,
    bytes: performance.getEntriesByType("resource").reduce((sum, one) => sum + one.encodedBodySize, 0),
  }) });
})</script>"""


FRAME = "<!doctype html><body style='margin:0'><iframe src='/{page}' style='border:0;width:{width}px;height:1600px'></iframe>"
"""A page as wide as a phone: a browser's own window is never narrower than 500 pixels."""


class Probed(SimpleHTTPRequestHandler):
    """Files of a folder, HTML with the probe in it."""

    search = ""

    def do_GET(self) -> None:
        framed = re.fullmatch(r"/frame-(\d+)/(.*)", self.path)
        if framed is not None:
            self._answer(FRAME.format(width=framed[1], page=framed[2]))
            return
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if path.suffix != ".html" or not path.exists():
            super().do_GET()
            return
        text = path.read_text(encoding="utf8").replace("<head>", f"<head>{LISTEN}", 1)
        self._answer(text + PROBE.replace("SEARCH", json.dumps(self.search)))

    def do_POST(self) -> None:
        server: Any = self.server
        server.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer("")

    def _answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Files of a folder, and what probes found on them."""

    def __init__(self, folder: Path, search: str) -> None:
        self.found: queue.Queue[dict[str, Any]] = queue.Queue()
        kind = type("Searching", (Probed,), {"search": search})
        super().__init__(("127.0.0.1", 0), partial(kind, directory=str(folder)))


@contextmanager
def served(folder: Path, search: str = "") -> Iterator[Server]:
    """A folder on loopback while the block runs.

    Args:
        folder: of pages.
        search: what the probe looks up on every page; nothing where empty.
    """
    with Server(folder, search) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def seen(server: Server, page: str, width: int, picture: Path | None = None) -> dict[str, Any]:
    """What the probe found on a page.

    Args:
        server: of the pages.
        page: below its folder.
        width: of the page, pixels.
        picture: where to keep a screenshot.
    """
    assert BROWSER is not None, "the caller has looked"
    address = f"http://127.0.0.1:{server.server_address[1]}/frame-{width}/{page}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            "--window-size=1366,1600",
        ]  # fmt: skip
        process = subprocess.Popen([*command, "--remote-debugging-port=0", address], stderr=subprocess.DEVNULL)
        try:
            found = server.found.get(timeout=WAIT_SECONDS)
        finally:
            process.terminate()
            process.wait()
        if picture is not None:
            shot = [*command, "--virtual-time-budget=6000", f"--screenshot={picture}", address]
            subprocess.run(shot, capture_output=True, timeout=WAIT_SECONDS, check=True)
    return found
