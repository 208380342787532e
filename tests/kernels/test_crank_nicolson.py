"""Crank-Nicolson kernels: invariant along the base's Gaussian or the cloud's, and every known fault found."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import CrankNicolson, CrankNicolsonLangevin, Kernel, KernelState, TemperedDensity, by_name
from smcinfer.kernels.metropolis import metropolis
from tests.kernel_checks import NUM_LANES, check_invariance, check_support, check_tuning
from tests.kernel_targets import Target, last, move

KERNELS = {
    "pcn": CrankNicolson(),
    "pcn, cloud": CrankNicolson(reference="cloud"),
    "pcnl": CrankNicolsonLangevin(),
    "pcnl, cloud": CrankNicolsonLangevin(reference="cloud"),
}


def each(*names: str) -> Any:
    names = names or tuple(KERNELS)
    return pytest.mark.parametrize("kernel", [KERNELS[name] for name in names], ids=names)


BOTH = [
    pytest.param(
        kernel,
        precision,
        id=f"{name}, {precision}",
        marks=() if precision == "float32" or name == "pcnl" else pytest.mark.slow,
    )
    for name, kernel in KERNELS.items()
    for precision in ("float32", "float64")
]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "precision"), BOTH, indirect=["precision"])
def test_leaves_tempered_densities_invariant(kernel: Kernel, precision: str) -> None:
    check_invariance(kernel, "two wells", (0.0, 0.3, 1.0))


@pytest.mark.slow
def test_a_clipped_drift_keeps_invariance() -> None:
    check_invariance(CrankNicolsonLangevin(max_drift=0.3), "two wells", (1.0,))


@pytest.mark.slow
def test_nan_gradients_cost_no_exactness() -> None:
    check_invariance(KERNELS["pcnl"], "NaN gradient", (0.0, 1.0))


@pytest.mark.dealt
@each("pcn", "pcnl", "pcnl, cloud")
def test_never_enters_nan(kernel: Kernel) -> None:
    check_support(kernel)


class WithoutTheSquare(CrankNicolsonLangevin):
    def _log_over_pcn(self, drift: Any, noise: Any) -> Any:
        return jnp.sum(drift * noise)


class WithTheRatioOfPCN(CrankNicolsonLangevin):
    def _log_over_pcn(self, drift: Any, noise: Any) -> Any:
        return jnp.zeros(())


class ClippedInOneDirection(CrankNicolsonLangevin):
    """The ratio is that of the unclipped drift, the proposal that of the clipped one."""

    def _log_over_pcn(self, drift: Any, noise: Any) -> Any:
        return super()._log_over_pcn(2.0 * drift, noise)


def always_accept(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    return proposed, jnp.ones(())


def swapped_ratio(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    old, new = (density.combine(state.log_base, state.log_potential) for state in (current, proposed))
    return metropolis(key, current, proposed, density, 2.0 * (old - new) - log_correction)


def swapped_correction(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    return metropolis(key, current, proposed, density, -log_correction)


def without_correction(key: Any, current: Any, proposed: Any, density: Any, log_correction: Any = 0.0) -> Any:
    return metropolis(key, current, proposed, density)


SLOW = pytest.mark.slow
FAULTS = [
    pytest.param(WithoutTheSquare(), None, None, id="pcnl without the square of the gradient"),
    pytest.param(WithTheRatioOfPCN(), None, None, id="pcnl with the ratio of pcn"),
    pytest.param(ClippedInOneDirection(), None, None, id="pcnl with another drift in the ratio", marks=SLOW),
    pytest.param(CrankNicolsonLangevin(), "pcnl", always_accept, id="pcnl without the accept step"),
    pytest.param(CrankNicolsonLangevin(), "pcnl", swapped_ratio, id="pcnl with the ratio upside down"),
    pytest.param(
        CrankNicolsonLangevin(), "pcnl", swapped_correction, id="pcnl with the correction upside down", marks=SLOW
    ),
    pytest.param(CrankNicolson(), "crank_nicolson", without_correction, id="pcn that counts the Gaussian twice"),
]


@pytest.mark.dealt
@pytest.mark.parametrize(("kernel", "module", "fault"), FAULTS)
def test_faults_are_found(kernel: Kernel, module: str | None, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if module is not None:
        monkeypatch.setattr(f"smcinfer.kernels.{module}.metropolis", fault)
    with pytest.raises(AssertionError, match="draws do not follow|mean differs"):
        check_invariance(kernel, "two wells", (1.0,))


@each()
def test_state_and_info_keep_their_contract(kernel: Kernel) -> None:
    target = Target()
    states, info = move(kernel, target, 0.3, target.draw(1, 0.3, NUM_LANES), 1)
    fresh = jax.vmap(lambda position: kernel.init(position, target.density(0.3)))(states.position[-1])
    for cached, expected in zip(jax.tree.leaves(last(states)), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(cached, expected, rtol=1e-4, atol=1e-4)
    assert jnp.all(info.num_evals == 1) and not jnp.any(info.cap_reached)
    assert jnp.all((info.acceptance >= 0) & (info.acceptance <= 1))


@each("pcn", "pcnl")
def test_the_base_alone_is_always_accepted(kernel: Kernel) -> None:
    # The proposal leaves the Gaussian invariant: at exponent zero nothing is left for the accept step.
    target = Target()
    _, info = move(kernel, target, 0.0, target.draw(1, 0.0, NUM_LANES), 1)
    np.testing.assert_allclose(info.acceptance, 1.0, atol=1e-3)


@pytest.mark.parametrize(
    "kernel", [pytest.param(CrankNicolson(), marks=SLOW), CrankNicolsonLangevin()], ids=["pcn", "pcnl"]
)
def test_tuning_reaches_the_acceptance_target(kernel: Kernel) -> None:
    check_tuning(kernel)


@pytest.mark.parametrize("kernel", [CrankNicolson(), CrankNicolsonLangevin()], ids=["pcn", "pcnl"])
def test_a_base_that_is_not_gaussian_is_refused(kernel: Kernel) -> None:
    density = TemperedDensity(lambda x: -jnp.sum(jnp.abs(x)), lambda x: -jnp.sum(x**4), jnp.ones(()))
    state = kernel.init(jnp.ones(2), density)
    with pytest.raises(TargetError, match='reference="cloud"'):
        kernel.step(jax.random.key(0), state, density, kernel.parameters(2))


def test_a_state_without_gradients_is_refused() -> None:
    bare = KernelState(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))
    with pytest.raises(TargetError, match=r"kernel\.init"):
        CrankNicolsonLangevin().step(
            jax.random.key(0), bare, Target().density(1.0), CrankNicolsonLangevin().parameters(2)
        )


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: CrankNicolson(target_acceptance=0.0), "target_acceptance"),
        (lambda: CrankNicolson(reference="gaussian"), "'base' or 'cloud'"),
        (lambda: CrankNicolsonLangevin(max_drift=0.0), "max_drift"),
    ],
)
def test_settings_are_checked(make: Any, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        make()


@pytest.mark.slow
def test_names() -> None:
    assert isinstance(by_name("pcn"), CrankNicolson) and isinstance(by_name("pcnl"), CrankNicolsonLangevin)
