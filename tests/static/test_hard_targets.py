"""Hard targets: their normalisers, draws, laws and modes agree with one another, and SMC recovers them."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

import smcinfer
from smcinfer import ArgumentError
from smcinfer.models import hard_targets
from smcinfer.models.hard_targets import HardTarget
from tests.density_tools import each, log_grid_integral
from tests.statistics import assert_chi2, assert_ks, assert_mean, assert_mean_one_log, assert_weighted_mean

# Small enough that importance sampling from the base, or a grid, gives the normaliser.
SMALL = {
    "cauchy": lambda: hard_targets.cauchy(3, base_scale=1.5),
    "hyperplane_disk": lambda: hard_targets.hyperplane_disk(3),
    "axial_modes": lambda: hard_targets.axial_modes(3),
    "funnel": lambda: hard_targets.funnel(2, base_scale=1.0),
    "ring_mixture": lambda: hard_targets.ring_mixture(5, radius=4.0),
    "scattered_mixture": lambda: hard_targets.scattered_mixture(6, reach=5.0),
    "double_well": lambda: hard_targets.double_well(3, 2),
}
NUM_DRAWS = 10_000


def draws_of(exact: HardTarget, num: int = 2000) -> jax.Array:
    return jax.jit(exact.draw, static_argnums=1)(jax.random.key(1), num)


@pytest.mark.dealt
@pytest.mark.parametrize("name", SMALL)
def test_facts_agree(name: str, precision: str) -> None:
    """Z by importance sampling from the base; draws by their scalar's law, and their modes."""
    exact = SMALL[name]()
    key = jax.random.key(0)

    @jax.jit
    def compute(key: jax.Array) -> tuple[jax.Array, ...]:
        base_key, draw_key = jax.random.split(key)
        base = exact.target.sample_base(base_key, 50 * 1000)
        draws = exact.draw(draw_key, NUM_DRAWS)
        vectors = jax.vmap(exact.target.unconstrain)({"theta": draws}) if name != "funnel" else draws
        return (
            logsumexp(jax.vmap(exact.target.log_potential)(base).reshape(50, 1000), axis=1) - np.log(1000),
            draws,
            jax.vmap(exact.scalar)(draws),
            jax.vmap(exact.mode)(draws),
            jax.vmap(exact.log_density)(draws),
            jax.vmap(exact.target.log_prob)(vectors),
        )

    log_z, draws, scalars, modes, density, through_target = map(np.asarray, compute(key))
    assert draws.dtype == precision and draws.shape == (NUM_DRAWS, exact.dim)
    np.testing.assert_allclose(density, through_target, rtol=2e-4, atol=2e-3)
    assert_mean_one_log(log_z, exact.log_z)
    with pytest.raises(AssertionError):
        assert_mean_one_log(log_z, exact.log_z + 0.2)
    assert_ks(scalars, exact.law.cdf)
    with pytest.raises(AssertionError):
        assert_ks(scalars * 1.1, exact.law.cdf)
    if exact.modes is not None:
        assert_chi2(np.bincount(modes, minlength=len(exact.modes)), np.ones(len(exact.modes)))


def test_quantiles_invert_the_law() -> None:
    for make in SMALL.values():
        law = make().law
        levels = np.array([0.001, 0.05, 0.5, 0.95, 0.999])
        np.testing.assert_allclose(law.cdf(law.quantile(levels)), levels, rtol=1e-4)
    assert hard_targets.funnel().law.quantile(0.001) == pytest.approx(-9.27, abs=0.005)
    assert hard_targets.funnel().law.cdf(-5.0) == pytest.approx(0.0478, abs=1e-4)


def test_normalisers_by_grid(x64: None) -> None:
    for exact, reach in ((hard_targets.axial_modes(2), 40.0), (hard_targets.double_well(2, 1), 8.0)):
        assert log_grid_integral(exact.log_density, 2, reach, 1200) == pytest.approx(exact.log_z, abs=1e-3)


