"""The engine at the sizes of a GPU: one script, sized for fifteen minutes on one H200, which a CPU runs in a tiny size.

    python -m benchmarks.gpu [--quick | --tiny]

- A bootstrap filter of 1e8 particles: particle steps a second.
- Decoding with a random Llama of eight billion parameters in bfloat16: tokens a second, and bytes that must be read a step over
  what the device copies in that time, the bandwidth measured in the same run.
- Forty modes raised to a power, by diffusion: particle steps a second, and the error of log Z.
- Tempered SMC of logistic regression in 31 dimensions: seconds, gradients a second, log Z.

Seconds are of a second call; the first, which compiles, is told apart.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import smcinfer
from benchmarks.timing import print_json
from smcinfer import diffusion
from smcinfer.core import smc
from smcinfer.core.settings import Settings
from smcinfer.language import LlamaConfig, generation
from smcinfer.language.networks.llama import Llama, build_llama
from smcinfer.models import gaussian_mixtures, logistic_regression
from smcinfer.models.stochastic_volatility import StochasticVolatility

EIGHT_BILLION = LlamaConfig(
    vocab_size=128_256,
    dim=4096,
    mlp_dim=14_336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    max_positions=2048,
    windows=(None,) * 32,
)
SMALL = dataclasses.replace(
    EIGHT_BILLION,
    vocab_size=64,
    dim=16,
    mlp_dim=32,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    windows=(None,),
)


@dataclasses.dataclass(frozen=True)
class Size:
    """How large each part is."""

    filtered: int
    observations: int
    lm: LlamaConfig
    sequences: int
    tokens: int
    denoised: int
    steps: int
    tempered: int
    copied: int


FULL = Size(10**8, 50, EIGHT_BILLION, 64, 64, 100_000, 500, 65_536, 2**32)
MIDDLING = dataclasses.replace(SMALL, dim=256, mlp_dim=1024, num_layers=2, windows=(None,) * 2)
QUICK = Size(10**6, 20, MIDDLING, 16, 16, 2000, 50, 1024, 2**28)
TINY = Size(1000, 3, SMALL, 4, 2, 64, 4, 64, 2**20)


def twice(call: Callable[[int], Any]) -> tuple[float, float, Any]:
    """Seconds of a first and of a second call, and what the second returned."""
    seconds, found = [], None
    for seed in range(2):
        start = time.perf_counter()
        found = jax.block_until_ready(call(seed))
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1], found


def bandwidth(size: int) -> float:
    """Bytes a second that the device reads and writes where it copies an array of so many bytes."""
    array = jnp.zeros((size // 4,), jnp.float32)
    copy = jax.jit(lambda x: x + 1.0)
    least = min(twice(lambda _: copy(array))[1] for _ in range(3))
    return 2 * size / least


def filtered(size: Size) -> dict[str, float]:
    """A bootstrap filter of hidden volatility, log Z alone."""
    truth = StochasticVolatility()
    model = truth.state_space(truth.simulate(jax.random.key(2024), size.observations - 1)[1])
    settings = Settings(size.filtered, history="none")

    @jax.jit
    def log_z(key: jax.Array) -> jax.Array:
        state, _ = smc.init(key[None], model, settings)
        state, _ = smc.scan(jnp.asarray(1, jnp.int32), state, model, settings, model.num_steps)
        return state.log_z[0] + state.log_z_error[0]

    first, second, found = twice(lambda seed: log_z(jax.random.key(seed)))
    rate = size.filtered * size.observations / second
    return {"filter_particle_steps_a_second": rate, "filter_first_seconds": first, "filter_log_z": float(found)}


def random_in_bfloat16(config: LlamaConfig) -> Llama:
    """A model whose weights are drawn on the device."""
    keys = iter(jax.random.split(jax.random.key(0), 16 * config.num_layers + 16))

    def take(name: str, shape: tuple[int, ...]) -> jax.Array:
        if name.endswith("norm.weight"):
            return jnp.ones(shape, jnp.bfloat16)
        return 0.02 * jax.random.normal(next(keys), shape, jnp.bfloat16)

    return build_llama(config, take)


def decoded(size: Size) -> dict[str, float]:
    """SMC over a language model whose potential differs from text to text."""
    lm = random_in_bfloat16(size.lm)
    target = generation(
        lm, (1, 2, 3), lambda t, state: 0.3 * jnp.sin(state.last_token * 1.0), max_tokens=size.tokens, eos_id=None
    )

    def run(seed: int) -> Any:
        key = jax.random.key(seed)
        return smcinfer.sample(key, target, num_particles=size.sequences, num_runs=1, progress=False).log_weights

    first, second, _ = twice(run)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(eqx.filter(lm, eqx.is_array))) - lm.embedding.nbytes
    cache = 2 * 2 * size.lm.num_layers * size.lm.num_kv_heads * size.lm.head_dim * size.sequences * size.tokens / 2
    read = size.tokens * (weights + cache)
    return {
        "decode_share_of_bandwidth": read / second / bandwidth(size.copied),
        "decode_tokens_a_second": size.sequences * size.tokens / second,
        "decode_parameters": float(weights // 2),
        "decode_first_seconds": first,
    }


def forty_modes(size: Size) -> dict[str, float]:
    """The third power of a mixture of forty Gaussians in the plane."""
    generator = np.random.default_rng(0)
    law = gaussian_mixtures.mixture(generator.uniform(-1.0, 1.0, (40, 2)), 0.05, generator.dirichlet(np.full(40, 5.0)))
    sharp = law.power(3.0, points=800)
    schedule = diffusion.EDM(end=10.0)
    times = jnp.append(jnp.geomspace(10.0, 0.01, size.steps), 0.0)
    target = diffusion.power(law.model(schedule), 3.0, times=times, data_std=0.6)
    results = []

    def run(seed: int) -> Any:
        results.append(
            smcinfer.sample(jax.random.key(seed), target, num_particles=size.denoised, num_runs=4, progress=False)
        )
        return results[-1].log_weights

    first, second, _ = twice(run)
    return {
        "modes_particle_steps_a_second": 4 * size.denoised * size.steps / second,
        "modes_first_seconds": first,
        "modes_log_z_error": results[-1].log_z - sharp.log_z,
        "modes_log_z_se": results[-1].log_z_se,
    }


def tempered(size: Size) -> dict[str, float]:
    """The default call on logistic regression."""
    target = logistic_regression.breast_cancer()
    results = []

    def run(seed: int) -> Any:
        results.append(
            smcinfer.sample(jax.random.key(seed), target, num_particles=size.tempered, num_runs=2, progress=False)
        )
        return results[-1].log_weights

    first, second, _ = twice(run)
    return {"tempered_seconds": second, "tempered_first_seconds": first, "tempered_log_z": results[-1].log_z}


PARTS = (decoded, filtered, forty_modes, tempered)


def measured(size: Size) -> dict[str, float]:
    """All figures at a size."""
    figures: dict[str, float] = {}
    for part in PARTS:
        found = part(size)
        print(f"{part.__name__:12}" + "".join(f"  {name} {value:.4g}" for name, value in found.items()), flush=True)
        figures |= found
    return figures


def main() -> None:
    """Print a line a part, and a line of JSON with the device's name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute on a CPU")
    parser.add_argument("--tiny", action="store_true", help="only see that it runs")
    options = parser.parse_args()
    size = TINY if options.tiny else QUICK if options.quick else FULL
    print_json({"device": jax.devices()[0].device_kind} | measured(size))


if __name__ == "__main__":
    main()
