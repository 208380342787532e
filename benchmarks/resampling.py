"""Resampling a million particles in float32: time and accuracy, beside `jnp.searchsorted` and blackjax.

Every function starts from the same log weights. The accuracy is that of systematic resampling, whose
copies must stay within one of ``num * W``, one by one and cumulated: what is more is rounding.
"""

from collections.abc import Callable

import blackjax.smc.resampling as peer
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import measure_together, parse_quick, print_json
from smcinfer.core.resampling import SCHEMES, by_name

NUM = 1_000_000
Resample = Callable[[jax.Array, jax.Array], jax.Array]


def ours(name: str, conditional: bool = False) -> Resample:
    scheme = by_name(name, conditional)
    return lambda key, log_weights: scheme(key, log_weights, NUM)


def blackjax(name: str) -> Resample:
    scheme = getattr(peer, name)
    return lambda key, log_weights: scheme(key, jax.nn.softmax(log_weights), NUM)


def searchsorted(key: jax.Array, log_weights: jax.Array) -> jax.Array:
    """Systematic resampling the short way."""
    points = (jnp.arange(NUM) + jax.random.uniform(key)) / NUM
    return jnp.clip(jnp.searchsorted(jnp.cumsum(jax.nn.softmax(log_weights)), points), 0, NUM - 1)


def accuracy(resample: Resample) -> dict[str, float]:
    """Worst errors of systematic resampling over three sets of weights, in copies, and draws of weight zero."""
    index = np.arange(NUM)
    cases = (
        np.log(NUM - index.astype(float)),
        np.random.default_rng(0).normal(size=NUM),
        np.where(index % 3 == 0, np.log1p(index), -np.inf),
    )
    worst = {"copies": 0.0, "cumulated_copies": 0.0, "zero_weights_drawn": 0}
    compiled = jax.jit(resample)
    for seed, case in enumerate(cases):
        log_weights = case.astype(np.float32)
        weights = np.exp(log_weights.astype(np.float64))
        copies = np.bincount(np.asarray(compiled(jax.random.key(seed), jnp.asarray(log_weights))), minlength=NUM)
        error = copies - NUM * weights / weights.sum()
        worst["copies"] = max(worst["copies"], np.abs(error).max())
        worst["cumulated_copies"] = max(worst["cumulated_copies"], np.abs(np.cumsum(error)).max())
        worst["zero_weights_drawn"] += int(copies[weights == 0].sum())
    return worst


def main() -> None:
    quick = parse_quick(__doc__ or "")
    log_weights = 1.5 * jax.random.normal(jax.random.key(0), (NUM,))
    functions = {f"ours_{name}": ours(name) for name in SCHEMES}
    if not quick:
        functions |= {f"ours_conditional_{name}": ours(name, conditional=True) for name in SCHEMES}
    functions |= {
        f"blackjax_{name}": blackjax(name) for name in ("multinomial", "stratified", "systematic", "residual")
    }
    functions["searchsorted"] = searchsorted
    timings = measure_together(functions, jax.random.key(1), log_weights, repeats=5 if quick else 15)
    print(f"{'':32s}   median    least  compile")
    for name, timing in timings.items():
        print(f"{name:32s}{1e3 * timing.median_s:6.1f} ms{1e3 * timing.least_s:6.1f} ms{timing.compile_s:7.2f} s")

    def milliseconds(prefix: str) -> dict[str, float]:
        names = {name: f"{prefix}_{name}" for name in SCHEMES}
        return {name: 1e3 * timings[full].median_s for name, full in names.items() if full in timings}

    ours_ms, blackjax_ms = milliseconds("ours"), milliseconds("blackjax")
    searchsorted_ms = 1e3 * timings["searchsorted"].median_s
    print_json(
        {
            "speedup_over_blackjax": {name: blackjax_ms[name] / ours_ms[name] for name in blackjax_ms},
            "speedup_over_searchsorted": {"systematic": searchsorted_ms / ours_ms["systematic"]},
            "resampling_ms_1e6": ours_ms,
            "conditional_ms_1e6": milliseconds("ours_conditional"),
            "blackjax_ms_1e6": blackjax_ms,
            "searchsorted_ms_1e6": searchsorted_ms,
            "compile_s": {name: timings[f"ours_{name}"].compile_s for name in SCHEMES},
            "worst_error_in_copies": {
                "ours": accuracy(ours("systematic")),
                "blackjax": accuracy(blackjax("systematic")),
                "searchsorted": accuracy(searchsorted),
            },
        }
    )


if __name__ == "__main__":
    main()
