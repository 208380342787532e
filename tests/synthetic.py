"""Records made by hand, with every number known: what the tests of results, figures and commands look at."""

from collections.abc import Callable
from typing import Any

import numpy as np

from smcinfer.bounds import BoundsByParticles, Sandwich
from smcinfer.core.status import Status
from smcinfer.language.decoding.cascade import Cascade
from smcinfer.language.decoding.segment_gibbs import SegmentChains
from smcinfer.models.open_mixture.chains import MixtureChains
from smcinfer.results import Record, Result
from smcinfer.results.chains import Chains
from smcinfer.results.forecast import Forecast
from smcinfer.results.gaussian import GaussianMoments
from smcinfer.results.likeliest import Likeliest
from smcinfer.results.panel import PanelFiltered
from smcinfer.results.particle_chains import ParticleChains
from smcinfer.results.smoothed import Smoothed
from smcinfer.results.tempered_chains import TemperedChains
from smcinfer.state_space.online.door import PausedFilter


def make_result(num_runs: int = 4, num_particles: int = 50, steps: int = 6, seed: int = 0, **changes: Any) -> Result:
    """A result of random numbers with everything a run records; ``changes`` replace arguments of `Result`.

    Run 0 stops two steps before the others where there are several, at about the same log Z.
    """
    rng = np.random.default_rng(seed)
    log_weights = rng.normal(0.0, 0.5, (num_runs, num_particles))
    log_weights -= np.logaddexp.reduce(log_weights, axis=1)[:, None]
    num_steps = np.full(num_runs, steps)
    num_steps[0] -= 2 if num_runs > 1 else 0
    increments = rng.normal(-1.0, 0.1, (num_runs, steps + 1))
    if num_runs > 1:
        increments[0, num_steps[0]] -= 2.0
    taken = np.arange(steps + 1) <= num_steps[:, None]
    ancestors = np.sort(rng.integers(0, num_particles, (num_runs, steps + 1, num_particles)), axis=-1)
    ancestors[:, 0] = np.arange(num_particles)
    arguments: dict[str, Any] = {
        "particles": {
            "theta": rng.normal(size=(num_runs, num_particles, 2)),
            "tau": np.exp(rng.normal(size=(num_runs, num_particles))).astype(np.float32),
        },
        "log_weights": log_weights,
        "log_z_runs": np.where(taken, increments, 0.0).sum(axis=1),
        "log_z_variance": np.full(num_runs, 0.04),
        "status_runs": np.zeros(num_runs, np.int32),
        "num_steps": num_steps,
        "history": {
            "ess": num_particles * rng.uniform(0.5, 1.0, (num_runs, steps + 1)),
            "log_z_increment": increments,
            "resampled": np.ones((num_runs, steps + 1), bool),
            "exponent": np.tile(np.linspace(0.0, 1.0, steps + 1) ** 3, (num_runs, 1)),
            "acceptance": rng.uniform(0.6, 0.9, (num_runs, steps + 1)),
            "num_evals": np.full((num_runs, steps + 1), 10.0),
            "ancestors": ancestors.astype(np.int32),
        },
        "settings": {"kernel": "hmc", "num_particles": num_particles, "weighted_for": "the posterior"},
        "seconds": 3.0,
        "compile_seconds": 1.0,
    }
    return Result(**(arguments | changes))


