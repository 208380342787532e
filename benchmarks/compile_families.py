"""The runs whose programs `benchmarks.compile` counts: one of each family, as their users write them.

Run as ``python -m benchmarks.compile_families NAME``: the run in a process of its own, and a line of JSON of what it compiled.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

KINDS = {
    "jaxpr_trace_duration": "trace",
    "jaxpr_to_mlir_module_duration": "lower",
    "backend_compile_duration": "xla",
}
"""Last word of JAX's events, and what the table calls the part."""


def line() -> Any:
    """The posterior of the README's first example."""
    import jax.numpy as jnp
    import numpyro.distributions as dist

    import smcinfer

    x = jnp.linspace(-2.0, 2.0, 20)
    y = 1.0 + 0.5 * x + 0.3 * jnp.sin(9.0 * x)
    prior = {"line": dist.Normal(0.0, 2.0).expand([2]).to_event(1), "noise": dist.HalfNormal(1.0)}

    def log_likelihood(theta: Any) -> Any:
        return dist.Normal(theta["line"][0] + theta["line"][1] * x, theta["noise"]).log_prob(y).sum()

    return smcinfer.posterior(prior, log_likelihood)


def readme(kernel: str | None = None) -> Any:
    """The first example of the README."""
    import jax

    import smcinfer

    return smcinfer.sample(jax.random.key(0), line(), num_particles=1000, progress=False, kernel=kernel)


def polar() -> Any:
    """The same posterior under the kernel that is read from a reference."""
    return readme("gibbsian_polar_slice")


def logistic() -> Any:
    """The first run of the demonstration: logistic regression in 31 dimensions."""
    import jax

    import smcinfer
    from smcinfer.models import logistic_regression

    target = logistic_regression.breast_cancer()
    return smcinfer.sample(jax.random.key(0), target, num_particles=512, history="ancestors", progress=False)


def waste_free() -> Any:
    """The same by waste-free chains."""
    import jax

    import smcinfer
    from smcinfer.models import logistic_regression

    target, method = logistic_regression.breast_cancer(), smcinfer.Tempering(chain_length=32)
    return smcinfer.sample(jax.random.key(0), target, num_particles=1024, method=method, progress=False)


def filtered() -> Any:
    """The second run of the demonstration: a filter of hidden volatility."""
    import jax

    import smcinfer
    from smcinfer.models import stochastic_volatility

    model = stochastic_volatility.StochasticVolatility()
    target = model.state_space(model.simulate(jax.random.key(0), 100)[1], quantiles=(0.05, 0.5, 0.95))
    return smcinfer.sample(jax.random.key(0), target, num_particles=1024, progress=False)


def story() -> Any:
    """The third: the middle of a story by a small language model."""
    import jax

    import smcinfer
    from smcinfer import language
    from smcinfer.models import stories

    target = language.generation(
        stories.load(), "Once upon a time", max_tokens=8, continuation=" The end.", eos_id=None
    )
    return smcinfer.sample(jax.random.key(0), target, num_particles=32, progress=False)


def denoised() -> Any:
    """The fourth: a diffusion model of digits that a classifier takes for fours."""
    import jax

    import smcinfer
    from smcinfer import diffusion
    from smcinfer.models import digits

    found = digits.load()
    target = diffusion.alignment(found.model, lambda x: found.reward.log_probability(x, 4), num_steps=10)
    return smcinfer.sample(jax.random.key(0), target, num_particles=32, num_runs=2, history="ancestors", progress=False)


def chains() -> Any:
    """Markov chains on the posterior of the README."""
    import jax

    import smcinfer

    return smcinfer.mcmc(jax.random.key(0), line(), num_chains=64, num_draws=100, num_warmup=100, progress=False)


FAMILIES: dict[str, Callable[[], Any]] = {
    "readme": readme,
    "polar": polar,
    "logistic": logistic,
    "waste_free": waste_free,
    "filtered": filtered,
    "story": story,
    "denoised": denoised,
    "chains": chains,
}


def measured(family: Callable[[], Any]) -> dict[str, Any]:
    """CPU seconds of one family's run, by program and part; imports apart.

    Returns:
        ``{"programs": {name: {part: seconds, "count": times compiled}}, "imports": s, "rest": s, "total": s}``.
    """
    import jax
    import numpyro.distributions  # noqa: F401

    jax_s = time.process_time()
    import smcinfer

    _ = smcinfer.sample, smcinfer.posterior, smcinfer.mcmc
    ready_s = time.process_time()
    rows: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys((*KINDS.values(), "count"), 0.0))
    last = ready_s

    def listen(event: str, duration_secs: float, **known: Any) -> None:
        nonlocal last
        now = time.process_time()
        kind = KINDS.get(event.rsplit("/", 1)[1])
        if kind is not None:
            name = str(known.get("fun_name", "?")).removeprefix("jit(").removesuffix(")")
            # What others ran in between is no part of it: CPU seconds, but never more than a busy core had time for.
            rows[name][kind] += min(now - last, 2.0 * duration_secs)
            rows[name]["count"] += kind == "xla"
        last = now

    jax.monitoring.register_event_duration_secs_listener(listen)
    result = family()
    print(result)
    total = time.process_time()
    compiling = sum(row[kind] for row in rows.values() for kind in KINDS.values())
    return {
        "programs": dict(rows),
        "import_jax": jax_s,
        "import_smcinfer": ready_s - jax_s,
        "rest": total - ready_s - compiling,
        "total": total,
    }


if __name__ == "__main__":
    print(json.dumps(measured(FAMILIES[sys.argv[1]])))