@pytest.mark.slow
def test_second_moments_in_high_dimension(x64: None) -> None:
    """What small cases cannot show: the sizes that the benchmark uses."""
    disk = hard_targets.hyperplane_disk()
    total = np.asarray(draws_of(disk)).sum(axis=1)
    assert_mean(total**2, 0.5 * disk.dim / (1 + disk.dim))
    axial = hard_targets.axial_modes()
    sizes = np.asarray(each(axial.scalar, draws_of(axial)))
    assert_ks(sizes, axial.law.cdf)
    cauchy = hard_targets.cauchy()
    assert_ks(np.asarray(each(cauchy.scalar, draws_of(cauchy))), cauchy.law.cdf)


def test_the_shared_mixture(shared_data) -> None:
    """The forty modes of the reference file, as a target."""
    content = json.loads((shared_data / "targets" / "mixture40.json").read_text())
    exact = hard_targets.gaussian_mixture(content["means"], content["std"])
    assert exact.modes is not None and exact.modes.shape == (40, 2)
    found = np.asarray(each(exact.mode, draws_of(exact)))
    assert len(np.unique(found)) == 40


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: hard_targets.funnel(1), "dim"),
        (lambda: hard_targets.cauchy(base_scale=0.0), "base_scale"),
        (lambda: hard_targets.double_well(3, 4), "num_wells"),
        (lambda: hard_targets.gaussian_mixture([1.0, 2.0], 1.0), "means"),
        (lambda: hard_targets.ring_mixture(0), "num_modes"),
        (lambda: hard_targets.scattered_mixture(std=-1.0), "std"),
    ],
)
def test_wrong_arguments(make, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make()


@pytest.mark.slow
def test_modes_are_stationary(x64: None) -> None:
    for exact in (hard_targets.axial_modes(4), hard_targets.double_well(), hard_targets.ring_mixture()):
        assert exact.modes is not None
        one = exact.modes[0]
        off = jnp.where(jnp.abs(one) > 0, 1.0, 0.0) * 1e-2
        here = exact.log_density(one)
        assert here > exact.log_density(one + off) and here > exact.log_density(one - off)
        numbers = np.asarray(each(exact.mode, exact.modes))
        np.testing.assert_array_equal(numbers, np.arange(len(numbers)))


def reach(
    exact: HardTarget, num_particles: int, kernel: Any = "gibbsian_polar_slice", bias: float = 0.0
) -> smcinfer.Result:
    """Sixteen tempered runs, whose mean Z_hat is Z up to what no particle reaches; a leader chose for them."""
    result = smcinfer.sample(
        jax.random.key(7), exact.target, num_particles=num_particles, num_runs=16, kernel=kernel, progress=False
    )
    assert not result.serious
    assert_mean_one_log(result.log_z_runs, exact.log_z, bias=bias)
    return result


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "num_particles"), [(5, 128), (20, 1024)])
def test_smc_finds_every_mode_as_often_as_it_is_there(dim: int, num_particles: int) -> None:
    exact = hard_targets.axial_modes(dim)
    result = reach(exact, num_particles)
    numbers = np.asarray(each(jax.vmap(exact.mode), result.particles["theta"]))
    mass = np.sum(np.exp(result.log_weights)[..., None] * (numbers[..., None] == np.arange(2 * dim)), axis=1)
    assert np.all(mass.sum(axis=0) > 0)
    assert_weighted_mean(result.log_z_runs, exact.log_z, mass, 0.5 / dim)


@pytest.mark.slow
def test_smc_integrates_the_funnel() -> None:
    # Few particles see the neck in few runs, whose Z_hat then makes up for the others: 16 runs seldom have one.
    kernel = smcinfer.kernels.GibbsianPolarSlice(affine=False)
    reach(hard_targets.funnel(10, base_scale=1.0), 256, kernel, bias=0.4)
