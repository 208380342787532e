"""Generation under constraints: how exact, how valid, how many calls, against masking alone and genlm-control.

    python -m benchmarks.constraints [--quick]

- Exactness: twelve texts under a language model, their law summed over every way to cut them into tokens; total variation of
  local masking, of SMC, and of both with a learned twist on top of the mask.
- Validity: patterns of genlm-eval that a finite automaton can hold to, every third, JSON schemas, and SMILES.
- Calls: adaptive rejection over the vocabulary of GPT-2, on the bigram laws of a text, for predicates on the next word.
- Syntax: labelled bracket F1 of one posterior draw a tree (`benchmarks.constraints_rows_syntax`).

The story model is the package's own. Patterns, GPT-2's vocabulary and the text lie in the reference data; without them their
figures are null. The peer runs in the interpreter that ``GENLM_PYTHON`` names, or in this one where it is installed; else its
figure is null.
"""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from benchmarks.timing import measure, measure_host, parse_quick, print_json
from smcinfer import twists
from smcinfer.ground.errors import ArgumentError
from smcinfer.language import constraints
from smcinfer.language.constraints.awrs import draws_accepted
from smcinfer.language.constraints.vocabulary import read_vocabulary
from smcinfer.language.decoding.next_byte import END, next_byte
from smcinfer.models import stories
from smcinfer.run.runner import run

SHARED = Path(os.environ.get("SMCINFER_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
PROMPT = "Once upon a time, there was a little"
ENDINGS = [
    " girl", " boy", " dog", " cat", " bird", " bear", " girl named Lily", " boy named Tim", " cat named Tom",
    " mouse", " fish in the sea", " house",
]  # fmt: skip
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]},
    {"type": "array", "items": {"enum": ["cat", "dog", "sun"]}, "minItems": 1, "maxItems": 3},
    {"enum": ["yes", "no", 3, None]},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
]
SMILES = r"""
start: chain
chain: atom (bond? (atom | branch | ring))*
branch: "(" bond? chain ")"
atom: "Br" | "Cl" | "B" | "C" | "N" | "O" | "S" | "P" | "F" | "I" | "c" | "n" | "o" | "s" | bracket
bracket: "[" ("C" | "N" | "O" | "S" | "P") ("@" "@"?)? ("H" ("1".."4")?)? ("+" | "-")? "]"
bond: "-" | "=" | "#"
ring: "1".."9"
"""


def exactness(pretrained: Any, runs: int) -> dict[str, float]:
    """Total variation to the exact law of the endings and spread of log Z, by the mask and with a learned twist on top."""
    # A sentence ends with its period: what comes after it is of no interest here.
    period = pretrained.tokenizer.encode_plain(".")[-1]
    constraint = constraints.allowed_texts(ENDINGS, pretrained, period)
    model = constraints.constrained(pretrained, PROMPT, constraint, max_tokens=18, eos_id=period)
    exact = _exact_law(pretrained, period)

    def variation(model: Any, particles: int, runs: int) -> tuple[float, float, float]:
        done = run(jax.random.key(0), model, particles, num_runs=runs, resample_below=0.5 if particles > 1 else 0.0)
        weights = np.exp(np.asarray(done.log_weights, np.float64))
        state = done.particles.state
        rows = zip(np.asarray(state.tokens).reshape(weights.size, -1), np.asarray(state.length).ravel(), strict=True)
        found = _law_of(pretrained, [row[: size - 1] for row, size in rows], weights.ravel() / runs)
        seconds = float(done.seconds - done.compile_seconds) / runs
        return 0.5 * float(np.abs(found - exact).sum()), float(np.asarray(done.log_z).std()), seconds

    head = twists.linear_head(pretrained.lm.dim, pretrained.lm.vocab_size)
    learned = twists.learn(
        jax.random.key(1), model, twist=constraints.under_constraint(model, head), num_steps=60, validate=False
    )
    twisted = learned.attach(model)
    # One particle weighs one whatever its weight: the law of the proposal itself.
    rows = {
        "local_mask": variation(model, 1, 8 * runs),
        "smc8": variation(model, 8, 2 * runs),
        "smc64": variation(model, 64, runs),
        "twisted_alone": variation(twisted, 1, 8 * runs),
        "twisted_smc8": variation(twisted, 8, 2 * runs),
        "twisted_smc64": variation(twisted, 64, runs),
    }
    draws = np.random.default_rng(0).multinomial(8 * runs, exact) / (8 * runs)
    return {
        **{f"tv_{name}": row[0] for name, row in rows.items()},
        "tv_floor_of_exact_draws": 0.5 * float(np.abs(draws - exact).sum()),
        **{f"log_z_sd_{name}": row[1] for name, row in rows.items()},
        "smc64_seconds_a_run": rows["smc64"][2],
        "twist_learned_in_seconds": learned.seconds,
    }


