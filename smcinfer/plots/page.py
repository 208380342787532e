"""A record as one page: what log Z is, how far to trust it, the variables, every figure, the settings; no network is needed."""

import base64
import html
import io
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from smcinfer.core.status import explain
from smcinfer.ground import validate
from smcinfer.ground.files import check_writable, write_whole
from smcinfer.ground.version import package_version
from smcinfer.plots.posterior import figures
from smcinfer.results import Record
from smcinfer.results.estimates import Estimates
from smcinfer.results.summary import summary_table

MOST_ROWS = 60
"""Rows of the table of variables; the file of the record has them all."""

DPI = 100
PACKAGES = ("smcinfer", "jax", "numpyro", "blackjax", "numpy", "arviz")

LOOK_FOR = {
    "ess_temperature": "An effective sample size that collapses at one step: a place where the density changes abruptly.",
    "log_z": "One run that leaves the others: a mode that the others missed.",
    "filter": "Observations outside the band more often than its level says: a model that is too sure.",
    "genealogy": "All lines through one particle: what was drawn before it is known by one draw alone.",
    "weights": "One particle with most of the weight: means are its values.",
    "posterior_trace_dist": "Runs whose curves differ: they have not found the same law.",
    "posterior_dist": "More modes, or longer tails, than the model was meant to have.",
    "posterior_forest": "Intervals that hardly overlap among parameters that were meant to be alike.",
    "posterior_rank": "Ranks of one run that lean to a side: runs disagree.",
    "posterior_pair": "Lines and bananas: parameters that the data tell only together.",
}

STYLE = """
:root { color-scheme: light dark; --line: #8884; --wrong: #b3261e; --fine: #1b6e3c }
@media (prefers-color-scheme: dark) { :root { --wrong: #ff8a80; --fine: #7ddc9f } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
.z { font-size: 1.6rem; font-variant-numeric: tabular-nums } .wrong { color: var(--wrong) } .fine { color: var(--fine) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } .words td { text-align: left; white-space: normal }
figure { margin: 1.5rem 0; break-inside: avoid } figure img { max-width: 100%; height: auto; background: #fff }
figcaption { font-size: .9rem } pre { overflow-x: auto; border: 1px solid var(--line); padding: .7rem }
@media print { body { max-width: none; margin: 0 } details { display: block } }
"""


def report(record: Record, path: str | Path) -> Path:
    """Write a record as one HTML page that needs nothing else: for a colleague, a notebook of experiments, a printer.

    Args:
        record: what a run left, or `smcinfer.load` of its file.
        path: of the page, replaced where it exists.

    Returns:
        The path.

    Raises:
        ArgumentError: it is no record, or nothing can be written there.
    """
    validate.instance("record", record, Record, "what smcinfer.sample returned, or smcinfer.load of a file")
    path = check_writable(path)
    write_whole(path, page(record).encode())
    return path


def page(record: Record) -> str:
    """The page itself.

    Args:
        record: what a run left.
    """
    title, lines = record.heading, record.report_lines
    words = _table([(label, text) for label, text in lines], "words")
    parts = [f"<h1>{_text(title)}</h1>", *_certificate(record), "<h2>In full</h2>", words]
    if isinstance(record, Estimates):
        parts += [*_variables(record), "<h2>Figures</h2>", *(_figure(name, drawn) for name, drawn in figures(record))]
    parts += ["<h2>How to do it again</h2>", *_again(record)]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{_text(title)}</title>"
    body = "\n".join(parts)
    return (
        f"<!doctype html>\n<html lang=en>\n<head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _certificate(record: Record) -> Iterator[str]:
    """What the run says, how far to trust it, and what to do next."""
    if isinstance(record, Estimates):
        said = dict(record.report_lines)
        yield f"<p class=z>log Z = {_text(said['log Z'].split(' nats')[0])} nats</p>"
        low, high = record.log_z_interval(0.99)
        yield (
            f"<p>The 99% interval goes from {low:.4g} to {high:.4g}; its width is told by the error "
            f"{_text(record.evidence.source)}, over {record.num_runs} runs of {record.num_particles} particles.</p>"
        )
    yield f"<p>Weighted for {_text(record.weighted_for)}.</p>"
    trouble = explain(record.status)
    if not trouble:
        yield "<p class=fine>Nothing went wrong that the run can know of.</p>"
        return
    yield f"<p class=wrong>{'The result is wrong or partial' if record.serious else 'The error bar may be too small'}:</p>"
    yield "<ul>" + "".join(f"<li>{_text(sentence)}</li>" for sentence in trouble) + "</ul>"


def _variables(result: Estimates) -> Iterator[str]:
    table = summary_table(result)
    shown = table.head(MOST_ROWS)
    header = "".join(f"<th>{_text(name)}</th>" for name in ("variable", *shown.columns))
    rows = "".join(
        f"<tr><td>{_text(label)}</td>" + "".join(f"<td title='{value!r}'>{value:.4g}</td>" for value in row) + "</tr>"
        for label, row in zip(shown.index, shown.to_numpy().tolist(), strict=True)
    )
    yield "<h2>Variables</h2>"
    yield f"<div class=wide><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>"
    if len(table) > MOST_ROWS:
        yield f"<p>The first {MOST_ROWS} of {len(table)}: <code>result.summary()</code> has them all.</p>"


def _figure(name: str, drawn: Figure) -> str:
    stream = io.BytesIO()
    drawn.savefig(stream, dpi=DPI, bbox_inches="tight", format="png")
    data = base64.b64encode(stream.getvalue()).decode()
    words = name.replace("_", " ")
    caption = f"<b>{words}</b>. Look for: {LOOK_FOR[name]}"
    return f"<figure><img alt='{words}' src='data:image/png;base64,{data}'><figcaption>{caption}</figcaption></figure>"


def _again(record: Record) -> Iterator[str]:
    """The settings, and what was installed."""
    yield _table(sorted(_flat(record.settings)), "words")
    versions = [("python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]
    yield f"<p>Written with {_text(', '.join(f'{name} {version}' for name, version in versions))}.</p>"
    yield "<p>The same key, the same target and these settings give the same numbers, bit for bit, on one kind of device:</p>"
    yield "<pre>smcinfer.sample(key, target, ...)  # the settings above</pre>"


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        text = str(value)
        yield str(name), text if len(text) <= 200 else f"{text[:200]} ..."


def _version(name: str) -> str:
    return package_version() if name == "smcinfer" else metadata.version(name)


def _table(pairs: list[tuple[str, str]], kind: str) -> str:
    rows = "".join(f"<tr><th>{_text(label)}</th><td>{_text(text)}</td></tr>" for label, text in pairs)
    return f"<div class=wide><table class={kind}>{rows}</table></div>"


def _text(value: Any) -> str:
    return html.escape(str(value))
