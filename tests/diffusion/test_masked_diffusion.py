"""Masked diffusion against sums over all of its paths: log Z, weights of orders and tokens, annealing, products."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from smcinfer.core.nouns import Guided
from smcinfer.diffusion import discrete
from smcinfer.diffusion.discrete.process import Guide, unmasking_log_odds
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.models import masked_table
from smcinfer.run.runner import run
from tests.exact_masked import final_masses, log_z, scrambled
from tests.statistics import assert_chi2, assert_ks, assert_mean, assert_mean_one_log

LENGTH, VOCAB = 3, 2
SURE = discrete.Confidence("margin", 6.0)


def bonus(tokens):
    """A reward that no sum over positions is."""
    return 1.2 * (tokens[0] == tokens[-1]) - 0.8 * tokens[1] * tokens[0] + 0.3 * jnp.sum(tokens)


def estimates(target, seed: int, num_particles: int = 8, num_runs: int = 600) -> np.ndarray:
    """log Z of many small runs."""
    return np.asarray(run(jax.random.key(seed), target, num_particles, num_runs=num_runs, resample_below=0.7).log_z)


@pytest.fixture(scope="module")
def table() -> masked_table.MaskedTable:
    return masked_table.example(VOCAB, LENGTH)


@pytest.fixture(scope="module")
def rough() -> discrete.MaskedModel:
    """A model whose conditionals contradict one another."""
    return discrete.masked_model(scrambled(0, LENGTH, VOCAB), LENGTH, VOCAB)


def sequence_rewards(table: masked_table.MaskedTable) -> np.ndarray:
    return np.asarray(jax.vmap(bonus)(table.sequences), np.float64)


@pytest.mark.slow
def test_any_order_of_exact_conditionals_gives_the_table(table: masked_table.MaskedTable, x64: None) -> None:
    exact = np.exp(np.asarray(table.log_p, np.float64))
    for order in discrete.ORDERS:
        tokens, masses = final_masses(discrete.alignment(table.model, None, order=order))
        np.testing.assert_allclose(masses[np.all(tokens < VOCAB, axis=1)], exact, atol=1e-7)


@pytest.mark.slow
def test_unmasking_in_parallel_tends_to_the_table(table: masked_table.MaskedTable) -> None:
    exact, distances = np.exp(np.asarray(table.log_p, np.float64)), []
    for steps in (1, 4, 16):
        tokens, masses = final_masses(discrete.alignment(table.model, None, num_steps=steps))
        distances.append(np.abs(masses[np.all(tokens < VOCAB, axis=1)] - exact).sum() / 2)
    assert distances[0] > 3 * distances[1] > 6 * distances[2]


GUIDED = {
    "bootstrap": {},
    "another order": {"guide_order": SURE},
    "tilted, twisted": {
        "guide_order": "confidence",
        "tilt": lambda t, state: 0.5 * jnp.ones((LENGTH, 1)) * jnp.arange(VOCAB),
        "twist": lambda t, state: 0.4 * jnp.sum(state.tokens == 1),
    },
    "in parallel": {"num_steps": 2, "guide_order": SURE},
    "in parallel, its own order": {"num_steps": 2, "order": "confidence", "guide_order": "uniform"},
}


QUICK = ("tilted, twisted", "in parallel")


@pytest.mark.slow
@pytest.mark.parametrize("how", [how if how in QUICK else pytest.param(how, marks=pytest.mark.slow) for how in GUIDED])
def test_log_z_of_a_reward(rough: discrete.MaskedModel, how: str) -> None:
    target = discrete.alignment(rough, bonus, 0.7, **GUIDED[how])
    assert_mean_one_log(estimates(target, 1), log_z(target))


class WithoutPositions(Guided):
    """The mutation: positions are chosen by the guide's order, and its ratio is left out of the weight."""

    def log_weight(self, t, state, x):  # noqa: ANN001, ANN201
        own = self.process.law(t, state, self.guide.order, state.log_p)
        return own.log_prob(x) - self.guide(t, state).log_prob(x)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_dropping_the_ratio_of_positions_is_seen(rough: discrete.MaskedModel, steps: int | None) -> None:
    target = discrete.alignment(rough, bonus, 0.7, num_steps=steps, guide_order=SURE)
    wrong = eqx.tree_at(
        lambda tree: tree.proposal, target, WithoutPositions(target.process, Guide(target.process, SURE, None))
    )
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean_one_log(estimates(wrong, 1, num_runs=2000), log_z(target))