def _exact_law(pretrained: Any, period: int) -> np.ndarray:
    """P(ending and then the period), over every cut of the ending into tokens."""
    prompt = pretrained.tokenizer.encode(PROMPT)
    said = [next_byte(pretrained, ending, prompt=prompt, eos_id=period, num_beams=256) for ending in ENDINGS]
    joint = np.array([found.log_text + found.log_probabilities[END] for found in said])
    return np.exp(joint - np.logaddexp.reduce(joint))


def _law_of(pretrained: Any, rows: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Share of each ending among weighted sequences, their period left out."""
    words, _ = read_vocabulary(pretrained)
    place = {ending.encode(): index for index, ending in enumerate(ENDINGS)}
    law = np.zeros(len(ENDINGS))
    for row, weight in zip(rows, weights, strict=True):
        if weight > 0:
            law[place[b"".join(words[token] for token in row)]] += weight
    return law


def validity(pretrained: Any, quick: bool) -> dict[str, Any]:
    """Share of finished texts that keep to what was asked, judged by a reader that the sampler does not use."""
    words, _ = read_vocabulary(pretrained)
    valid = finished = 0
    supported: list[str] = []
    refused: dict[str, int] = {}

    def judge(constraint: Any, check: Any, max_tokens: int = 40) -> None:
        nonlocal valid, finished
        model = constraints.constrained(pretrained, PROMPT, constraint, max_tokens=max_tokens, end="force")
        done = run(jax.random.key(0), model, 16)
        state = done.particles.state
        alive = np.isfinite(np.asarray(done.log_weights) + np.asarray(done.log_z)[:, None])[0]
        alive &= np.asarray(state.finished)[0]
        for row, length in zip(np.asarray(state.tokens)[0][alive], np.asarray(state.length)[0][alive], strict=True):
            text = b"".join(words[token] for token in row[:length])
            finished += 1
            valid += bool(check(text.decode(errors="replace")))

    patterns = SHARED / "constrained" / "patterns.csv"
    if patterns.exists():
        with patterns.open(encoding="utf8", newline="") as file:
            for (pattern,) in list(csv.reader(file))[1:]:
                try:
                    constraint = constraints.regex(pattern, pretrained)
                except ArgumentError as error:
                    reason = _reason(str(error))
                    refused[reason] = refused.get(reason, 0) + 1
                    continue
                supported.append(pattern)
                if len(supported) % (48 if quick else 3):
                    continue
                try:
                    reader = re.compile(pattern)
                except re.error:
                    continue
                judge(constraint, lambda text, reader=reader: reader.fullmatch(text) is not None)
    for schema in SCHEMAS[: 2 if quick else None]:
        judge(
            constraints.json_schema(schema, pretrained), lambda text, schema=schema: _keeps_to(json.loads(text), schema)
        )
    smiles = constraints.lark(SMILES, pretrained)
    judge(smiles, lambda text: text.count("(") == text.count(")") and re.fullmatch(r"[A-Za-z0-9@+\-=#\[\]()]+", text))
    return {
        "valid_share": valid / finished if finished else None,
        "finished": finished,
        "patterns_supported": len(supported) if supported else None,
        "patterns_refused": refused,
    }


def _reason(message: str) -> str:
    """Why a pattern was refused, in a few words."""
    known = {
        "a reference to a group": "references to groups of many texts",
        "calls itself": "recursion",
        "a loop around": "loops around look-arounds, atomic groups or references",
        "atomic": "atomic groups with several loops",
        "reach across": "look-arounds that reach across one another",
        "property": "Unicode properties that Rust's engine does not know",
        "inside of something": "references into look-arounds",
    }
    return next((reason for words, reason in known.items() if words in message), "other syntax")


def _keeps_to(value: Any, schema: dict[str, Any]) -> bool:
    """The few words of JSON Schema that `SCHEMAS` uses."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    if "enum" in schema:
        return value in schema["enum"]
    if not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, dict):
        named = schema.get("properties", {})
        return set(schema.get("required", ())) <= set(value) and all(
            _keeps_to(value[name], named[name]) for name in value if name in named
        )
    if isinstance(value, list):
        inside = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return inside and all(_keeps_to(item, schema["items"]) for item in value)
    return not isinstance(value, str) or len(value) <= schema.get("maxLength", len(value))


