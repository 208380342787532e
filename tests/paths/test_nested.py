"""Paths of likelihood levels: unbiased for exact Z, draws and error bar included, and what must not pass."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError
from smcinfer.kernels import RandomWalk
from smcinfer.models.evidence_problems import small_region
from smcinfer.paths import Moves
from smcinfer.paths.levels import Level, Survival
from smcinfer.paths.moves import repeat
from smcinfer.run.runner import run
from smcinfer.static import posterior
from smcinfer.static.methods import Nested
from smcinfer.static.nested import NestedPath
from tests.signatures import unchecked
from tests.statistics import assert_mean, assert_mean_one_log

KEY = jax.random.key(0)
FEW = Moves.exactly(2)

# One target for all, so that they share their programs: plateaus below ``edge``, a Gaussian bump above, zero from ``end`` on.
SLOPE, STAIRCASE, NOWHERE = (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)


def log_likelihood(x: Any, datum: Any) -> Any:
    """A bump about 0.3, or four plateaus each e times as high as the one before."""
    edge, end = datum
    value = jnp.where(x < edge, jnp.minimum(jnp.floor(4.0 * x), 3.0), -0.5 * ((x - 0.3) / 0.1) ** 2)
    return jnp.where(x < end, value, -jnp.inf)


def target(datum: tuple[float, float]) -> Any:
    return posterior(dist.Uniform(0.0, 1.0), log_likelihood, data=jnp.asarray([datum]))


def exact(datum: tuple[float, float]) -> tuple[float, float]:
    """log Z and the posterior mean, by the midpoint rule."""
    x = (np.arange(40_000) + 0.5) / 40_000
    weights = np.exp(np.asarray(jax.vmap(log_likelihood, (0, None))(jnp.asarray(x), datum), np.float64))
    return float(np.log(weights.mean())), float((weights * x).sum() / weights.sum())


def nested(
    datum: Any = SLOPE, num_particles: int = 32, kind: Any = NestedPath, checkpoint: Any = None, **more: Any
) -> Any:
    islands = more.pop("islands", 1)
    made = Nested(**({"moves": FEW} | more)).model(target(datum), RandomWalk())
    model = kind(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})
    return run(KEY, model, num_particles, num_runs=1500, islands=islands, checkpoint=checkpoint), model


class TiesUnbroken(NestedPath):
    """A mistake: particles on the level's plateau are counted by their ties, and moved as if all of it stood above."""

    def move(self, key: Any, particles: Any, at: Level, params: Any) -> Any:
        return super().move(key, particles, dataclasses.replace(at, tie=jnp.ones_like(at.tie)), params)


@pytest.mark.slow
def test_the_sum_over_shells_and_its_draws_are_unbiased(precision: str) -> None:
    """On a slope and on plateaus; what families over all shells say of the error is what runs show."""
    for datum in (SLOPE, STAIRCASE):
        done, model = nested(datum)
        assert done.log_z.dtype == precision
        log_z, mean = exact(datum)
        assert_mean_one_log(done.log_z, log_z, num_comparisons=4)
        ratios = np.exp(np.asarray(done.log_z, np.float64) - log_z)
        draws = jax.vmap(model.exported)(done.particles)["theta"]
        assert_mean(ratios * np.asarray(draws).mean(axis=1), mean, num_comparisons=4)
        assert 0.8 < np.mean(np.asarray(done.log_z_variance)) / np.var(ratios) < 1.3
    nowhere = nested(NOWHERE)[0]
    assert (np.asarray(nowhere.status) & int(Status.ALL_WEIGHTS_ZERO)).all() and np.isneginf(nowhere.log_z).all()


def test_levels_given_beforehand_need_no_leader() -> None:
    """Eight particles and high steps: some runs have nothing above a level, and count all the same."""
    done, _ = nested(num_particles=8, survival=[-3.0, -1.0, -0.1, -0.001], led=False)
    assert_mean_one_log(done.log_z, exact(SLOPE)[0])


def test_levels_that_a_run_chooses_for_itself_are_caught() -> None:
    with pytest.raises(AssertionError):
        assert_mean_one_log(nested(num_particles=8, led=False)[0].log_z, exact(SLOPE)[0])


@pytest.mark.slow
def test_ties_that_are_not_broken_are_caught() -> None:
    with pytest.raises(AssertionError):
        assert_mean_one_log(nested(STAIRCASE, kind=TiesUnbroken)[0].log_z, exact(STAIRCASE)[0])