@pytest.mark.slow
def test_the_order_does_not_matter_to_exact_conditionals(table: masked_table.MaskedTable) -> None:
    """What the documentation says: then, one position at a time, even the ratio of positions may be left out."""
    target = discrete.alignment(table.model, bonus, 0.7, guide_order=SURE)
    careless = eqx.tree_at(
        lambda tree: tree.proposal, target, WithoutPositions(target.process, Guide(target.process, SURE, None))
    )
    exact = table.log_z(sequence_rewards(table) / 0.7)
    assert log_z(target) == pytest.approx(exact, abs=1e-5)
    assert_mean_one_log(estimates(careless, 1), exact)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_multiplied(table: masked_table.MaskedTable, rough: discrete.MaskedModel, steps: int | None) -> None:
    target = discrete.multiplied([table.model, rough], [1.5, -0.5], bonus, num_steps=steps, guide_order="confidence")
    assert_mean_one_log(estimates(target, 2), log_z(target))


def test_a_power_is_that_of_the_table(table: masked_table.MaskedTable) -> None:
    sharpened = discrete.power(table.model, 2.5)
    assert log_z(sharpened) == pytest.approx(table.log_z(np.zeros(len(table.log_p)), 2.5), abs=1e-5)


def test_sharpened_conditionals_without_weights_are_seen(table: masked_table.MaskedTable) -> None:
    target = discrete.power(table.model, 2.5)
    plain = eqx.tree_at(lambda tree: tree.potential, target, lambda t, state: jnp.zeros(()), is_leaf=callable)
    with pytest.raises(AssertionError, match="mean differs"):
        assert_mean_one_log(estimates(plain, 2), log_z(target))


@pytest.mark.slow
def test_masses_of_a_weighted_run(table: masked_table.MaskedTable) -> None:
    target = discrete.power(table.model, 2.0, bonus, guide_order="confidence")
    done = run(jax.random.key(3), target, 64, num_runs=300)
    exact = np.exp(2.0 * np.asarray(table.log_p, np.float64) + sequence_rewards(table))
    # Z_hat times the weighted mean is unbiased; the weighted mean alone is not quite.
    shares = np.exp(np.asarray(done.log_weights, np.float64) + np.asarray(done.log_z, np.float64)[:, None])
    tokens = np.asarray(done.particles.state.tokens)
    masses = np.stack([np.sum(shares * np.all(tokens == y, axis=-1), axis=1) for y in np.asarray(table.sequences)], 1)
    assert_mean(masses, exact)


@pytest.mark.slow
def test_the_exact_twist_and_tilt_leave_no_variance(table: masked_table.MaskedTable, precision: str) -> None:
    fresh = masked_table.example(VOCAB, LENGTH)
    rewards = jax.vmap(bonus)(fresh.sequences)
    value = fresh.soft_value(rewards)
    target = discrete.alignment(fresh.model, bonus, twist=value, tilt=value.tilt)
    done = run(jax.random.key(4), target, 16, num_runs=3)
    np.testing.assert_allclose(done.log_z, fresh.log_z(np.asarray(rewards)), atol=1e-5)
    assert not done.history["resampled"].any()


@pytest.mark.slow
def test_what_is_given_stays(table: masked_table.MaskedTable) -> None:
    target = discrete.alignment(table.model, bonus, start=[VOCAB, 1, VOCAB])
    assert target.num_steps == 2
    done = run(jax.random.key(5), target, 8, num_runs=600)
    tokens = np.asarray(done.particles.state.tokens)
    assert (tokens[..., 1] == 1).all() and (tokens < VOCAB).all()
    keep = np.asarray(table.sequences)[:, 1] == 1
    log_p = np.asarray(table.log_p, np.float64)[keep]
    exact = np.logaddexp.reduce(log_p + sequence_rewards(table)[keep]) - np.logaddexp.reduce(log_p)
    assert log_z(target) == pytest.approx(exact, abs=1e-5)
    assert_mean_one_log(done.log_z, exact)


