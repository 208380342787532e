"""Move kernels on hard targets: what a transition costs, how soon it forgets, and whether it sees tails and modes.

    python -m benchmarks.kernels [--quick]

64 chains start at exact draws and run in float64 (breast cancer: near the mode, float32) by `smcinfer.chains.mcmc`. Of every
kernel and target: density evaluations a step; the integrated autocorrelation time (IAT, `benchmarks.mixing`) of the
target's scalar; effective draws per 1000 evaluations and per second; how far the 0.1% and 99.9% quantiles of the scalar
are off, in units of their distance from the median; and evaluations a jump between modes. Rows named ``paper`` have the
settings of the official Gibbsian polar slice code (linear radius, the target's own coordinates, a given width); that code
evaluates the density where a step starts anew, one evaluation a step more than is made here. The others tune themselves.
NUTS is blackjax's, tuned by the chains; ``blackjax elliptical_slice`` is blackjax's own, along N(0, I).

``lockstep_over_mean_evals`` is what all chains together evaluate in lockstep over what they need,
``flat_over_mean_evals`` the same with every chain at its own pace. An IAT above a tenth of the chain's length is a
lower bound.
"""

import time
from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.mixing import iat
from benchmarks.timing import parse_quick, print_json
from smcinfer.chains import Chains, mcmc
from smcinfer.kernels import HMC, Kernel, by_name
from smcinfer.kernels.elliptical_slice import EllipticalSlice
from smcinfer.kernels.gibbsian_polar_slice import GibbsianPolarSlice
from smcinfer.kernels.hit_and_run import HitAndRun
from smcinfer.models import logistic_regression
from smcinfer.models.hard_targets import HardTarget, axial_modes, cauchy, funnel, hyperplane_disk
from smcinfer.static import laplace_reference

NUM_CHAINS = 64
Row = dict[str, float]

OFFICIAL_ESS_PER_SECOND = {"cauchy": 662.0, "disk": 626.0}
"""Of the official Gibbsian polar slice code on one CPU."""


def paper(width: float) -> GibbsianPolarSlice:
    """Gibbsian polar slice as published."""
    return GibbsianPolarSlice(radius="linear", affine=False, width=width, max_steps_out=10_000)


def tuned_kernels() -> dict[str, Kernel]:
    """Kernels as a user would name them, each tuned by the chains."""
    return {
        "gibbsian_polar_slice": GibbsianPolarSlice(),
        "gibbsian_polar_slice, own coordinates": GibbsianPolarSlice(affine=False),
        "hit_and_run": HitAndRun(),
        "elliptical_slice, cloud": EllipticalSlice(reference="cloud"),
        "random_walk": by_name("random_walk"),
        "independent": by_name("independent"),
        "mala": by_name("mala"),
        "hmc": HMC(),
        "nuts": by_name("nuts"),
    }


def run(exact: HardTarget, kernel: Kernel, num_draws: int, num_warmup: int, pace: str = "auto") -> Chains:
    """Chains from exact draws."""
    initial = jax.jit(exact.draw, static_argnums=1)(jax.random.key(1), NUM_CHAINS)
    options: dict[str, Any] = {"num_chains": NUM_CHAINS, "num_draws": num_draws, "num_warmup": num_warmup, "pace": pace}
    return mcmc(jax.random.key(2), kernel, exact.log_density, initial=initial, progress=False, **options)


def judge(exact: HardTarget, draws: Any, evals: float, seconds: float) -> Row:
    """All figures of one run.

    Args:
        exact: the target.
        draws: (chains, draws, dim).
        evals: density evaluations a draw.
        seconds: run time of all draws.
    """
    scalar = np.asarray(jax.jit(jax.vmap(jax.vmap(exact.scalar)))(draws), np.float64)
    time_constant = iat(scalar)
    low, middle, high = exact.law.quantile(np.array([0.001, 0.5, 0.999]))
    found = np.quantile(scalar, [0.001, 0.999])
    row = {
        "evals_per_step": evals,
        "iat": time_constant,
        "ess_per_1000_evals": 1000.0 / (evals * time_constant),
        "ess_per_second": scalar.size / time_constant / seconds,
        "q001_error": (found[0] - low) / (middle - low),
        "q999_error": (found[1] - high) / (high - middle),
    }
    if exact.modes is not None:
        modes = np.asarray(jax.jit(jax.vmap(jax.vmap(exact.mode)))(draws))
        jumps = np.count_nonzero(np.diff(modes, axis=1))
        row["evals_per_mode_jump"] = evals * modes[:, 1:].size / max(jumps, 1)
    return row


def row_of(exact: HardTarget, chains: Chains) -> Row:
    """The figures of chains."""
    row = judge(exact, chains.draws["theta"], chains.evals_per_step, chains.settings["draw_seconds"])
    return row | {
        "run_over_mean_evals": chains.settings["ticks"] * NUM_CHAINS / chains.num_evals.sum(dtype=np.float64),
        "share_capped": float(chains.cap_reached.mean()),
    }


