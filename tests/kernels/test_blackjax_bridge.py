"""Bridges to blackjax, both ways: its samplers keep tempered densities, and our kernels run in its loop."""

from typing import Any

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.base import SamplingAlgorithm
from blackjax.mcmc.hmc import multinomial_hmc_proposal
from blackjax.mcmc.random_walk import RWInfo, RWState

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import HMC, NUTS, Kernel, RandomWalk, as_blackjax, from_blackjax
from tests.kernel_checks import EXPONENTS, NUM_LANES, check_invariance, check_support, check_tuning
from tests.kernel_targets import Target, move
from tests.statistics import assert_ks, assert_mean

BRIDGED_HMC = from_blackjax(blackjax.hmc, num_integration_steps=3)
RMH = from_blackjax(blackjax.rmh)

BRIDGED = {
    # All lanes wait for the longest trajectory: a short bound keeps the tests quick.
    "nuts": NUTS(max_num_doublings=4),
    "hmc": BRIDGED_HMC,
    "mala": from_blackjax(blackjax.mala),
    "rmh": RMH,
    "barker": from_blackjax(blackjax.barker_proposal),
    "elliptical slice": from_blackjax(blackjax.elliptical_slice),
}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", list(BRIDGED.values()), ids=list(BRIDGED))
def test_bridged_samplers_leave_tempered_densities_invariant(kernel: Kernel) -> None:
    check_invariance(kernel, "two wells", EXPONENTS)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [BRIDGED_HMC, RMH], ids=["hmc", "rmh"])
def test_bridged_samplers_work_in_float64(kernel: Kernel, x64: None) -> None:
    check_invariance(kernel, "two wells", (1.0,))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel",
    [
        from_blackjax(blackjax.slice_sampling),
        from_blackjax(blackjax.coordinate_slice),
        from_blackjax(blackjax.additive_step_random_walk),
        from_blackjax(blackjax.additive_step_random_walk.normal_random_walk, sigma=jnp.asarray([0.3, 0.6])),
        from_blackjax(blackjax.dynamic_hmc),
        from_blackjax(blackjax.dynamic_hmc, whiten=False),
        from_blackjax(blackjax.mgrad_gaussian),
        from_blackjax(blackjax.ghmc, alpha=0.5, delta=0.3),
        from_blackjax(blackjax.adjusted_mclmc, num_integration_steps=3),
        from_blackjax(blackjax.adjusted_mclmc_dynamic),
        from_blackjax(blackjax.gist_trajectory_length, max_num_steps=16),
        from_blackjax(blackjax.gist_step_size, initial_step_size=0.5),
        from_blackjax(blackjax.nuts, step_size=0.4, max_num_doublings=4),
    ],
)
def test_more_samplers_leave_tempered_densities_invariant(kernel: Kernel) -> None:
    check_invariance(kernel, "two wells", EXPONENTS)


def factory(logdensity_fn: Any, params: Any) -> SamplingAlgorithm:
    return blackjax.hmc(logdensity_fn, num_integration_steps=2, **params)


def retune(params: Any, mean: Any, covariance: Any, acceptance: Any) -> Any:
    del mean, acceptance
    return params | {"inverse_mass_matrix": jnp.diag(covariance)}


FIRST = {"step_size": 0.5, "inverse_mass_matrix": jnp.ones(2)}


@pytest.mark.slow
@pytest.mark.parametrize("whiten", [False, True])
def test_a_factory_is_tuned_by_its_own_function(whiten: bool) -> None:
    kernel = from_blackjax(factory, params=FIRST, tune=retune, whiten=whiten)
    check_invariance(kernel, "two wells", (0.3,))


def test_a_factory_sees_the_mean_and_covariance_of_the_cloud() -> None:
    kernel = from_blackjax(factory, params=FIRST, tune=retune)
    draws = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 2)) * [2.0, 5.0])
    cloud = (draws, jnp.zeros(4000), jnp.asarray(0.5))
    _, tuned = jax.jit(lambda *cloud: kernel.tune(kernel.parameters(2), *cloud))(*cloud)
    np.testing.assert_allclose(tuned["inverse_mass_matrix"], np.var(draws, axis=0, ddof=1), rtol=1e-4)
    assert float(tuned["step_size"]) == 0.5
    untuned = from_blackjax(factory, params=FIRST)
    _, kept = jax.jit(lambda *cloud: untuned.tune(untuned.parameters(2), *cloud))(*cloud)
    np.testing.assert_array_equal(kept["inverse_mass_matrix"], np.ones(2))


