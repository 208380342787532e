"""What moves found that weights had not: zero where both stand for one law, and a status where they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.core.status import Status
from smcinfer.paths.moves import rise_of_mean
from tests.synthetic import make_result


def test_the_mean_rises_where_a_region_was_missed(precision: str) -> None:
    """By order one where both populations are of one law, copies included; by sqrt(N) where the first lacks a part."""
    before, after = jax.random.normal(jax.random.key(0), (2, 4000))
    assert abs(float(rise_of_mean(jnp.repeat(before[::2], 2), after))) < 4
    assert float(rise_of_mean(before - 0.2, after)) == pytest.approx(0.2 * np.sqrt(4000 / 3), abs=3)
    assert float(rise_of_mean(jnp.zeros(9), jnp.zeros(9))) == 0.0
    assert np.isfinite(rise_of_mean(before.at[0].set(-jnp.inf), after.at[1].set(-jnp.inf)))


@pytest.mark.parametrize(("gap", "missed"), [(3.0, True), (1.0, False), (-3.0, False), (np.nan, False)])
def test_a_gap_beyond_the_error_bar_is_a_status(gap: float, missed: bool) -> None:
    plain = make_result(4, 50)
    steps = plain.history["log_z_increment"].shape[1]
    gaps = np.tile(np.linspace(0.9, 1.1, 4)[:, None] * gap, (1, steps))
    found = make_result(4, 50, history={"gap": gaps})
    assert (Status.MASS_MISSED in found.status) == missed and ("MASS_MISSED" in str(found)) == missed


@pytest.mark.slow
def test_a_neck_that_was_not_entered_is_said() -> None:
    """The funnel in a box, whose log Z is -50.867, from its uniform prior."""
    half = jnp.array([12.0] + [100.0] * 9)

    def log_likelihood(x: jax.Array) -> jax.Array:
        return dist.Normal(0.0, 3.0).log_prob(x[0]) + dist.Normal(0.0, jnp.exp(x[0] / 2)).log_prob(x[1:]).sum()

    funnel = smcinfer.posterior(dist.Uniform(-half, half), log_likelihood)
    result = smcinfer.sample(jax.random.key(1), funnel, num_particles=1024, progress=False)
    assert result.log_z < -52 and Status.MASS_MISSED in result.status, result.status_in_words
