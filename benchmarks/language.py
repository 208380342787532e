"""SMC over a language model beside plain sampling from it, and beside other software: time, tokens a second, memory.

Ancestral sampling is a hand-written scan with the same cached network step and the same way to draw a token: what SMC costs
more is its own. `transformers` samples with its own cache (``generate``); `genlm-control` runs SMC with the same kind of
potential. Both are measured in the same run, by the Python that ``PEERS_PYTHON`` names, and are null where they are not
installed. Times are the least of calls taken in turns.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.timing import Timing, measure_together, parse_quick, print_json
from smcinfer import language
from smcinfer.core import smc
from smcinfer.core.settings import Settings
from smcinfer.language import Generation, LlamaConfig, TokenState

STORIES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "language_models" / "stories260K"
SIZES = (64, 256, 1024)
BATCHES = (1, 16, 64)
"""Sequences at a time beside `transformers`."""
PROMPT = "Once upon a time"
LARGE = LlamaConfig(
    vocab_size=32000,
    dim=384,
    mlp_dim=1024,
    num_layers=7,
    num_heads=6,
    num_kv_heads=6,
    head_dim=64,
    max_positions=512,
    windows=(None,) * 7,
    tied=True,
)
"""24.7 million parameters."""


def reward(t: jax.Array, state: TokenState) -> jax.Array:
    """A potential that differs from particle to particle at every step, nats: some resampling, as in real use."""
    del t
    return 0.3 * jnp.sin(state.last_token.astype(jnp.float32))


def smc_of(model: Generation, num_particles: int, resample_below: float) -> Callable[..., Any]:
    """The run as `smcinfer.run` compiles it: ``(key, arrays of the model) -> tokens, log weights, log Z``."""
    settings = Settings(num_particles, resample_below=resample_below, history="none")
    static = eqx.filter(model, eqx.is_array, inverse=True)

    def sample(key: jax.Array, arrays: Any) -> Any:
        full = eqx.combine(arrays, static)
        state, _ = smc.init(key[None], full, settings)
        state, _ = smc.scan(jnp.asarray(1, jnp.int32), state, full, settings, full.num_steps)
        return state.population.particles.state.tokens, state.population.log_weights, state.log_z

    return sample


def ancestral_of(model: Generation, num_sequences: int) -> Callable[..., Any]:
    """Plain sampling by hand: the same network step in a scan, nothing weighed."""
    static = eqx.filter(model, eqx.is_array, inverse=True)

    def sample(key: jax.Array, arrays: Any) -> jax.Array:
        process: Any = eqx.combine(arrays, static).process
        lm, prefix, steps = process.lm, process.prefix, process.max_tokens

        def body(carry: Any, slot: jax.Array) -> tuple[Any, None]:
            logits, tokens, cache = carry
            x = language.draw_symbols(jax.random.fold_in(key, slot), logits)
            tokens = jax.lax.dynamic_update_index_in_dim(tokens, x, slot, 1)
            output, cache = jax.vmap(lambda x, own: lm.step(x, slot, own, prefix))(x, cache)
            return (output.logits, tokens, cache), None

        def spread(leaf: jax.Array) -> jax.Array:
            return jnp.broadcast_to(leaf, (num_sequences, *leaf.shape))

        tokens = jnp.zeros((num_sequences, steps), jnp.int32)
        start = (spread(process.first.logits), tokens, jax.tree.map(spread, lm.empty(steps)))
        return jax.lax.scan(body, start, jnp.arange(steps))[0][1]

    return sample


def over_ancestral(model: Generation, size: int, repeats: int) -> dict[str, Timing]:
    """Ancestral sampling, SMC that resamples below half of N, and SMC that resamples at every step."""
    arrays = eqx.filter(model, eqx.is_array)
    ways = {
        "ancestral": ancestral_of(model, size),
        "half": smc_of(model, size, 0.5),
        "every": smc_of(model, size, 1.0),
    }
    return measure_together(ways, jax.random.key(0), arrays, repeats=repeats)


def peak_bytes(model: Generation, size: int, steps: int) -> int:
    """Bytes that a compiled run of some of the steps holds beside its arguments, as XLA plans them."""
    settings = Settings(size, history="none")
    state = jax.eval_shape(lambda key: smc.init(key[None], model, settings)[0], jax.random.key(0))
    static = eqx.filter(model, eqx.is_array, inverse=True)

    def run(t: jax.Array, state: Any, arrays: Any) -> Any:
        return smc.scan(t, state, eqx.combine(arrays, static), settings, steps)[0]

    plan = jax.jit(run).lower(jnp.asarray(1, jnp.int32), state, eqx.filter(model, eqx.is_array)).compile()
    memory: Any = plan.memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes


def peers(task: dict[str, Any]) -> dict[str, float | None]:
    """Tokens a second of other software: `benchmarks/peers/language.py` under ``PEERS_PYTHON``, or under this Python."""
    script = Path(__file__).parent / "peers" / "language.py"
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    done = subprocess.run([python, str(script), json.dumps(task)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the peers failed:\n{done.stderr[-2000:]}")
    *said, last = done.stdout.strip().splitlines()
    print("\n".join(said))
    return json.loads(last)


def main(quick: bool) -> None:
    """Measure and print."""
    steps, repeats = (32, 5) if quick else (64, 9)
    figures: dict[str, Any] = {}
    if STORIES.is_dir():
        pretrained: Any = language.load(STORIES)
        prompt = pretrained.tokenizer.encode(PROMPT)
    else:
        print(f"{STORIES} is not there: a random model of its sizes instead")
        pretrained = language.random_llama(0, LlamaConfig(512, 64, 172, 5, 8, 4, 8, 512, (None,) * 5, tied=True))
        prompt = [1, 403, 407, 261]
    model = language.generation(pretrained, prompt, reward, max_tokens=steps, eos_id=None)
    ratios: dict[str, Any] = {"resampling_below_half": {}, "resampling_every_step": {}}
    for size in SIZES:
        timings = over_ancestral(model, size, repeats)
        base = timings["ancestral"].least_s
        ratios["resampling_below_half"][size] = timings["half"].least_s / base
        ratios["resampling_every_step"][size] = timings["every"].least_s / base
        tokens = {name: size * steps / timing.least_s for name, timing in timings.items()}
        print(f"N = {size:5d}: " + ", ".join(f"{name} {value:.0f} tokens/s" for name, value in tokens.items()))
    figures["smc_over_ancestral_time"] = ratios
    arrays = eqx.filter(model, eqx.is_array)
    runs = {str(size): smc_of(model, size, 0.5) for size in BATCHES}
    rates = {
        int(size): int(size) * steps / timing.least_s
        for size, timing in measure_together(runs, jax.random.key(0), arrays, repeats=repeats).items()
    }
    print("SMC: " + ", ".join(f"{rate:.0f} tokens/s at N = {size}" for size, rate in rates.items()))
    wide, few = (16, 16) if quick else (64, 32)
    large = language.generation(language.random_llama(0, LARGE), [1, 2, 3, 4], reward, max_tokens=few, eos_id=None)
    timing = measure_together(
        {"": smc_of(large, wide, 0.5)}, jax.random.key(0), eqx.filter(large, eqx.is_array), repeats=5
    )
    large_rate = wide * few / timing[""].least_s
    print(f"24M parameters, vocabulary 32000, N = {wide}: {large_rate:.0f} tokens/s")
    sizes = {
        "vocab_size": LARGE.vocab_size,
        "hidden_size": LARGE.dim,
        "intermediate_size": LARGE.mlp_dim,
        "num_hidden_layers": LARGE.num_layers,
        "num_attention_heads": LARGE.num_heads,
        "num_key_value_heads": LARGE.num_kv_heads,
        "max_position_embeddings": LARGE.max_positions,
        "tie_word_embeddings": True,
    }
    task = {
        "stories": str(STORIES) if STORIES.is_dir() else None,
        "prompt": PROMPT,
        "tokens": list(map(int, prompt)),
        "batches": BATCHES,
        "steps": steps,
        "large": {"config": sizes, "tokens": [1, 2, 3, 4], "sequences": wide, "steps": few},
    }
    others = peers(task)

    def over(ours: float, name: str) -> float | None:
        theirs = others[name]
        return None if theirs is None else ours / theirs

    figures["tokens_per_second_ratio_hf_generate"] = {
        "stories260K": {size: over(rate, f"hf_stories_{size}") for size, rate in rates.items()},
        "random_24M": over(large_rate, "hf_large"),
    }
    figures["ratio_genlm_control"] = over(rates[max(BATCHES)], "genlm_stories")
    room = language.generation(pretrained, prompt, reward, max_tokens=256, eos_id=None)
    short, long = peak_bytes(room, 64, 32), peak_bytes(room, 64, 256)
    figures["peak_memory_over_steps"] = long / short
    figures |= {"tokens_per_second": rates, "tokens_per_second_24M": large_rate, "peak_megabytes": long / 1e6}
    print_json(figures)


if __name__ == "__main__":
    main(parse_quick(__doc__ or ""))