def unadjusted(logdensity_fn: Any, params: Any) -> SamplingAlgorithm:
    """Langevin steps without an accept step: biased, and the check must say so."""

    def step(rng_key: Any, state: RWState) -> tuple[RWState, RWInfo]:
        noise = jax.random.normal(rng_key, state.position.shape, state.position.dtype)
        drift = jnp.clip(jax.grad(logdensity_fn)(state.position), -5.0, 5.0)
        position = state.position + params * drift + jnp.sqrt(2 * params) * noise
        new = RWState(position, logdensity_fn(position))
        return new, RWInfo(jnp.ones(()), jnp.asarray(True), new)

    return SamplingAlgorithm(lambda position, rng_key=None: RWState(position, logdensity_fn(position)), step)


def test_a_biased_sampler_is_found() -> None:
    with pytest.raises(AssertionError, match="draws do not follow|mean differs"):
        check_invariance(from_blackjax(unadjusted, params=0.3, whiten=True), "two wells", (1.0,))


def test_a_refused_sampler_is_refused_for_a_reason() -> None:
    multinomial = from_blackjax(
        lambda logdensity_fn, params: blackjax.mhmc(logdensity_fn, params, jnp.ones(2), num_integration_steps=4),
        params=0.6,
        whiten=True,
    )
    with pytest.raises(AssertionError, match="draws do not follow|mean differs"):
        check_invariance(multinomial, "two wells", (1.0,))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [BRIDGED_HMC, RMH, BRIDGED["nuts"]], ids=["hmc", "rmh", "nuts"])
def test_bridged_samplers_never_enter_nan(kernel: Kernel) -> None:
    check_support(kernel)


