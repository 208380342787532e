"""Parallel tempering: swaps keep the law, ladders learn their exponents, modes and log Z are right, mistakes are caught."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer import Status
from smcinfer.kernels import RandomWalk
from smcinfer.results.tempered_chains import TemperedChains
from smcinfer.run.chains.ladder import Ladder, Rungs, even_exponents, swap_chances, swapped
from smcinfer.run.chains.tempered import two_kinds
from tests.statistics import assert_mean, assert_within

MODES, SPREAD, SHARES = jnp.array([-3.0, 3.0]), 0.3, jnp.array([0.2, 0.8])
LOG_Z = 1.5


def log_mixture(x: jax.Array) -> jax.Array:
    """Two modes twenty spreads apart, whose integral is known."""
    return LOG_Z + jax.nn.logsumexp(jnp.log(SHARES) + dist.Normal(MODES, SPREAD).log_prob(x))


TARGET = smcinfer.log_density(log_mixture, dist.Normal(0.0, 4.0))
SIZE: dict[str, Any] = {"num_rungs": 6, "num_chains": 16, "num_draws": 400, "num_warmup": 300, "progress": False}


def sample(seed: int = 0, **changes: Any) -> TemperedChains:
    return smcinfer.parallel_tempering(jax.random.key(seed), TARGET, RandomWalk(), **(SIZE | changes))


@pytest.fixture(scope="module")
def ladders() -> TemperedChains:
    """One run that many tests look at."""
    return sample()


def test_modes_and_log_z_are_right(ladders: TemperedChains) -> None:
    """Sixteen ladders share no draw, only what the warm-up learned."""
    assert_mean((ladders.draws["theta"] > 0).mean(axis=1), SHARES[1])
    assert_within(ladders.log_z, LOG_Z, ladders.log_z_se)
    low, high = ladders.log_z_interval()
    assert low < LOG_Z < high
    assert ladders.status == Status.OK


@pytest.mark.slow
def test_one_chain_cannot_do_it() -> None:
    """The control: the same kernel without a ladder stays in the mode where it began."""
    plain = smcinfer.mcmc(
        jax.random.key(0), TARGET, RandomWalk(), num_chains=16, num_draws=400, num_warmup=300, progress=False
    )
    shares = (plain.draws["theta"] > 0).mean(axis=1)
    assert ((shares == 0) | (shares == 1)).mean() > 0.8


def test_the_warm_up_evens_the_refusals(ladders: TemperedChains) -> None:
    refused = ladders.swap_rejection.mean(axis=0)
    assert refused.max() - refused.min() < 0.1
    assert ladders.exponents[0] == 0
    assert ladders.exponents[-1] == 1
    assert (np.diff(ladders.exponents) > 0).all()
    # Where the base is wide the first step of the ladder is a small one.
    assert ladders.exponents[1] < 0.1


def exact_rungs(key: jax.Array, exponents: jax.Array) -> jax.Array:
    """Potentials of draws of N(0, 1 / (1 + lambda)), the laws between N(0, 1) and the posterior of one datum at zero."""
    return -0.5 * jax.random.normal(key, exponents.shape) ** 2 / (1 + exponents)


@pytest.mark.parametrize("mistaken", [False, True])
def test_swaps_leave_every_rung_its_law(mistaken: bool) -> None:
    """Exact draws are swapped once; with the ratio upside down the rungs no longer have their means."""
    exponents = jnp.array([0.0, 0.3, 0.5, 1.0])

    def after(key: jax.Array) -> jax.Array:
        draw_key, swap_key, odd_key = jax.random.split(key, 3)
        potentials = exact_rungs(draw_key, exponents)
        chances = swap_chances(exponents, -potentials if mistaken else potentials)
        return potentials[swapped(swap_key, chances, jax.random.bernoulli(odd_key))]

    found = np.asarray(jax.jit(jax.vmap(after))(jax.random.split(jax.random.key(1), 40_000)), np.float64)
    expected = -0.5 / (1 + np.asarray(exponents))
    if mistaken:
        with pytest.raises(AssertionError):
            assert_mean(found, expected)
    else:
        assert_mean(found, expected)


def test_a_state_outside_the_support_is_let_down_and_never_up() -> None:
    chances = swap_chances(jnp.array([0.0, 0.5, 1.0, 1.0]), jnp.array([-jnp.inf, -2.0, -jnp.inf, -jnp.inf]))
    np.testing.assert_array_equal(chances, [0.0, 1.0, 0.0])


def test_pairs_take_turns() -> None:
    sure = jnp.ones(4)
    np.testing.assert_array_equal(swapped(jax.random.key(0), sure, jnp.asarray(False)), [1, 0, 3, 2, 4])
    np.testing.assert_array_equal(swapped(jax.random.key(0), sure, jnp.asarray(True)), [0, 2, 1, 4, 3])


def test_exponents_follow_the_barrier() -> None:
    """A pair that refuses three times as often as the other is given three of the four steps."""
    np.testing.assert_allclose(
        even_exponents(jnp.array([0.0, 0.5, 1.0]), jnp.array([0.6, 0.2])), [0, 0.334, 1], atol=1e-3
    )
    even = jnp.array([0.0, 0.2, 1.0])
    np.testing.assert_allclose(even_exponents(even, jnp.zeros(2)), even, atol=1e-6)


def test_a_trip_is_counted_when_the_top_comes_home() -> None:
    """Two rungs whose swap is never refused: a state is at the top at one step and at the foot, renewed, at the next."""
    flat = smcinfer.log_density(lambda x: dist.Normal(0.0, 1.0).log_prob(x), dist.Normal(0.0, 1.0))
    ladder = Ladder(flat.as_arrays(), RandomWalk(), 2)
    params = ladder.prepare(jax.vmap(ladder.begin)(jax.random.split(jax.random.key(0), 4), jnp.arange(4)))

    def step(state: Rungs, key: jax.Array) -> tuple[Rungs, jax.Array]:
        state, info = ladder.step(key, state, params)
        return state, info["round_trips"]

    start = ladder.begin(jax.random.key(1), jnp.asarray(0))
    _, trips = jax.lax.scan(step, start, jax.random.split(jax.random.key(2), 6))
    # Only pair (0, 1) exists, and it may swap every second time.
    np.testing.assert_array_equal(trips, [0, 0, 1, 0, 1, 0])


def test_ladders_that_went_to_different_places_are_said() -> None:
    """Two kinds of states in shares that differ from ladder to ladder; the same states dealt out evenly give no alarm."""
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.0, 1.0, (4, 300, 2)), rng.normal(200.0, 1.0, (4, 300, 2))
    uneven = np.where(np.arange(4)[:, None, None] < 2, low, high)
    even = np.where(np.arange(300)[:, None] % 2, low, high)
    assert [two_kinds(each.astype(np.float32)) for each in (uneven, even, low)] == [True, False, False]


def test_few_round_trips_are_said() -> None:
    assert sample(num_draws=5, num_warmup=0).status & Status.NO_ROUND_TRIPS


def test_a_cut_run_goes_on_bit_for_bit(ladders: TemperedChains, tmp_path: Path) -> None:
    file = tmp_path / "ladders.ckpt"
    again = sample(checkpoint=file, checkpoint_seconds=0.0)
    np.testing.assert_array_equal(again.draws["theta"], ladders.draws["theta"])
    finished = sample(checkpoint=file)
    np.testing.assert_array_equal(finished.potentials, ladders.potentials)