LANES = 64
"""Draws at a time where a figure is of a batch: particles of ours, concurrent tasks of the peer's."""


def rejection(quick: bool) -> dict[str, Any]:
    """Calls a token over a large vocabulary, and seconds a draw beside the peer's: one alone, and `LANES` at a time.

    Every draw has a law of its own, as particles have. Normalising it is part of the time, on both sides.
    """
    folder, text = SHARED / "language_models" / "gpt2_tokenizer", SHARED / "text" / "tinystories_cased_2MB.txt"
    if not folder.exists() or not text.exists():
        print(f"no vocabulary of GPT-2 in {folder}: no figures of rejection")
        return {"awrs_calls_over_vocabulary": None, "awrs_speed_over_genlm": None}
    log_p, words = _bigrams(folder, text, LANES)
    predicates = {
        "no letter e": np.array([b"e" not in word for word in words]),
        "at most four letters": np.array([len(word.strip()) <= 4 for word in words]),
        "capital first": np.array([word.strip()[:1].isupper() for word in words]),
        "begins with s": np.array([word.strip()[:1] == b"s" for word in words]),
    }
    timed = dict(list(predicates.items())[: 1 if quick else None])
    table: dict[str, dict[str, Any]] = {}
    for name, accepted in predicates.items():
        draw = jax.jit(_draw(accepted))
        drawn = [draw(key, jnp.asarray(log_p)) for key in jax.random.split(jax.random.key(0), 32)]
        row = {
            "calls_over_vocabulary": float(np.mean([each.num_calls for each in drawn])) / len(words),
            "mass": float(np.exp(log_p)[:, accepted].sum(1).mean()),
            "mass_estimated": float(np.mean([np.exp(each.log_weight) for each in drawn])),
        }
        if name in timed:
            row |= _seconds(accepted, log_p)
        table[name] = row
    peers = _peer(log_p, np.stack(list(timed.values())))
    for name, peer in zip(timed, peers, strict=True):
        table[name] |= peer | {
            f"speed_over_genlm_{kind}": peer[f"genlm_seconds_{kind}"] / table[name][f"seconds_{kind}"]
            for kind in ("alone", "of_many")
            if peer
        }
    for name, row in table.items():
        print(f"{name:22s}", ", ".join(f"{what} {value:.3g}" for what, value in row.items()))
    shares = [row["calls_over_vocabulary"] for row in table.values()]
    first = table["no letter e"]
    return {
        "awrs_calls_over_vocabulary": float(np.mean(shares)),
        "awrs_calls_over_vocabulary_worst": float(np.max(shares)),
        "vocabulary": len(words),
        "awrs_speed_over_genlm": first.get("speed_over_genlm_of_many"),
        "awrs_speed_over_genlm_alone": first.get("speed_over_genlm_alone"),
        "awrs": table,
    }