@pytest.mark.slow
def test_islands_and_a_run_that_was_kept(tmp_path) -> None:  # noqa: ANN001
    done, _ = nested(num_particles=16, islands=2, checkpoint=tmp_path / "run.npz")
    assert_mean_one_log(done.log_z, exact(SLOPE)[0])
    again, _ = nested(num_particles=16, islands=2, checkpoint=tmp_path / "run.npz")
    np.testing.assert_array_equal(done.log_z, again.log_z)


@pytest.mark.parametrize(
    ("highest", "range_above", "log_mass", "last"),
    [(0.0, 5.0, -12.0, False), (0.0, 0.1, -12.0, True), (0.0, 5.0, -40.0, True), (0.0, 0.1, -2.0, False)],
)
def test_levels_rise_until_what_stands_above_is_flat_or_nothing(
    highest: float, range_above: float, log_mass: float, last: bool
) -> None:
    """A share of e^-12 no longer counts, and yet a narrow peak can begin where the potential still rises by five nats."""
    made = Nested(moves=FEW).model(target(SLOPE), RandomWalk())
    heights = highest - range_above * jnp.asarray([2.0, 1.5, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    below, weights = jnp.full((), -jnp.inf), jnp.full(8, -jnp.log(8.0))
    no = jnp.zeros((), bool)
    before = Level(jnp.zeros((), jnp.int32), below, jnp.ones(()), no, no)
    rule = dataclasses.replace(made, schedule=Survival(0.8))
    found = rule._level(jnp.ones((), jnp.int32), weights, heights, before, jnp.asarray(log_mass), jnp.zeros(()))
    assert bool(found.last) == last
    assert bool(found.enough) == (log_mass + highest < np.log(1e-3))


@pytest.mark.slow
def test_a_small_region_is_found_from_the_plateau_around_it() -> None:
    """Prior mass 1e-4 and 4000 particles: two runs in three start with none inside; levels that stop early are flagged."""
    problem, common = small_region(), {"num_particles": 4000, "kernel": "random_walk", "progress": False}
    result = smcinfer.sample(KEY, problem.target, method="nested", **common)
    low, high = result.log_z_interval()
    assert low < problem.log_z < high and abs(result.log_z - problem.log_z) < 1.5
    inside = result.particles["theta"][np.isfinite(result.log_z_runs)]
    assert ((inside > 0.3) & (inside < 0.31)).all()
    cut = smcinfer.sample(KEY, problem.target, method=Nested(max_steps=2, moves=FEW), **common)
    assert cut.status & Status.SCHEDULE_UNFINISHED


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Nested(survival=1.0), "survival"),
        (lambda: Nested(survival=[1.0, 0.5]), "levels"),
        (lambda: Nested(survival="half"), "survival"),
        (lambda: Nested(tolerance=0.0), "tolerance"),
        (lambda: Nested(survival=[0.0], max_steps=3), "max_steps"),
        (lambda: Nested(moves=3), "moves"),
    ],
)
def test_wrong_arguments(make: Any, said: str) -> None:
    with unchecked(), pytest.raises(ArgumentError, match=said):
        make()


def test_a_level_through_a_plateau_lets_through_the_share_that_was_asked_for() -> None:
    rule, heights = Survival(0.4), jnp.asarray([0.0, 1.0, 1.0, 1.0, 2.0])
    weights, no = jnp.full(5, -jnp.log(5.0)), jnp.zeros((), bool)
    start = Level(jnp.zeros((), jnp.int32), jnp.asarray(-jnp.inf), jnp.ones(()), no, no)
    height = rule.next(jnp.ones((), jnp.int32), start.height, weights, heights)
    tie = rule.tie(start, height, weights, heights)
    assert float(height) == 1.0 and float(tie) == pytest.approx(1 / 3)
    again = dataclasses.replace(start, height=height, tie=tie)
    assert float(rule.tie(again, height, weights, heights)) == pytest.approx(1 / 9)


def test_moves_that_level_off_have_forgotten_where_in_their_mode_they_were() -> None:
    """Points that shrink towards their mode by a factor a move: rho falls to the share of the modes, and no lower."""
    modes = jnp.repeat(jnp.asarray([-1.0, 1.0]), 500)
    start = modes + 0.5 * jax.random.normal(KEY, (1000,))

    def once(key: Any, x: Any) -> Any:
        noise = jax.random.normal(key, x.shape)
        return modes + 0.6 * (x - modes) + 0.4 * noise, {}

    look = (jnp.zeros_like, lambda x: x[:, None])
    for moves, least, most in ((Moves(40), 40, 40), (Moves(40, within_modes=True), 2, 8)):
        done = repeat(KEY, start, once, look, moves, {}, led=False)[1]
        assert least <= int(done.num_steps) <= most