def two_points(log_z: list[float], values: list[list[float]], weights: list[list[float]]) -> Result:
    """Runs of few particles of one variable ``x``, small enough to check by hand."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.array(weights))
    return make_result(
        len(log_z),
        len(values[0]),
        particles={"x": np.array(values)},
        log_weights=log_weights,
        log_z_runs=np.array(log_z),
        log_z_variance=np.full(len(log_z), np.nan),
    )


COMMON: dict[str, Any] = {"status": Status.OK, "seconds": 2.0, "compile_seconds": 0.5}


def make_chains(kind: type[Chains] = Chains, seed: int = 0, **changes: Any) -> Chains:
    """Chains of random numbers, three of twenty draws, that look like those of any door."""
    rng = np.random.default_rng(seed)
    settings = {"kernel": "hmc", "thin": 2, "num_warmup": 10, "pace": "flat", "ticks": 90.0}
    if kind is ParticleChains:
        settings = {"method": "pmmh", "kernel": "random walk", "num_particles": 8, "thin": 2, "num_warmup": 10}
        settings |= {"path_changes": [0.2, 0.9], "log_likelihood_sd": 1.2}
    arguments: dict[str, Any] = {
        "draws": {"theta": rng.normal(size=(3, 20, 2)), "tau": rng.normal(size=(3, 20)).astype(np.float32)},
        "acceptance": rng.uniform(size=(3, 20)),
        "num_evals": rng.integers(1, 9, (3, 20)).astype(np.int32),
        "cap_reached": np.zeros((3, 20), np.int32),
        "settings": settings,
    }
    return kind(**(COMMON | arguments | changes))


def make_tempered_chains() -> TemperedChains:
    """Three ladders of four rungs."""
    rng = np.random.default_rng(0)
    record = make_chains(
        TemperedChains,
        exponents=np.array([0.0, 0.1, 0.4, 1.0]),
        potentials=rng.normal(size=(3, 20, 4)),
        swap_rejection=rng.uniform(size=(3, 3)),
        round_trips=np.array([30, 41, 52]),
    )
    assert isinstance(record, TemperedChains)
    return record


def make_segment_chains() -> SegmentChains:
    """Three chains of twenty texts of four tokens, two of them free."""
    rng = np.random.default_rng(0)
    draws = {"tokens": rng.integers(1, 9, (3, 20, 4)).astype(np.int32), "log_joint": rng.normal(size=(3, 20))}
    settings = {"kernel": "segments", "thin": 1, "num_warmup": 0, "pace": "in step", "ticks": 60.0}
    settings |= {"spans": [[1, 3]], "texts": ["a", "b", "c"], "moved": [0.4]}
    record = make_chains(SegmentChains, draws=draws, settings=settings)
    assert isinstance(record, SegmentChains)
    return record


def make_smoothed(seed: int = 0, **changes: Any) -> Smoothed:
    """Paths of two runs of five points at four times."""
    rng = np.random.default_rng(seed)
    log_weights = rng.normal(size=(2, 4, 5))
    arguments: dict[str, Any] = {
        "method": "genealogy",
        "log_weights": log_weights - np.logaddexp.reduce(log_weights, axis=-1, keepdims=True),
        "values": {"x": rng.normal(size=(2, 4, 5)), "pair": rng.normal(size=(2, 4, 5, 2))},
        "chosen": rng.integers(0, 5, (2, 4, 5)).astype(np.int32),
        "log_z_runs": rng.normal(size=2).astype(np.float32),
        "settings": {"num_particles": 5, "num_runs": 2},
    }
    return Smoothed(**(COMMON | arguments | changes))


def make_sandwich(**changes: Any) -> Sandwich:
    """Three runs from each side that kept nearly all of 10 000 particles."""
    arguments: dict[str, Any] = {
        "num_particles": 10_000,
        "lower_runs": np.array([-1.1, -0.9, -1.3]),
        "upper_runs": np.array([-0.8, -0.9, -0.7]),
        "lower_fewest": np.full(3, 9_000.0),
        "upper_fewest": np.full(3, 9_000.0),
        "settings": {"num_particles": 10_000},
        "proposal_log_weights": np.array([-2.0, -1.0]),
    }
    return Sandwich(**(COMMON | arguments | changes))


def make_bounds_by_particles() -> BoundsByParticles:
    """Two methods, three numbers of particles, four runs."""
    runs = np.arange(12.0).reshape(3, 4)
    both = {"SMC": runs, "importance sampling": runs - 1.0}
    upper = {name: values + 9.0 for name, values in both.items()}
    return BoundsByParticles(num_particles=(1, 4, 16), lower=both, upper=upper, settings={}, **COMMON)


def make_cascade() -> Cascade:
    """Five texts of three tokens."""
    rng = np.random.default_rng(0)
    return Cascade(
        tokens=rng.integers(1, 9, (5, 3)).astype(np.int32),
        lengths=np.array([3, 2, 3, 1, 3], np.int32),
        rewards=rng.normal(size=5),
        log_weights=rng.normal(size=5),
        num_tokens=8.5,
        num_rewards=3.0,
        gave_up=0.0,
        settings={"temperature": 1.0},
        **COMMON,
    )


def make_forecast() -> Forecast:
    """Six draws of three steps."""
    rng = np.random.default_rng(0)
    values = {"states": {"x": rng.normal(size=(6, 3, 2))}, "observations": {"y": rng.normal(size=(6, 3))}}
    return Forecast(**values, first=7, settings={"num_particles": 10}, **COMMON)


def make_gaussian_moments() -> GaussianMoments:
    """Four steps of a state of two entries."""
    rng = np.random.default_rng(0)
    mean, covariance = rng.normal(size=(4, 2)), np.broadcast_to(np.diag([1.0, 2.0]), (4, 2, 2)).copy()
    return GaussianMoments(
        method="kalman",
        mean=mean,
        covariance=covariance,
        smoothed_mean=mean + 0.1,
        smoothed_covariance=0.5 * covariance,
        log_z_increments=rng.normal(size=4),
        names=["x[0]", "x[1]"],
        settings={},
        **COMMON,
    )


def make_likeliest() -> Likeliest:
    """Two parameters after three steps."""
    rng = np.random.default_rng(0)
    return Likeliest(
        estimate={"drift": np.array(0.4), "scale": np.array(1.5)},
        se={"drift": np.array(0.1), "scale": np.array(0.2)},
        information=np.diag([100.0, 25.0]),
        positions=rng.normal(size=(3, 2)),
        log_likelihoods=rng.normal(size=3),
        log_likelihood_runs=rng.normal(size=4),
        settings={"num_particles": 10},
        **COMMON,
    )


def make_panel_filtered() -> PanelFiltered:
    """Two series of three and two observations, two runs."""
    rng = np.random.default_rng(0)
    moments = {"x": np.where(np.array([[True] * 3, [True, True, False]]), rng.random((2, 3)), np.nan)}
    return PanelFiltered(
        lengths=np.array([3, 2]),
        log_z_runs=rng.normal(size=(2, 2)),
        mean=moments,
        sd=moments,
        status_series=np.zeros(2, np.int32),
        settings={"num_particles": 10},
        **COMMON,
    )


def make_paused_filter() -> PausedFilter:
    """Two arrays of a filter after its fifth step."""
    return PausedFilter(
        leaves={"0": np.arange(1.0, 7.0), "1": np.array([3, 4], np.uint32)},
        step=5,
        identity="00ff",
        generator="threefry2x32",
        clock=[0.0, 2.5],
        settings={"num_particles": 3, "num_runs": 2},
        **COMMON,
    )


RECORDS: dict[str, Callable[[], Record]] = {
    "Result": make_result,
    "Chains": make_chains,
    "MixtureChains": lambda: make_chains(MixtureChains),
    "ParticleChains": lambda: make_chains(ParticleChains),
    "SegmentChains": make_segment_chains,
    "Smoothed": make_smoothed,
    "TemperedChains": make_tempered_chains,
    "Sandwich": make_sandwich,
    "BoundsByParticles": make_bounds_by_particles,
    "Cascade": make_cascade,
    "Forecast": make_forecast,
    "GaussianMoments": make_gaussian_moments,
    "Likeliest": make_likeliest,
    "PanelFiltered": make_panel_filtered,
    "PausedFilter": make_paused_filter,
}
"""One record of every kind."""