def _draw(accepted: np.ndarray) -> Any:
    """One draw from every law."""
    table = jnp.asarray(accepted)

    def draw(key: Any, log_p: Any) -> Any:
        return draws_accepted(jax.random.split(key, log_p.shape[0]), log_p, lambda _, token, active: table[token])

    return draw


def _seconds(accepted: np.ndarray, log_p: np.ndarray) -> dict[str, float]:
    """Median seconds a draw of ours: by a JAX predicate, and by the peer's own, a set that Python looks into."""
    key, chosen = jax.random.key(1), set(np.flatnonzero(accepted).tolist())

    def ask(token: Any, active: Any) -> np.ndarray:
        found = np.zeros(token.shape, bool)
        for place in np.flatnonzero(active):
            found.flat[place] = int(token.flat[place]) in chosen
        return found

    def on_host(_: Any, token: Any, active: Any) -> Any:
        shape = jax.ShapeDtypeStruct((), jnp.bool_)
        return jax.pure_callback(
            lambda *given: ask(*map(np.asarray, given)), shape, token, active, vmap_method="broadcast_all"
        )

    def hosted(key: Any, log_p: Any) -> Any:
        return draws_accepted(jax.random.split(key, log_p.shape[0]), log_p, on_host)

    one = jax.jit(_draw(accepted))
    alone = [measure_host(one, key, jnp.asarray(row[None]), repeats=5).median_s for row in log_p]
    many = {
        name: measure(function, key, jnp.asarray(log_p), repeats=9).median_s / len(log_p)
        for name, function in {"seconds_of_many": _draw(accepted), "seconds_of_many_asked_on_host": hosted}.items()
    }
    return {"seconds_alone": float(np.median(alone))} | many


def _bigrams(folder: Path, text: Path, count: int) -> tuple[np.ndarray, list[bytes]]:
    """Laws of the next token after random tokens of a text: bigram counts, smoothed by single counts."""
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf8"))
    coder = tokenizers.ByteLevelBPETokenizer(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    ids = np.asarray(coder.encode(text.read_text(encoding="utf8")[:1_000_000]).ids)
    size = max(vocabulary.values()) + 1
    words = [coder.decode([index]).encode() for index in range(size)]
    single = np.bincount(ids, minlength=size) + 0.01
    single /= single.sum()
    laws = []
    for context in np.random.default_rng(0).choice(ids[:-1], size=count):
        after = np.bincount(ids[1:][ids[:-1] == context], minlength=size)
        laws.append(np.log((after + 5 * single) / (after.sum() + 5)))
    return np.asarray(laws, np.float32), words


def _peer(log_p: np.ndarray, accepted: np.ndarray) -> list[dict[str, float]]:
    """Seconds a draw of genlm-control for every predicate; nothing where it is not installed, with the reason printed."""
    python = os.environ.get("GENLM_PYTHON") or (sys.executable if importlib.util.find_spec("genlm") else None)
    if python is None:
        print("genlm-control is not installed: set GENLM_PYTHON to an interpreter that has it")
        return [{}] * len(accepted)
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "cases.npz"
        np.savez(cases, log_p=log_p, accepted=accepted)
        program = Path(__file__).parent / "peers" / "genlm_rejection.py"
        done = subprocess.run([python, program, cases], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    quick = parse_quick(__doc__ or "")
    pretrained = stories.load()
    exact = exactness(pretrained, 50 if quick else 500)
    figures = exact | {"tv_smc64_over_local_mask": exact["tv_smc64"] / exact["tv_local_mask"]}
    figures |= validity(pretrained, quick) | rejection(quick)
    from benchmarks.constraints_rows_syntax import syntax_rows

    syntax = syntax_rows(quick)
    for entry in syntax["table"].values():
        entry.pop("examples")
    figures |= syntax
    first = ("awrs_calls_over_vocabulary", "valid_share", "tv_smc64_over_local_mask", "syntax_f1")
    print_json({name: figures.pop(name) for name in first} | figures)


if __name__ == "__main__":
    main()