@pytest.mark.slow
def test_relaxed_twist_and_gradient_tilt(rough: discrete.MaskedModel) -> None:
    def relaxed(rows):
        return 1.5 * rows[0] @ rows[2] + rows[1, 1]

    reward = discrete.on_tokens(relaxed, VOCAB)
    look = discrete.RelaxedTwist(relaxed, 0.8)
    target = discrete.alignment(rough, reward, 0.8, twist=look, tilt=discrete.GradientTilt(relaxed, 0.8))
    assert_mean_one_log(estimates(target, 6), log_z(target))


def test_hitting_times_are_order_statistics() -> None:
    draws = jax.vmap(lambda key: discrete.hitting_times(key, 4))(jax.random.split(jax.random.key(7), 4000))
    assert (np.diff(np.asarray(draws), axis=1) < 0).all()
    # The k-th largest of n uniforms is Beta(n + 1 - k, k).
    for k, column in enumerate(np.asarray(draws).T, 1):
        assert_ks(column, scipy.stats.beta(5 - k, k).cdf, num_comparisons=4)


RARE, NATS = 2**15, 17.5


def share_of_rare(mode: str | None, num_draws: int = 33_000) -> np.ndarray:
    """Counts of draws of a common token and of any of many rare ones, float32."""
    logits = jnp.full((1, RARE + 1), -NATS, jnp.float32).at[0, 0].set(0.0)
    if mode is None:
        law = discrete.OneByOne(jnp.full((1,), RARE + 1), jnp.zeros((1,)), logits)
        draw = lambda key: law.sample(key)[0]  # noqa: E731
    else:
        draw = lambda key: jax.random.categorical(key, logits[0], mode=mode)  # noqa: E731
    rare = jax.jit(lambda keys: jnp.sum(jax.lax.map(draw, keys, batch_size=50) > 0))(
        jax.random.split(jax.random.key(8), num_draws)
    )
    return np.array([num_draws - int(rare), int(rare)])


@pytest.mark.slow
def test_rare_tokens_are_drawn_in_float32() -> None:
    mass = RARE * np.exp(-NATS)
    probabilities = np.array([1.0, mass]) / (1.0 + mass)
    assert_chi2(share_of_rare(None), probabilities)
    with pytest.raises(AssertionError, match="do not follow"):
        assert_chi2(share_of_rare("low"), probabilities)


def test_unmasking_log_odds() -> None:
    np.testing.assert_allclose(jax.nn.sigmoid(unmasking_log_odds(4)), [0.0, 1 / 4, 1 / 3, 1 / 2, 1.0], atol=1e-6)


def test_bad_input(table: masked_table.MaskedTable) -> None:
    with pytest.raises(TargetError, match="wrong shape"):
        discrete.masked_model(lambda tokens: jnp.zeros((LENGTH, VOCAB + 1)), LENGTH, VOCAB)
    with pytest.raises(TargetError, match="raised TypeError"):
        discrete.masked_model(lambda: jnp.zeros((LENGTH, VOCAB)), LENGTH, VOCAB)
    with pytest.raises(ArgumentError, match="temperature"):
        discrete.alignment(table.model, bonus, 0.0)
    with pytest.raises(TargetError, match="scalar"):
        discrete.alignment(table.model, lambda tokens: jnp.zeros((2,)) + tokens[:2])
    with pytest.raises(TargetError, match="not finite"):
        discrete.alignment(table.model, lambda tokens: jnp.log(tokens[0] - 1.0))
    with pytest.raises(ArgumentError, match="unknown order"):
        discrete.alignment(table.model, bonus, order="right_to_left")
    for how in ({"guide_order": "left_to_right"}, {"order": "most_confident", "num_steps": 2}):
        with pytest.raises(ArgumentError, match="no chance"):
            discrete.alignment(table.model, bonus, **how)
    with pytest.raises(ArgumentError, match="share"):
        discrete.alignment(table.model, bonus, num_steps=4, unmasked=lambda time: time)
    with pytest.raises(ArgumentError, match="does not know"):
        discrete.alignment(table.model, bonus, start=[0, 3, 0])
    with pytest.raises(ArgumentError, match="one power a model"):
        discrete.product([table.model], [1.0, 2.0])
    with pytest.raises(ArgumentError, match="measure"):
        discrete.Confidence("luck")
    with pytest.raises(ArgumentError, match="table"):
        masked_table.masked_table(np.zeros((2, 3)))
