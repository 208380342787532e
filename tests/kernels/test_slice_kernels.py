"""Slice kernels: invariant whatever cap is reached, out of NaN, and true to the contract of a kernel."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import (
    EllipticalSlice,
    GibbsianPolarSlice,
    HitAndRun,
    Kernel,
    PolarSlice,
    TemperedDensity,
    as_blackjax,
    by_name,
)
from smcinfer.paths import Moves
from smcinfer.run.runner import run
from smcinfer.static.methods import Tempering
from tests.kernel_checks import NUM_LANES, check_invariance, check_support
from tests.kernel_targets import Target, last, move
from tests.kernels.evaluations import evaluations_in
from tests.statistics import assert_chi2, assert_ks, assert_mean, assert_mean_one_log

# Every bound low: each is reached all the time, and the kernels must stay exact.
CAPPED = {
    "gibbsian polar, log": GibbsianPolarSlice(width=0.3, max_steps_out=3, max_shrinks=2),
    "gibbsian polar, linear": GibbsianPolarSlice(
        radius="linear", affine="diagonal", width=0.5, max_steps_out=2, max_shrinks=2
    ),
    "polar": PolarSlice(affine=False, max_tries=2),
    "hit and run": HitAndRun(affine=False, width=0.7, max_steps_out=3, max_shrinks=2),
    "elliptical": EllipticalSlice(max_shrinks=2),
    "elliptical, cloud": EllipticalSlice(reference="cloud", max_shrinks=2),
}
KERNELS = {
    "gibbsian polar": GibbsianPolarSlice(max_steps_out=8),
    "polar": PolarSlice(max_tries=16),
    "hit and run": HitAndRun(affine="diagonal", max_steps_out=8),
    "elliptical": EllipticalSlice(),
}


def each(kernels: dict[str, Kernel]) -> Any:
    return pytest.mark.parametrize("kernel", list(kernels.values()), ids=list(kernels))


def is_reversible(kernel: Kernel) -> bool:
    return not isinstance(kernel, GibbsianPolarSlice)


# What shares its parts with one of these is left to the long suite.
QUICK = {("gibbsian polar, log", "float64"), ("elliptical, cloud", "float64")} | {
    (name, "float32") for name in ("gibbsian polar, log", "polar", "hit and run", "elliptical, cloud")
}
BOTH = [
    pytest.param(
        kernel, precision, id=f"{name}, {precision}", marks=() if (name, precision) in QUICK else pytest.mark.slow
    )
    for name, kernel in CAPPED.items()
    for precision in ("float32", "float64")
]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "precision"), BOTH, indirect=["precision"])
def test_caps_cost_no_exactness(kernel: Kernel, precision: str) -> None:
    check_invariance(kernel, "two wells", (0.0, 1.0), reversible=is_reversible(kernel))
    target = Target()
    info = move(kernel, target, 1.0, target.draw(3, 1.0, NUM_LANES), 7)[1]
    assert 0.02 < jnp.mean(info.cap_reached) < 0.98, "expected the caps to be reached, and not always"


@pytest.mark.dealt
@each(KERNELS)
def test_never_enters_nan(kernel: Kernel) -> None:
    check_support(kernel)


@pytest.mark.dealt
@each(KERNELS)
def test_state_and_info_keep_their_contract(kernel: Kernel) -> None:
    target = Target()
    states, info = move(kernel, target, 0.5, target.draw(1, 0.5, NUM_LANES), 1)
    fresh = jax.vmap(lambda position: kernel.init(position, target.density(0.5)))(states.position[-1])
    for cached, expected in zip(jax.tree.leaves(last(states)), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(cached, expected, rtol=1e-4, atol=1e-4)
    assert info.num_evals.dtype == info.cap_reached.dtype == jnp.int32
    stayed = np.asarray(info.acceptance[-1]) == 0
    same_bits = np.all(np.asarray(states.position[-1] == states.position[-2]), axis=1)
    np.testing.assert_array_equal(same_bits, stayed)
    assert np.all(np.asarray(info.cap_reached[-1])[stayed] == 1)


@each(CAPPED | KERNELS)
def test_parameters_keep_their_structure(kernel: Kernel, precision: str) -> None:
    def shapes(params: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), params)

    params = jax.eval_shape(lambda: kernel.parameters(2))
    tuned = jax.eval_shape(kernel.tune, params, jnp.zeros((16, 2)), jnp.zeros(16), jnp.asarray(0.1, float))
    assert shapes(tuned) == shapes(params)
    assert all(leaf.dtype == precision for leaf in jax.tree.leaves(params))


@each(KERNELS)
def test_a_tick_evaluates_once(kernel: Kernel) -> None:
    density, params = Target().density(0.5), kernel.parameters(2)
    state = jax.eval_shape(lambda x: kernel.init(x, density), jnp.zeros(2))
    begin = functools.partial(kernel.begin, density=density, params=params)
    assert evaluations_in(begin, jax.random.key(0), state) == 0
    machine = jax.eval_shape(begin, jax.random.key(0), state)
    assert evaluations_in(lambda machine: kernel.tick(machine, density, params), machine) == 1


def test_half_precision_of_the_program_is_kept(x64: None) -> None:
    # Positions in float32 under a program in float64.
    density = Target().density(0.5)
    for kernel in KERNELS.values():
        state = jax.eval_shape(lambda x, k=kernel: k.init(x, density), jax.ShapeDtypeStruct((2,), jnp.float32))
        step = functools.partial(kernel.step, density=density, params=kernel.parameters(2))
        after = jax.eval_shape(lambda key, state, step=step: step(key, state)[0], jax.random.key(0), state)
        assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)


@pytest.mark.parametrize("kernel", [GibbsianPolarSlice(affine=False), PolarSlice(affine=False, radius="linear")])
def test_the_centre_has_no_direction_and_is_left(kernel: Kernel) -> None:
    density = TemperedDensity(lambda x: -0.5 * jnp.sum(x**2), lambda x: jnp.zeros((), x.dtype), jnp.ones(()))
    state = kernel.init(jnp.zeros(3), density)
    after, info = jax.jit(lambda key: kernel.step(key, state, density, kernel.parameters(3)))(jax.random.key(0))
    assert jnp.all(jnp.isfinite(after.position)) and jnp.sum(after.position**2) > 0
    assert 0 < float(info.acceptance) <= 1


@pytest.mark.slow
def test_widths_follow_the_cloud() -> None:
    rng = np.random.default_rng(0)
    positions = 50.0 + 0.1 * rng.normal(size=(1000, 20))
    heavy = rng.standard_t(1, size=(1000, 20)) / 10
    still = np.ones((1000, 20))

    def widths(kernel: Kernel) -> list[float]:
        tune = jax.jit(lambda cloud: kernel.tune(kernel.parameters(20), cloud, jnp.zeros(1000), jnp.asarray(jnp.nan)))
        return [float(tune(jnp.asarray(cloud, float)).width) for cloud in (positions, heavy, still)]

    # The radius of a 20-dimensional standard normal is 4.4, its logarithm spreads by 0.16. Tails without a variance
    # leave the width of the order of the bulk, and a cloud in one point teaches nothing.
    bulk, tails, nothing = widths(GibbsianPolarSlice())
    assert bulk == pytest.approx(3 * 0.16, rel=0.1) and 0.3 < tails < 10 and nothing == 1.0
    bulk, tails, nothing = widths(GibbsianPolarSlice(radius="linear", affine="diagonal"))
    assert bulk == pytest.approx(4.4 * np.expm1(3 * 0.16), rel=0.1) and 1 < tails < 1000
    bulk, tails, nothing = widths(HitAndRun(affine=False))
    assert bulk == pytest.approx(0.3, rel=0.05) and 0.1 < tails < 10 and nothing == 3.0
    assert widths(GibbsianPolarSlice(affine=False, width=7.0)) == [7.0, 7.0, 7.0]


def test_whitening_survives_tails_without_a_variance() -> None:
    kernel, dim, num = GibbsianPolarSlice(), 8, 4096
    stretched = np.diag(np.linspace(0.5, 5.0, dim)) @ (np.eye(dim) + 0.5 * np.eye(dim, k=1))
    positions = cauchy_draws(num, dim) @ stretched.T + 3.0
    dead = np.full((4, dim), np.nan)
    log_weights = np.where(np.arange(num + 4) < num, 0.0, -np.inf)
    cloud = jax.jit(kernel.tune)(
        kernel.parameters(dim),
        jnp.asarray(np.concatenate([positions, dead]), float),
        jnp.asarray(log_weights, float),
        jnp.asarray(jnp.nan),
    ).cloud
    inner = np.linalg.solve(stretched, np.asarray(cloud.scale, np.float64))
    spread = np.linalg.svd(inner, compute_uv=False)
    assert spread[0] / spread[-1] < 1.2
    np.testing.assert_allclose(cloud.mean, 3.0, atol=0.5)
    # What a covariance makes of it.
    assert np.linalg.cond(np.linalg.solve(stretched, np.linalg.cholesky(np.cov(positions.T)))) > 3.0


def test_a_fixed_annulus_keeps_what_is_outside() -> None:
    kernel = PolarSlice(affine=False, annulus=(0.5, 1.5), max_tries=4)
    target = Target("none")
    start = target.unwhiten(np.random.default_rng(2).normal(size=(NUM_LANES, 2)))
    states, info = move(kernel, target, 1.0, start, 3)
    radius = np.linalg.norm(start, axis=1)
    outside = (radius < 0.49) | (radius > 1.51)
    np.testing.assert_array_equal(np.asarray(states.position[-1])[outside], np.asarray(start, np.float32)[outside])
    assert np.all(np.asarray(info.cap_reached)[:, outside] == 1)
    assert np.mean(np.any(np.asarray(states.position[-1]) != start.astype(np.float32), axis=1)[~outside]) > 0.9
    for column in target.coordinates(states.position[-1]).T:
        assert_ks(column, target.cdf(1.0), num_comparisons=2)


def log_cauchy(squared: Any, dim: int) -> Any:
    return -(dim + 1) / 2 * jnp.log1p(squared)


def cauchy(dim: int) -> TemperedDensity:
    return TemperedDensity(
        lambda x: log_cauchy(jnp.sum(x**2), dim), lambda x: jnp.zeros((), x.dtype), jnp.ones((), jnp.result_type(float))
    )


def cauchy_draws(num: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(num, dim)) / np.abs(rng.normal(size=(num, 1)))


def run_chains(kernel: Kernel, starts: np.ndarray, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Log radii (steps, chains) and evaluations of chains on the Cauchy."""
    density, params = cauchy(starts.shape[1]), kernel.parameters(starts.shape[1])

    def sweep(states: Any, key: Any) -> Any:
        keys = jax.random.split(key, len(starts))
        states, info = jax.vmap(lambda key, state: kernel.step(key, state, density, params))(keys, states)
        return states, (0.5 * jnp.log(jnp.sum(states.position**2, axis=1)), info.num_evals)

    def run(positions: Any, keys: Any) -> Any:
        states = jax.vmap(lambda x: kernel.init(x, density))(positions)
        return jax.lax.scan(sweep, states, keys)[1]

    log_radii, evals = jax.jit(run)(jnp.asarray(starts, float), jax.random.split(jax.random.key(1), num_steps))
    return np.asarray(log_radii, np.float64), np.asarray(evals)


