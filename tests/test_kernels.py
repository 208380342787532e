"""Move kernels: each leaves its tempered density invariant, keeps out of NaN, and learns from a cloud."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.errors import ArgumentError, TargetError
from smcinfer.kernels import HMC, MALA, Independent, Kernel, KernelState, RandomWalk, TemperedDensity, by_name
from smcinfer.kernels.metropolis import choose, metropolis
from tests.kernel_targets import Target, careless_root, last, move, root
from tests.statistics import assert_chi2, assert_ks, assert_mean

KERNELS = {"random_walk": RandomWalk(), "independent": Independent(), "mala": MALA(), "hmc": HMC()}
EXPONENTS = (0.0, 0.3, 1.0)
NUM_LANES = 8192


def all_kernels() -> Any:
    return pytest.mark.parametrize("kernel", list(KERNELS.values()), ids=list(KERNELS))


def check_invariance(kernel: Kernel, target: Target, exponents: tuple[float, ...] = EXPONENTS) -> None:
    """Start every lane at an exact draw, move, and compare with the exact law.

    After the last sweep every coordinate still follows its law. And since the kernel is reversible, the first
    sweep's start and end are exchangeable: no net flux, E[f(z) g(z')] = E[g(z) f(z')].
    """
    num_comparisons = len(exponents) * (target.dim + 1)

    @jax.jit
    def run(exponent: Any, positions: Any) -> Any:
        return move(kernel, target.density(exponent), positions, 7, 4)[0].position

    for exponent in exponents:
        start = target.draw(3, exponent, NUM_LANES)
        moved = run(jnp.asarray(exponent, float), jnp.asarray(start, float))
        assert moved.dtype == jnp.result_type(float)
        assert np.mean(np.any(np.diff(moved[:2], axis=0) != 0, axis=-1)) > 0.1, "expected lanes to move"
        for column in target.coordinates(moved[-1]).T:
            assert_ks(column, target.cdf(exponent), num_comparisons=num_comparisons)
        assert_mean(
            net_flux(target.coordinates(start), target.coordinates(moved[0])), 0.0, num_comparisons=num_comparisons
        )


def net_flux(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """f(z) g(z') - g(z) f(z') of all pairs of a few features, one row a lane."""
    features = [np.tanh, lambda z: np.minimum(z**2, 4.0), lambda z: np.where(z > 0, np.exp(-z), 0.0)]
    f, g = (np.concatenate([feature(z) for feature in features], axis=1) for z in (before, after))
    flux = f[:, :, None] * g[:, None, :]
    return (flux - np.swapaxes(flux, 1, 2))[:, *np.triu_indices(f.shape[1], 1)]


@all_kernels()
def test_leaves_tempered_densities_invariant(kernel: Kernel, precision: str) -> None:
    check_invariance(kernel, Target())


@pytest.mark.parametrize("kernel", [RandomWalk(metric="diagonal"), Independent(df=None), HMC(metric="diagonal")])
def test_settings_keep_invariance(kernel: Kernel) -> None:
    check_invariance(kernel, Target(), exponents=(0.3,))


class UncorrectedMALA(MALA):
    def _log_correction(self, noise: Any, noise_back: Any) -> Any:
        return jnp.zeros(())


class NegatedDensity(TemperedDensity):
    def combine(self, log_base: Any, log_potential: Any) -> Any:
        return -super().combine(log_base, log_potential)


def always_accept(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    return proposed, jnp.ones(())


def wrong_sign(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    negated = NegatedDensity(density.log_base, density.log_potential, density.exponent)
    return metropolis(key, current, proposed, negated, log_correction)


def without_correction(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    return metropolis(key, current, proposed, density)


MUTATIONS = [
    pytest.param("mala", UncorrectedMALA(), None, id="mala without the correction"),
    pytest.param("hmc", HMC(), always_accept, id="hmc without the accept step"),
    pytest.param("hmc", HMC(), without_correction, id="hmc without the kinetic energy"),
    pytest.param("random_walk", RandomWalk(), wrong_sign, id="random walk with the ratio upside down"),
    pytest.param("independent", Independent(), without_correction, id="independent without the proposal ratio"),
]


@pytest.mark.parametrize(("module", "kernel", "accept"), MUTATIONS)
def test_mutations_are_found(module: str, kernel: Kernel, accept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if accept is not None:
        monkeypatch.setattr(f"smcinfer.kernels.{module}.metropolis", accept)
    with pytest.raises(AssertionError, match="draws do not follow|mean differs|not"):
        check_invariance(kernel, Target(), exponents=(1.0,))


@all_kernels()
def test_never_enters_nan(kernel: Kernel) -> None:
    target = Target(root)
    inside = target.draw(5, 1.0, NUM_LANES)
    # Particles of weight zero, outside the support: they may only walk in.
    outside = target.unwhiten(np.full((64, 2), 1.5))
    density = target.density(1.0)
    states, info = move(kernel, density, np.concatenate([inside, outside]), 13, 30, pilot=inside)
    z = target.coordinates(states.position)
    assert np.all(z[:, :NUM_LANES] <= 1.0 + 1e-5)
    assert jnp.all(jnp.isfinite(states.log_potential[:, :NUM_LANES])) and not jnp.any(jnp.isnan(info.acceptance))
    assert jnp.mean(jnp.isfinite(states.log_potential[-1, NUM_LANES:])) > 0.8
    for column in z[4, :NUM_LANES].T:
        assert_ks(column, target.cdf(1.0), num_comparisons=2)


def accept_unless_worse(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    ratio = density.combine(proposed.log_base, proposed.log_potential) - density.combine(
        current.log_base, current.log_potential
    )
    rejected = ratio + log_correction < -jax.random.exponential(key)
    return choose(rejected, current, proposed), jnp.ones(())


def test_an_accept_step_that_lets_nan_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smcinfer.kernels.random_walk.metropolis", accept_unless_worse)
    with pytest.raises(AssertionError):
        test_never_enters_nan(RandomWalk())


@pytest.mark.parametrize("kernel", [MALA(), HMC()], ids=["mala", "hmc"])
def test_nan_gradients_cost_no_exactness(kernel: Kernel) -> None:
    check_invariance(kernel, Target(careless_root), exponents=(0.0, 1.0))


@all_kernels()
def test_exponent_zero_ignores_the_potential(kernel: Kernel) -> None:
    # NaN on part of the space, minus infinity on another: neither counts at exponent zero.
    check_invariance(kernel, Target(lambda z: jnp.where(z < -1.0, -jnp.inf, root(z))), exponents=(0.0,))


@all_kernels()
def test_state_and_info_keep_their_contract(kernel: Kernel) -> None:
    density = Target().density(0.5)
    positions = jnp.asarray(Target().draw(1, 0.5, 16), float)
    states, info = move(kernel, density, positions, 1, 2)
    fresh = jax.jit(jax.vmap(lambda position: kernel.init(position, density)))(states.position[-1])
    for cached, expected in zip(jax.tree.leaves(last(states)), jax.tree.leaves(fresh), strict=True):
        assert cached.dtype == expected.dtype
        np.testing.assert_allclose(cached, expected, rtol=1e-4, atol=1e-4)
    assert info.num_evals.dtype == info.cap_reached.dtype == jnp.int32
    assert jnp.all((info.acceptance >= 0) & (info.acceptance <= 1)) and jnp.all(info.num_evals >= 1)


@all_kernels()
def test_parameters_keep_their_structure(kernel: Kernel, precision: str) -> None:
    def shapes(params: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), params)

    params = jax.eval_shape(lambda: kernel.parameters(2))
    cloud = (jnp.zeros((16, 2)), jnp.zeros(16), jnp.asarray(0.1, float))
    tuned = jax.eval_shape(kernel.tune, params, *cloud)
    assert shapes(tuned) == shapes(params) == shapes(jax.eval_shape(kernel.share, jax.random.key(0), tuned))
    assert all(leaf.dtype == precision for leaf in jax.tree.leaves(params) if leaf.dtype.kind == "f")


@pytest.mark.parametrize(("kernel", "evaluations"), [(RandomWalk(), 1), (MALA(), 1), (HMC(), 1)])
def test_cached_parts_are_not_evaluated_again(kernel: Kernel, evaluations: int) -> None:
    calls = []
    plain = Target().density(0.5)

    def counted(x: Any) -> Any:
        calls.append(1)
        return plain.log_potential(x)

    density = eqx.tree_at(lambda d: d.log_potential, plain, counted)
    params = kernel.parameters(2)
    state = kernel.init(jnp.zeros(2), density)
    calls.clear()
    jax.make_jaxpr(lambda key, state: kernel.step(key, state, density, params))(jax.random.key(0), state)
    assert len(calls) == evaluations


def test_exponent_changes_without_evaluation() -> None:
    kernel, target = MALA(), Target()
    state = kernel.init(jnp.asarray([0.3, -0.4]), target.density(0.2))
    colder = target.density(0.9)
    expected = jax.value_and_grad(colder)(state.position)
    np.testing.assert_allclose(colder.combine(state.log_base, state.log_potential), expected[0], rtol=1e-5)
    np.testing.assert_allclose(colder.combine_gradients(*state.gradients), expected[1], rtol=1e-4)


def test_shared_trajectories_run_in_lockstep() -> None:
    kernel, density = HMC(), Target().density(0.5)
    params = kernel.parameters(2)
    state = jax.vmap(kernel.init, in_axes=(0, None))(jnp.zeros((8, 2)), density)
    keys = jax.random.split(jax.random.key(0), 8)

    def loop_condition(params: Any, in_axes: Any) -> tuple[int, ...]:
        stepped = jax.vmap(kernel.step, in_axes=(0, 0, None, in_axes))
        program = jax.make_jaxpr(lambda keys, state, params: stepped(keys, state, density, params))(keys, state, params)
        (loop,) = [equation for equation in program.eqns if equation.primitive.name == "while"]
        return loop.params["cond_jaxpr"].out_avals[0].shape

    shared = kernel.share(jax.random.key(1), params)
    assert loop_condition(shared, None) == ()
    # Were each lane to draw its own, the loop would ask all of them whether to go on.
    each = jax.vmap(kernel.share, in_axes=(0, None))(keys, params)
    assert loop_condition(each, 0) == (8,)


def test_trajectory_times_are_jittered_and_bounded() -> None:
    kernel = HMC(max_leapfrog=6)
    params = kernel.parameters(4)
    draws = jax.vmap(kernel.share, in_axes=(0, None))(jax.random.split(jax.random.key(2), 2000), params)
    times = np.asarray(params.step_size * draws.num_leapfrog)
    half = 0.5 * float(params.step_size)
    assert not jnp.any(draws.truncated) and np.unique(times).size >= 2
    assert times.min() >= 0.5 * kernel.trajectory - half and times.max() <= 1.5 * kernel.trajectory + half
    bounds = np.clip(np.arange(0, 8) * 2 * half + half, 0.5 * kernel.trajectory, 1.5 * kernel.trajectory)
    assert_chi2(np.bincount(draws.num_leapfrog, minlength=8)[1:], np.diff(bounds))
    tiny = eqx.tree_at(lambda p: p.step_size, params, jnp.asarray(0.01))
    cut = kernel.share(jax.random.key(3), tiny)
    assert bool(cut.truncated) and int(cut.num_leapfrog) == 6
    state = kernel.init(jnp.zeros(4), Target(dim=4).density(1.0))
    assert int(kernel.step(jax.random.key(4), state, Target(dim=4).density(1.0), cut)[1].cap_reached) == 1


def test_a_fixed_time_resonates_and_a_jittered_one_does_not() -> None:
    # Half a period of a Gaussian mirrors every point: all moves are accepted and no second moment changes.
    positions = np.random.default_rng(0).normal(size=(2000, 2))
    density = Target(lambda z: 0.0 * z).density(1.0)
    start = Target().unwhiten(positions)

    def memory(kernel: Kernel) -> float:
        states, info = move(kernel, density, start, 19, 4)
        assert jnp.mean(info.acceptance) > 0.7
        moved = Target().coordinates(last(states).position)
        return float(np.corrcoef(positions[:, 0] ** 2, moved[:, 0] ** 2)[0, 1])

    assert memory(HMC(trajectory=np.pi, jitter=0.0)) > 0.7
    assert abs(memory(HMC())) < 0.2


@pytest.mark.parametrize("kernel", [RandomWalk(), MALA(), HMC()], ids=["random_walk", "mala", "hmc"])
@pytest.mark.parametrize("first", [0.01, 1.5])
def test_tuning_reaches_the_acceptance_target(kernel: Any, first: float) -> None:
    target = Target(dim=5)
    positions = jnp.asarray(target.draw(2, 1.0, 1024), float)
    density = target.density(1.0)

    @jax.jit
    def sweep(carry: Any, key: Any) -> Any:
        states, params, acceptance = carry
        params = kernel.tune(params, states.position, jnp.zeros(1024), acceptance)
        share_key, step_key = jax.random.split(key)
        keys = jax.random.split(step_key, 1024)
        step = jax.vmap(kernel.step, in_axes=(0, 0, None, None))
        states, info = step(keys, states, density, kernel.share(share_key, params))
        return (states, params, jnp.mean(info.acceptance)), jnp.mean(info.acceptance)

    states = jax.vmap(kernel.init, in_axes=(0, None))(positions, density)
    params = eqx.tree_at(lambda p: p.step_size, kernel.parameters(5), jnp.asarray(first, float))
    carry = (states, params, jnp.asarray(jnp.nan))
    _, acceptance = jax.lax.scan(sweep, carry, jax.random.split(jax.random.key(6), 24))
    assert abs(float(acceptance[0]) - kernel.target_acceptance) > 0.1
    assert float(jnp.mean(acceptance[-12:])) == pytest.approx(kernel.target_acceptance, abs=0.05)


def test_names() -> None:
    assert isinstance(by_name("hmc"), HMC)
    mine = MALA(target_acceptance=0.7)
    assert by_name(mine) is mine
    for wrong, complaint in [("hcm", "'hcm'"), (HMC, r"HMC\(\)")]:
        with pytest.raises(ArgumentError, match=complaint) as caught:
            by_name(wrong)
        assert "random_walk, independent, mala, hmc, nuts" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: RandomWalk(target_acceptance=1.0), "target_acceptance"),
        (lambda: MALA(metric="full"), "dense or diagonal"),
        (lambda: Independent(df=2.0), "df > 2"),
        (lambda: HMC(jitter=1.5), "0 <= jitter <= 1"),
        (lambda: HMC(trajectory=0.0), "trajectory > 0"),
        (lambda: HMC(max_leapfrog=0), "at least 1"),
    ],
)
def test_settings_are_checked(make: Any, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        make()


def test_a_state_without_gradients_is_refused() -> None:
    density = Target().density(1.0)
    bare = KernelState(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))
    with pytest.raises(TargetError, match=r"kernel\.init"):
        HMC().step(jax.random.key(0), bare, density, HMC().parameters(2))
