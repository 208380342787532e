"""What moves found that weights had not: zero where both stand for one law, and a status where they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.core.status import Status
from smcinfer.kernels import HMC, Scales
from smcinfer.models.evidence_problems import funnel_in_a_box
from smcinfer.paths.moves import rise_of_mean
from smcinfer.static import posterior
from tests.statistics import assert_mean
from tests.synthetic import make_result


def test_the_mean_rises_where_a_region_was_missed(precision: str) -> None:
    """By order one where both populations are of one law, copies included; by sqrt(N) where the first lacks a part."""
    before, after = jax.random.normal(jax.random.key(0), (2, 4000))
    assert abs(float(rise_of_mean(jnp.repeat(before[::2], 2), after))) < 4
    assert float(rise_of_mean(before - 0.2, after)) == pytest.approx(0.2 * np.sqrt(4000 / 3), abs=3)
    assert float(rise_of_mean(jnp.zeros(9), jnp.zeros(9))) == 0.0
    assert np.isfinite(rise_of_mean(before.at[0].set(-jnp.inf), after.at[1].set(-jnp.inf)))


@pytest.mark.parametrize(
    ("gap", "missed"), [(3.0, True), (1.0, True), (0.2, False), (-3.0, False), (np.nan, False)], ids=str
)
def test_rises_beyond_chance_are_a_status(gap: float, missed: bool) -> None:
    """Sixteen steps of four runs: small rises that never fall are together what one large rise is."""
    plain = make_result(4, 50)
    runs, steps = plain.history["log_z_increment"].shape
    gaps = np.tile(np.linspace(0.9, 1.1, runs)[:, None] * gap, (1, steps))
    found = make_result(4, 50, history={"gap": gaps})
    assert (Status.MASS_MISSED in found.status) == missed and ("MASS_MISSED" in str(found)) == missed


WELL_SAMPLED = posterior(dist.Normal(0.0, 1.0).expand([3]).to_event(1), lambda x: -500.0 * ((x - 1.0) ** 2).sum())


@pytest.mark.parametrize("method", ["tempering", pytest.param("nested", marks=pytest.mark.slow)])
def test_no_alarm_where_nothing_was_missed(method: str) -> None:
    """The negative control: many runs, whose rises have mean zero and are about as large as they say."""
    result = smcinfer.sample(
        jax.random.key(0), WELL_SAMPLED, num_particles=64, num_runs=64, method=method, progress=False
    )
    assert Status.MASS_MISSED not in result.status
    gaps = result.history["gap"][:, 1:]
    moved = np.isfinite(gaps)
    together = gaps.sum(axis=1, where=moved) / np.sqrt(moved.sum(axis=1))
    assert_mean(together, 0.0)
    assert 0.3 < together.std() < 1.3


@pytest.mark.slow
def test_a_neck_that_is_entered_late_is_said() -> None:
    """The funnel in a box: log Z is too low, and the moves that still found more tell it."""
    problem = funnel_in_a_box(10)
    result = smcinfer.sample(jax.random.key(2), problem.target, num_particles=512, progress=False)
    assert result.log_z_interval()[1] < problem.log_z and Status.MASS_MISSED in result.status, result


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [HMC(), Scales(HMC())], ids=["hmc", "scales"])
def test_a_neck_that_was_not_entered_is_said(kernel: HMC | Scales) -> None:
    """The funnel in a wider box, whose log Z is -50.867, from its uniform prior."""
    half = jnp.array([12.0] + [100.0] * 9)

    def log_likelihood(x: jax.Array) -> jax.Array:
        return dist.Normal(0.0, 3.0).log_prob(x[0]) + dist.Normal(0.0, jnp.exp(x[0] / 2)).log_prob(x[1:]).sum()

    funnel = smcinfer.posterior(dist.Uniform(-half, half), log_likelihood)
    result = smcinfer.sample(jax.random.key(1), funnel, num_particles=1024, kernel=kernel, progress=False)
    assert result.log_z < -51 and Status.MASS_MISSED in result.status, result.status_in_words