@pytest.mark.slow
@pytest.mark.parametrize("radius", ["log", pytest.param("linear", marks=pytest.mark.slow)])
def test_a_known_radial_form_is_drawn_from_at_the_first_try(radius: str, x64: None) -> None:
    dim, num = 50, 4096
    kernel = PolarSlice(radius=radius, affine=False, envelope=lambda r, exponent: log_cauchy(r**2, dim))
    log_radii, evals = run_chains(kernel, cauchy_draws(num, dim), 3)
    assert np.mean(evals == 1) > 0.999
    assert_ks(log_radii[-1], 0.5 * np.log(np.sum(cauchy_draws(2 * num, dim)[num:] ** 2, axis=1)), num_comparisons=2)


@pytest.mark.slow
def test_an_envelope_too_low_costs_no_exactness(x64: None) -> None:
    dim, num = 3, 8192
    kernel = PolarSlice(affine=False, envelope=lambda r, exponent: log_cauchy(r**2, dim) - 0.5)
    log_radii, _ = run_chains(kernel, cauchy_draws(num, dim), 4)
    assert_ks(log_radii[-1], 0.5 * np.log(np.sum(cauchy_draws(3 * num, dim)[num:] ** 2, axis=1)))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: GibbsianPolarSlice(radius="cubic"), "'log' or 'linear'"),
        (lambda: GibbsianPolarSlice(affine="dense"), "diagonal"),
        (lambda: GibbsianPolarSlice(width=0.0), "0 < width"),
        (lambda: HitAndRun(max_steps_out=0), "max_steps_out"),
        (lambda: EllipticalSlice(max_shrinks=0), "max_shrinks"),
        (lambda: EllipticalSlice(reference="prior"), "'base' or 'cloud'"),
        (lambda: PolarSlice(max_tries=0), "max_tries"),
        (lambda: PolarSlice(annulus=(0.0, 1.0)), "0 < inner"),
        (lambda: PolarSlice(annulus=(0.5, 1.0), width=1.0), "width, annulus"),
        (lambda: PolarSlice(envelope=lambda r, exponent: -r), "affine=False"),
        (lambda: GibbsianPolarSlice().parameters(1), "hit_and_run"),
        (lambda: PolarSlice().parameters(1), "at least 2 dimensions"),
    ],
)
def test_settings_are_checked(make: Any, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        make()


def test_a_base_that_is_not_gaussian_is_refused() -> None:
    density = cauchy(2)
    state = EllipticalSlice().init(jnp.ones(2), density)
    with pytest.raises(TargetError, match='reference="cloud"'):
        EllipticalSlice().step(jax.random.key(0), state, density, EllipticalSlice().parameters(2))


def test_names() -> None:
    for name, kind in [
        ("gibbsian_polar_slice", GibbsianPolarSlice),
        ("polar_slice", PolarSlice),
        ("hit_and_run", HitAndRun),
        ("elliptical_slice", EllipticalSlice),
    ]:
        assert isinstance(by_name(name), kind)


@pytest.mark.slow
def test_slice_kernels_are_blackjax_samplers() -> None:
    def run(kernel: Kernel, key: Any) -> Any:
        algorithm = as_blackjax(kernel, lambda x: -0.5 * jnp.sum((x["a"] - 1.0) ** 2))
        start_key, key = jax.random.split(key)
        state = algorithm.init({"a": 1.0 + jax.random.normal(start_key, (3,))})
        return jax.lax.scan(lambda s, k: (algorithm.step(k, s)[0],) * 2, state, jax.random.split(key, 20))[1].position

    # Chains that start at exact draws follow the law at every step.
    for kernel in (GibbsianPolarSlice(), EllipticalSlice(reference="cloud")):
        draws = jax.jit(jax.vmap(functools.partial(run, kernel)))(jax.random.split(jax.random.key(4), 64))["a"]
        assert_mean(jnp.mean(draws, axis=1), 1.0)
        assert_mean(jnp.mean((draws - 1.0) ** 2, axis=1), 1.0)


# ---- within tempered SMC, and on the published benchmark: long ----


def posterior_of(values: Any) -> Any:
    """Two coordinates x_j ~ N(0, 1), three data each, y ~ N(x_j, 0.8^2); ``values`` (3, 2)."""
    return smcinfer.posterior(dist.Normal(0.0, 1.0).expand([2]).to_event(1), log_likelihood, data=jnp.asarray(values))


def log_likelihood(x: Any, y: Any) -> Any:
    return dist.Normal(x, 0.8).log_prob(y).sum()


ALL_NAMES = ["gibbsian_polar_slice", "polar_slice", "hit_and_run", "elliptical_slice", "pcn", "pcnl"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_led_runs_are_unbiased(name: str, precision: str) -> None:
    values = np.array([[0.7, -0.4], [1.9, 1.1], [2.3, 0.2]])
    model = Tempering(moves=Moves(3, 1, 0.5)).model(posterior_of(values), by_name(name))
    done = run(jax.random.key(1), model, 16, num_runs=1500, resample_below=1.0)
    covariance = 0.64 * np.eye(3) + 1.0
    log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
    exact = sum(-0.5 * log_det - 0.5 * y @ np.linalg.solve(covariance, y) for y in values.T)
    assert_mean_one_log(done.log_z, exact)
    weighted = jnp.exp(done.log_z - exact)[:, None] * jnp.mean(done.particles.position, axis=1)
    assert_mean(weighted, values.sum(axis=0) / (3 + 0.64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_ranks_of_the_truth_are_uniform(name: str) -> None:
    """Simulation-based calibration: the rank of a prior draw among the particles of its data's posterior."""
    rng = np.random.default_rng(3)
    ranks, num_particles = [], 511
    for number in range(200):
        truth = rng.normal(size=2)
        values = truth + 0.8 * rng.normal(size=(3, 2))
        model = Tempering().model(posterior_of(values), by_name(name))
        done = run(jax.random.key(number), model, num_particles, num_runs=1, resample_below=1.0)
        ranks.append(np.sum(np.asarray(done.particles.position[0]) < truth, axis=0))
    for column in np.array(ranks).T:
        assert_chi2(np.bincount(column * 8 // (num_particles + 1), minlength=8), np.full(8, 1 / 8), num_comparisons=2)


def autocorrelation_time(values: np.ndarray) -> float:
    """Integrated autocorrelation time of (steps, chains), by Geyer's initial positive sequence of the mean over chains."""
    centred = values - values.mean()
    spectrum = np.abs(np.fft.rfft(centred, 2 * len(centred), axis=0)) ** 2
    covariance = np.fft.irfft(spectrum.mean(axis=1))[: len(centred)]
    pairs = covariance[: len(centred) // 2 * 2].reshape(-1, 2).sum(axis=1) / covariance[0]
    stop = int(np.argmax(pairs < 0)) if np.any(pairs < 0) else len(pairs)
    return float(2.0 * pairs[:stop].sum() - 1.0)


@pytest.mark.slow
def test_cauchy_figures_are_the_published_ones(x64: None) -> None:
    """d = 100, width 100: 9.1 steps of autocorrelation in the log radius; 2.0 where the logarithm is moved."""
    starts = cauchy_draws(64, 100)
    linear = GibbsianPolarSlice(radius="linear", affine=False, width=100.0, max_steps_out=10_000)
    log_radii, evals = run_chains(linear, starts, 4000)
    # The published 7.1 evaluations count the start and the end at radius zero, which are known here.
    assert evals.mean() == pytest.approx(5.7, rel=0.1)
    assert autocorrelation_time(log_radii) == pytest.approx(8.8, rel=0.15)
    log_radii, evals = run_chains(GibbsianPolarSlice(affine=False, width=3.0), starts, 2000)
    assert evals.mean() < 6.3
    assert autocorrelation_time(log_radii) == pytest.approx(1.9, rel=0.15)