def with_blackjax_elliptical(exact: HardTarget, num_draws: int) -> Row:
    """Blackjax's elliptical slice sampler, the target written as a density over a standard normal."""

    def log_likelihood(x: jax.Array) -> jax.Array:
        return exact.log_density(x) + 0.5 * jnp.sum(x**2)

    sampler = blackjax.elliptical_slice(log_likelihood, mean=jnp.zeros(exact.dim), cov=jnp.ones(exact.dim))

    @jax.jit
    def loop(key: jax.Array, initial: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(states: Any, key: jax.Array) -> tuple[Any, Any]:
            states, info = jax.vmap(sampler.step)(jax.random.split(key, NUM_CHAINS), states)
            return states, (states.position, info.subiter)

        return jax.lax.scan(step, jax.vmap(sampler.init)(initial), jax.random.split(key, num_draws))[1]

    initial = exact.draw(jax.random.key(1), NUM_CHAINS)
    compiled = loop.lower(jax.random.key(3), initial).compile()
    started = time.perf_counter()
    positions, evals = jax.block_until_ready(compiled(jax.random.key(3), initial))
    seconds = time.perf_counter() - started
    return judge(exact, jnp.swapaxes(positions, 0, 1), float(np.mean(evals)), seconds)


def breast_cancer(kernel: Kernel, num_draws: int, num_warmup: int) -> Row:
    """The logistic regression: the slowest coefficient's IAT, and that of the log likelihood."""
    target = logistic_regression.breast_cancer()
    # A vague prior is far away: chains start from a Gaussian of the mode's curvature.
    wide = laplace_reference(target.log_prob, target.dim)
    initial = wide.mean + (wide.sample(jax.random.key(5), (NUM_CHAINS,)) - wide.mean) / 3.0
    options: dict[str, Any] = {"num_chains": NUM_CHAINS, "num_draws": num_draws, "num_warmup": num_warmup}
    chains = mcmc(jax.random.key(4), kernel, target, initial=initial, progress=False, **options)
    beta = chains.draws["beta"]
    slowest = max(iat(beta[:, :, index]) for index in range(beta.shape[2]))
    likelihood = np.asarray(jax.jit(lambda b: jax.lax.map(jax.vmap(target.log_potential), b))(beta))
    return {
        "evals_per_step": chains.evals_per_step,
        "iat": slowest,
        "iat_log_likelihood": iat(likelihood),
        "ess_per_1000_evals": 1000.0 / (chains.evals_per_step * slowest),
        "ess_per_second": beta[:, :, 0].size / slowest / chains.settings["draw_seconds"],
        "run_over_mean_evals": chains.settings["ticks"] * NUM_CHAINS / chains.num_evals.sum(dtype=np.float64),
    }


def show(target: str, name: str, row: Row) -> None:
    """One line of the table."""
    figures = "".join(f"  {label} {value:.4g}" for label, value in row.items())
    print(f"{target:<14}{name:<40}{figures}", flush=True)


def main() -> None:
    """Run every kernel on every target and print a table, then one line of JSON."""
    quick = parse_quick(__doc__ or "")
    jax.config.update("jax_enable_x64", True)
    targets: dict[str, tuple[HardTarget, float | None]] = {
        "cauchy": (cauchy(100), 100.0),
        "disk": (hyperplane_disk(200), 20.0),
    }
    num_draws, num_warmup = (600, 0) if quick else (1000, 1000)
    if not quick:
        targets["funnel"] = (funnel(10), 5.0)
        targets["axial"] = (axial_modes(100), None)
    table: dict[str, dict[str, Row]] = {}

    def add(target: str, name: str, make: Callable[[], Row]) -> None:
        row = make()
        table.setdefault(target, {})[name] = row
        show(target, name, row)

    for target, (exact, width) in targets.items():
        # The axial modes' official settings name no width; a radius of theirs is about d.
        published = paper(width or float(exact.dim))
        for pace in () if quick and target == "disk" else ("lockstep", "flat"):
            add(
                target,
                f"gibbsian_polar_slice, paper, {pace}",
                lambda exact=exact, pace=pace, published=published: row_of(
                    exact, run(exact, published, num_draws, 0, pace)
                ),
            )
        kernels = tuned_kernels()
        if quick:
            kernels = {name: kernels[name] for name in ("gibbsian_polar_slice, own coordinates",)}
        for name, kernel in kernels.items():
            add(
                target,
                name,
                lambda exact=exact, kernel=kernel: row_of(exact, run(exact, kernel, num_draws, num_warmup)),
            )
        if not quick:
            add(target, "blackjax elliptical_slice", lambda exact=exact: with_blackjax_elliptical(exact, num_draws))
    cancer = (
        {"gibbsian_polar_slice": GibbsianPolarSlice()}
        if quick
        else tuned_kernels() | {"elliptical_slice": EllipticalSlice()}
    )
    for name, kernel in cancer.items():
        size = (300, 700) if quick else (1000, 1500)
        with jax.enable_x64(False):
            add("breast_cancer", name, lambda kernel=kernel, size=size: breast_cancer(kernel, *size))
    own = {name: row for name, row in table["cauchy"].items() if not name.startswith("blackjax")}
    published, own_pace = (own[f"gibbsian_polar_slice, paper, {pace}"] for pace in ("lockstep", "flat"))
    figures: dict[str, Any] = {
        "cauchy_gpss_evals_per_step": published["evals_per_step"],
        "cauchy_gpss_iat_log_r": published["iat"],
        "cauchy_best_ess_per_1000_evals": max(row["ess_per_1000_evals"] for row in own.values()),
        "breast_cancer_affine_gpss_iat": table["breast_cancer"]["gibbsian_polar_slice"]["iat"],
        "lockstep_over_mean_evals": published["run_over_mean_evals"],
        "flat_over_mean_evals": own_pace["run_over_mean_evals"],
        "log_radius_over_mean_evals": own["gibbsian_polar_slice, own coordinates"]["run_over_mean_evals"],
    }
    for target, official in OFFICIAL_ESS_PER_SECOND.items():
        if target in table:
            best = max(row["ess_per_second"] for name, row in table[target].items() if "blackjax" not in name)
            figures[f"{target}_ess_per_second_ratio"] = best / official
    print_json(figures | {"num_chains": NUM_CHAINS, "num_draws": num_draws, "table": table})


if __name__ == "__main__":
    main()
