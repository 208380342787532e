"""Move kernels on hard targets: what a transition costs, how soon it forgets, and whether it sees tails and modes.

    python -m benchmarks.kernels [--quick]

64 chains start at exact draws and run in float64 (breast cancer: near the mode, float32) by `smcinfer.mcmc`. Of every
kernel and target: density evaluations a step; the integrated autocorrelation time (IAT, `benchmarks.mixing`) of the
target's scalar; effective draws per 1000 evaluations and per second; how far the 0.1% and 99.9% quantiles of the scalar
are off, in units of their distance from the median; and evaluations a jump between modes. An IAT above a tenth of
``num_draws`` is a lower bound, and what is derived from it an upper one.

Rows named ``paper`` have the settings of the official Gibbsian polar slice code (linear radius, the target's own
coordinates, a given width); that code evaluates the density where a step starts anew, one evaluation a step more than is
made here. The others tune themselves: ``cloud`` is the Gaussian of the chains, ``base`` the prior; ``envelope`` is
told how the density depends on the radius, which no other row is. NUTS is blackjax's, tuned by the chains;
``blackjax elliptical_slice`` is blackjax's own, along N(0, I).

A jump between modes is a step after which another axis has the largest coordinate, as the official code counts, whatever
its sign; ``counting_mirror_images`` counts changes of the sign too.

``lockstep_over_mean_evals`` is what the moves of 4096 particles evaluate over what they need, the larger of two kernels
with their defaults, and ``moves_seconds_ratio_lockstep`` the time that they would take in lockstep over that time, the
smaller of the two. ``chains_lockstep_over_mean_evals`` is the former of 64 chains in lockstep, ``flat_over_mean_evals``
with every chain at its own pace.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.kernel_rows import NUM_CHAINS, Row, blackjax_elliptical, on_breast_cancer, on_hard_target
from benchmarks.timing import measure_together, parse_quick, print_json
from smcinfer.ground.keys import small
from smcinfer.kernels import (
    HMC,
    MALA,
    NUTS,
    CrankNicolson,
    CrankNicolsonLangevin,
    EllipticalSlice,
    GibbsianPolarSlice,
    HitAndRun,
    Independent,
    Kernel,
    PolarSlice,
    RandomWalk,
)
from smcinfer.kernels.base import TemperedDensity
from smcinfer.kernels.queue import num_lanes, queued
from smcinfer.models.hard_targets import HardTarget, axial_modes, cauchy, funnel, hyperplane_disk

OFFICIAL_ESS_PER_SECOND = {"cauchy": 662.0, "disk": 626.0}
"""Of the official Gibbsian polar slice code on one CPU."""


class Case(NamedTuple):
    """A target, the width of the official settings, and a bound of its log density by the radius where one is known."""

    exact: HardTarget
    width: float
    envelope: Callable[[jax.Array], jax.Array] | None = None


class Size(NamedTuple):
    """Draws of a chain, and transitions before them; fewer for kernels whose transitions are long."""

    num_draws: int
    num_warmup: int
    num_long: int

    def of(self, kernel: Kernel) -> tuple[int, int]:
        """Draws and warm-up of a kernel."""
        tries_in_vain = isinstance(kernel, PolarSlice) and kernel.envelope is None
        if isinstance(kernel, HMC | NUTS) or tries_in_vain:
            return self.num_long, min(self.num_warmup, self.num_long)
        return self.num_draws, self.num_warmup


QUICK, LONG = Size(600, 0, 200), Size(600, 700, 200)
QUICK_CANCER, LONG_CANCER = Size(300, 700, 200), Size(800, 1000, 300)


def cases(quick: bool) -> dict[str, Case]:
    """The targets at the sizes and widths of the official experiments."""
    heavy = Case(cauchy(100), 100.0, lambda radius: -50.5 * jnp.log1p(radius**2))
    thin = Case(hyperplane_disk(200), 20.0, lambda radius: -(radius**2))
    if quick:
        return {"cauchy": heavy, "disk": thin}
    return {"cauchy": heavy, "disk": thin, "funnel": Case(funnel(10), 5.0), "axial": Case(axial_modes(100), 10.0)}


def paper(width: float) -> GibbsianPolarSlice:
    """Gibbsian polar slice as published."""
    return GibbsianPolarSlice(radius="linear", affine=False, width=width, max_steps_out=10_000)


def tuned_kernels() -> dict[str, Kernel]:
    """Kernels as a user would name them, each tuned by the chains."""
    return {
        "gibbsian_polar_slice": GibbsianPolarSlice(),
        "gibbsian_polar_slice, own coordinates": GibbsianPolarSlice(affine=False),
        "polar_slice": PolarSlice(),
        "hit_and_run": HitAndRun(),
        "elliptical_slice, cloud": EllipticalSlice(reference="cloud"),
        "pcn, cloud": CrankNicolson(reference="cloud"),
        "pcnl, cloud": CrankNicolsonLangevin(reference="cloud"),
        "random_walk": RandomWalk(),
        "independent": Independent(),
        "mala": MALA(),
        "hmc": HMC(),
        "nuts": NUTS(),
    }


def kernels_for(case: Case, quick: bool) -> dict[str, Kernel]:
    """All kernels that can run on a target; few of them where time is short."""
    found = tuned_kernels()
    if quick:
        found = {"gibbsian_polar_slice, own coordinates": found["gibbsian_polar_slice, own coordinates"]}
    bound = case.envelope
    if bound is not None:
        found["polar_slice, envelope"] = PolarSlice(affine=False, envelope=lambda radius, exponent: bound(radius))
    return found


def kernels_for_a_gaussian_base(quick: bool) -> dict[str, Kernel]:
    """All kernels, for a posterior whose prior is Gaussian."""
    if quick:
        return {"gibbsian_polar_slice": GibbsianPolarSlice()}
    return tuned_kernels() | {
        "elliptical_slice, base": EllipticalSlice(),
        "pcn, base": CrankNicolson(),
        "pcnl, base": CrankNicolsonLangevin(),
    }


def main() -> None:
    """Run every kernel on every target and print a table, then one line of JSON."""
    quick = parse_quick(__doc__ or "")
    jax.config.update("jax_enable_x64", True)
    table: dict[str, dict[str, Row]] = {}

    def add(target: str, name: str, make: Callable[[], Row]) -> None:
        row = table.setdefault(target, {})[name] = make()
        figures = "".join(f"  {label} {value:.4g}" for label, value in row.items())
        print(f"{target:<14}{name:<40}{figures}", flush=True)

    size, cancer_size = (QUICK, QUICK_CANCER) if quick else (LONG, LONG_CANCER)
    for target, case in cases(quick).items():
        for pace in ("lockstep", "flat") if target == "cauchy" else () if quick else ("lockstep",):
            published = paper(case.width)
            name = f"gibbsian_polar_slice, paper, {pace}"
            add(target, name, partial(on_hard_target, case.exact, published, size.num_draws, 0, pace))
        for name, kernel in kernels_for(case, quick).items():
            add(target, name, partial(on_hard_target, case.exact, kernel, *size.of(kernel)))
        if not quick:
            add(target, "blackjax elliptical_slice", partial(blackjax_elliptical, case.exact, size.num_draws))
    for name, kernel in kernels_for_a_gaussian_base(quick).items():
        with jax.enable_x64(False):
            add("breast_cancer", name, partial(on_breast_cancer, kernel, *cancer_size.of(kernel)))
    print_json(
        inside_moves() | figures_of(table) | {"num_chains": NUM_CHAINS, "num_draws": size.num_draws, "table": table}
    )


def inside_moves(num_particles: int = 4096) -> dict[str, float]:
    """Evaluations over those that are needed, and time against lockstep, of one move of a cloud of particles."""
    worst, slowest = 0.0, float("inf")
    exact = cauchy(10)
    for kernel in (GibbsianPolarSlice(), HitAndRun()):
        positions = exact.draw(jax.random.key(0), num_particles)
        density = TemperedDensity(lambda x: jnp.zeros((), x.dtype), exact.log_density, jnp.ones(()))
        params = kernel.tune(kernel.parameters(10), positions, jnp.zeros(num_particles), jnp.asarray(jnp.nan))
        states = jax.vmap(partial(kernel.init, density=density))(positions)
        keys = jax.random.split(small(jax.random.key(1)), num_particles)
        step = jax.vmap(partial(kernel.step, density=density, params=params))
        queue = partial(queued, kernel, density=density, params=params, lanes=num_lanes(num_particles))
        _, info, ticks = jax.jit(queue)(keys, states)
        worst = max(worst, float(ticks) * num_lanes(num_particles) / float(jnp.sum(info.num_evals)))
        timed = measure_together({"lockstep": step, "queue": queue}, keys, states)
        slowest = min(slowest, timed["lockstep"].median_s / timed["queue"].median_s)
    return {"lockstep_over_mean_evals": worst, "moves_seconds_ratio_lockstep": slowest}


def figures_of(table: dict[str, dict[str, Row]]) -> dict[str, Any]:
    """The figures that sum up the table."""
    heavy = table["cauchy"]
    published, own_pace = (heavy[f"gibbsian_polar_slice, paper, {pace}"] for pace in ("lockstep", "flat"))
    # To be told the radial form is another task: it does not count as the best here.
    told, peer = "polar_slice, envelope", "blackjax elliptical_slice"
    found: dict[str, Any] = {
        "cauchy_gpss_evals_per_step": published["evals_per_step"],
        "cauchy_gpss_evals_per_step_counting_the_start": published["evals_per_step"] + 1.0,
        "cauchy_gpss_iat_log_r": published["iat"],
        "cauchy_best_ess_per_1000_evals": max(
            row["ess_per_1000_evals"] for name, row in heavy.items() if name not in (told, peer)
        ),
        "cauchy_known_radial_form_ess_per_1000_evals": heavy[told]["ess_per_1000_evals"],
        "breast_cancer_affine_gpss_iat": table["breast_cancer"]["gibbsian_polar_slice"]["iat"],
        "chains_lockstep_over_mean_evals": published["run_over_mean_evals"],
        "flat_over_mean_evals": own_pace["run_over_mean_evals"],
        "log_radius_over_mean_evals": heavy["gibbsian_polar_slice, own coordinates"]["run_over_mean_evals"],
    }
    for target, official in OFFICIAL_ESS_PER_SECOND.items():
        best = max(row["ess_per_second"] for name, row in table[target].items() if name not in (told, peer))
        found[f"{target}_ess_per_second_ratio"] = best / official
    return found


if __name__ == "__main__":
    main()