@pytest.mark.dealt
@pytest.mark.parametrize("kernel", [BRIDGED_HMC, BRIDGED["nuts"]], ids=["hmc", "nuts"])
def test_nan_gradients_cost_no_exactness(kernel: Kernel) -> None:
    check_invariance(kernel, "NaN gradient", (1.0,))
    check_invariance(kernel, "NaN and minus infinity", (0.0,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["barker", "rmh"])
def test_tuning_reaches_the_acceptance_target(name: str) -> None:
    check_tuning(BRIDGED[name])


def test_given_parameters_reach_the_sampler() -> None:
    density, position = Target().density(0.6), jnp.asarray([0.2, -0.7])
    given = {"step_size": 0.3, "inverse_mass_matrix": jnp.asarray([0.5, 2.0]), "num_integration_steps": 4}
    kernel = from_blackjax(blackjax.hmc, **given)

    @jax.jit
    def both(key: Any) -> Any:
        bridged, info = kernel.step(key, kernel.init(position, density), density, kernel.parameters(2))
        algorithm = blackjax.hmc(density, **given)
        plain, report = algorithm.step(jax.random.split(key)[1], algorithm.init(position))
        return bridged, info, plain, report

    for seed in range(4):
        bridged, info, plain, report = both(jax.random.key(seed))
        np.testing.assert_allclose(bridged.position, plain.position, rtol=1e-5)
        np.testing.assert_allclose(
            density.combine(bridged.log_base, bridged.log_potential), plain.logdensity, rtol=1e-4
        )
        assert float(info.acceptance) == pytest.approx(float(report.acceptance_rate), rel=1e-3)
        assert int(info.num_evals) == 4 + 1


def test_a_rejected_step_gives_back_the_very_bits() -> None:
    start = np.asarray(Target().draw(1, 1.0, NUM_LANES), np.float32)
    states, info = move(BRIDGED_HMC, Target(), 1.0, start, 5)
    stayed = np.all(np.asarray(states.position[0]) == start, axis=1)
    assert 0.02 < stayed.mean() < 0.98
    assert_mean(~stayed - np.asarray(info.acceptance[0], np.float64), 0.0)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: from_blackjax(blackjax.mclmc), "no accept step.*\n.*adjusted_mclmc"),
        (lambda: from_blackjax(blackjax.orbital_hmc), "weighted orbit"),
        (lambda: from_blackjax(blackjax.mhmc, num_integration_steps=4), "always starts at the particle"),
        (
            lambda: from_blackjax(blackjax.hmc, num_integration_steps=4, build_proposal=multinomial_hmc_proposal),
            "always starts at the particle",
        ),
        (lambda: from_blackjax(blackjax.dmhmc), "always starts at the particle"),
        (lambda: from_blackjax(blackjax.adaptive_tempered_smc), "does not take a log density"),
        (lambda: from_blackjax(blackjax.sgld), "does not take a log density"),
        (lambda: from_blackjax("nuts"), "not a blackjax sampler"),
        (lambda: from_blackjax(blackjax.hmc), "expected: num_integration_steps"),
        (lambda: from_blackjax(blackjax.ghmc), "expected: alpha, delta"),
        (lambda: from_blackjax(blackjax.nuts, stepsize=0.1), "takes no parameter.*stepsize"),
        (lambda: from_blackjax(blackjax.nuts, tune=retune), "tune needs params"),
        (lambda: from_blackjax(blackjax.nuts, target_acceptance=1.5), "target_acceptance is out of range"),
        (lambda: from_blackjax(blackjax.elliptical_slice, whiten=True), "cannot be whitened"),
        (lambda: from_blackjax(blackjax.ghmc, alpha=0.5, delta=0.3, whiten=False), "momentum of unit scale"),
        (
            lambda: from_blackjax(blackjax.ghmc, alpha=0.5, delta=0.3, momentum_inverse_scale=jnp.ones(2)),
            "momentum of unit scale",
        ),
        (lambda: from_blackjax(factory, params=FIRST, step_size=0.1), "in params only"),
        # Without its density an independent proposal is taken for a symmetric one.
        (
            lambda: from_blackjax(blackjax.irmh, proposal_distribution=lambda key: jax.random.normal(key, (2,))),
            "expected: proposal_logdensity_fn",
        ),
        (lambda: NUTS(max_num_doublings=0), "at least 1"),
    ],
)
def test_what_cannot_be_bridged_is_refused(make: Any, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        make()


def one_step(kernel: Kernel, density: Any) -> Any:
    def step(key: Any) -> Any:
        return kernel.step(key, kernel.init(jnp.zeros(2), density), density, kernel.parameters(2))

    return jax.eval_shape(step, jax.random.key(0))


def test_faults_found_while_tracing_say_what_to_do() -> None:
    density = Target().density(1.0)
    bare = eqx.tree_at(lambda d: (d.base_mean, d.base_scale), density, replace=(None, None))
    with pytest.raises(TargetError, match="needs a Gaussian base"):
        one_step(from_blackjax(blackjax.elliptical_slice), bare)
    with pytest.raises(TargetError, match="did not return a blackjax sampler"):
        one_step(from_blackjax(lambda logdensity_fn, params: params, params=FIRST), density)
    renamed = from_blackjax(factory, params=FIRST, tune=lambda params, *_: {"step": params["step_size"]})
    with pytest.raises(TargetError, match="changed the structure"):
        renamed.tune(renamed.parameters(2), jnp.zeros((4, 2)), jnp.zeros(4), jnp.asarray(0.5))


def log_density(position: Any) -> Any:
    return -0.5 * jnp.sum(position["a"] ** 2) - 0.5 * (position["b"] - position["a"][0]) ** 2


@pytest.mark.parametrize("kernel", [RandomWalk(), HMC()], ids=lambda kernel: type(kernel).__name__)
def test_kernels_run_in_blackjax_inference_loop(kernel: Kernel) -> None:
    algorithm = as_blackjax(kernel, log_density)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4096, 2))
    positions = {"a": jnp.asarray(a), "b": jnp.asarray(rng.normal(size=4096) + a[:, 0])}

    @jax.jit
    @jax.vmap
    def run(key: Any, position: Any) -> Any:
        _, (states, info) = blackjax.util.run_inference_algorithm(key, algorithm, 5, initial_position=position)
        return states.position, info.acceptance_rate

    moved, acceptance = run(jax.random.split(jax.random.key(2), 4096), positions)
    assert moved["a"].shape == (4096, 5, 2) and moved["b"].shape == (4096, 5)
    assert 0.1 < float(acceptance.mean()) <= 1.0
    assert np.mean(np.asarray(moved["b"][:, -1]) != np.asarray(positions["b"])) > 0.3
    normal = np.random.default_rng(1).normal(size=100_000)
    for column in (moved["a"][:, -1, 0], moved["a"][:, -1, 1], moved["b"][:, -1] - moved["a"][:, -1, 0]):
        assert_ks(column, normal, num_comparisons=3)


def test_an_exported_kernel_takes_tuned_parameters() -> None:
    kernel = HMC()
    params = eqx.tree_at(lambda p: p.step_size, kernel.parameters(3), jnp.asarray(0.1))
    algorithm = as_blackjax(kernel, log_density, params)
    state = algorithm.init({"a": jnp.zeros(2), "b": jnp.zeros(())})
    moved, info = jax.jit(algorithm.step)(jax.random.key(3), state)
    assert float(moved.logdensity) == pytest.approx(float(log_density(moved.position)), rel=1e-5)
    # A tenth of the spread a step takes eight or more steps to the shortest trajectory.
    assert int(info.num_evals) >= 7 and float(info.acceptance_rate) > 0.98
