"""Resampling against exact laws: every scheme and its conditional version is enumerated on five particles."""

import collections
import itertools
import math
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from smcinfer.core.resampling import SCHEMES, Scheme, by_name, resample
from smcinfer.ground.errors import ArgumentError
from tests.resampling_laws import Law, in_order, law_of, orders_of
from tests.statistics import assert_chi2, assert_mean

NUM_DRAWS = 12_000
# Shares of five and eight below one, above one and of zero; none near a whole number, where rounding would
# decide, but in the last row, where all shares of eight are whole and exact.
WEIGHTS = (
    (0.16, 0.33, 0.0, 0.41, 0.1),
    (0.46, 0.13, 0.18, 0.23, 0.0),
    (0.31, 0.49, 0.08, 0.07, 0.05),
    (0.25, 0.25, 0.0, 0.25, 0.25),
)
EVERY = pytest.mark.parametrize("name", SCHEMES)
BOTH = pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])


def log(weights: object) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(weights, dtype=np.float64))


@cache
def compiled(scheme: Scheme, num: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The scheme for (rows, draws) of keys and rows of log weights, compiled fast: that is most of the work here."""
    many = jax.vmap(jax.vmap(lambda key, row: scheme(key, row, num), (0, None)), (0, 0))
    return jax.jit(many, compiler_options={"xla_backend_optimization_level": 0})


def draw(scheme: Scheme, log_weights: NDArray[np.float64], num: int, num_draws: int) -> NDArray[np.int32]:
    """Ancestors for every row of log weights, (rows, num_draws, num)."""
    keys = jax.random.split(jax.random.key(num), (len(log_weights), num_draws))
    return np.asarray(compiled(scheme, num)(keys, jnp.asarray(log_weights, jnp.result_type(float))))


def copies_of(ancestors: NDArray[np.int32], num_particles: int) -> NDArray[np.int64]:
    return (ancestors[..., None] == np.arange(num_particles)).sum(axis=-2)


def law_draws(name: str, conditional: bool, num: int) -> NDArray[np.int32]:
    # Log weights need not be normalised.
    return draw(by_name(name, conditional), log(WEIGHTS) + 4.0, num, NUM_DRAWS)


def assert_law(copies: NDArray[np.int64], law: Law) -> None:
    seen, counts = np.unique(copies, axis=0, return_counts=True)
    observed = {tuple(map(int, row)): int(count) for row, count in zip(seen, counts, strict=True)}
    if len(law) == 1:
        assert set(observed) == set(law)
        return
    categories = sorted(set(law) | set(observed))
    expected = [law.get(c, 0.0) for c in categories]
    assert_chi2([observed.get(c, 0) for c in categories], expected, num_comparisons=len(WEIGHTS))


def rows(num: int) -> range:
    return range(len(WEIGHTS) if num == 8 else len(WEIGHTS) - 1)


@pytest.mark.dealt
@EVERY
@BOTH
def test_copies_have_the_enumerated_law(name: str, conditional: bool, precision: str) -> None:
    num = 8 if (precision == "float64") != conditional and name != "killing" else 5
    ancestors = law_draws(name, conditional, num)
    assert ancestors.dtype == np.int32
    assert not conditional or np.all(ancestors[..., 0] == 0)
    copies = copies_of(ancestors, 5)
    for row in rows(num):
        assert_law(copies[row], law_of(name, WEIGHTS[row], num, conditional))


@pytest.mark.dealt
@pytest.mark.parametrize("name", ["systematic", "stratified"])
def test_the_kept_copy_and_the_places_of_the_others_have_the_enumerated_law(name: str) -> None:
    """Not only how many copies there are: which of them is kept, and who stands next to it."""
    ancestors = law_draws(name, True, 5)
    for row in rows(5):
        law: dict[tuple[int, ...], float] = collections.defaultdict(float)
        for order in orders_of(name, 5):
            for slots, chance in in_order(name, WEIGHTS[row], 5, order).items():
                law[slots] += chance / len(orders_of(name, 5))
        assert_law(ancestors[row], law)


@EVERY
def test_enumerated_laws_are_unbiased(name: str) -> None:
    for weights, num in itertools.product(WEIGHTS, [5] if name == "killing" else [5, 8]):
        law = law_of(name, weights, num, False)
        mean = sum(p * np.asarray(copies) for copies, p in law.items())
        np.testing.assert_allclose(mean, num * np.asarray(weights), atol=1e-12)


# Negative controls: what the law tests must catch


@pytest.mark.dealt
@EVERY
def test_forcing_slot_zero_is_conditional_for_multinomial_only(name: str) -> None:
    ancestors = law_draws(name, False, 5)[0]
    shuffled = np.random.default_rng(0).permuted(ancestors, axis=-1)
    shuffled[:, 0] = 0
    law = law_of(name, WEIGHTS[0], 5, True)
    if name == "multinomial":
        assert_law(copies_of(shuffled, 5), law)
    else:
        with pytest.raises(AssertionError):
            assert_law(copies_of(shuffled, 5), law)


@pytest.mark.slow
def test_each_scheme_fails_the_law_of_the_others() -> None:
    copies = {name: copies_of(law_draws(name, False, 5)[0], 5) for name in SCHEMES}
    for name, other in itertools.permutations(SCHEMES, 2):
        with pytest.raises(AssertionError):
            assert_law(copies[name], law_of(other, WEIGHTS[0], 5, False))
    for name in SCHEMES:
        with pytest.raises(AssertionError):
            assert_law(copies[name], law_of(name, WEIGHTS[0], 5, True))


# Forty particles: moments, bounds, weights that could hurt. One shape, so that each scheme compiles once.

N = 40


def particles() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorted positions and smooth weights on them, with some zeros."""
    positions = np.linspace(-2, 2, N)
    weights = np.exp(-0.5 * (positions - 0.5) ** 2)
    weights[[0, 7, 39]] = 0.0
    return positions, weights / weights.sum()


def awkward() -> NDArray[np.float64]:
    """Ten rows of log weights with zeros wherever they could hurt."""
    rng = np.random.default_rng(3)
    weights = np.log(rng.gamma(0.3, size=(10, N)))
    weights[0, 1:] = -np.inf
    weights[1, :-1] = -np.inf
    weights[2, :20] = -np.inf
    weights[3, 19:] = -np.inf
    weights[4, rng.random(N) < 0.9] = -np.inf
    weights[5, 1::2] = np.nan
    weights[6, ::3] = np.inf
    weights[7] = np.linspace(0, -600, N)
    weights[8] = -np.inf
    weights[9] = np.nan
    return weights


@pytest.mark.dealt
@EVERY
def test_copies_are_unbiased_and_bounded(name: str) -> None:
    positions, weights = particles()
    ancestors = draw(by_name(name), np.tile(log(weights), (10, 1)), N, 500).reshape(-1, N)
    copies = copies_of(ancestors, N)
    assert_mean(copies, N * weights, num_comparisons=2)
    error = copies - N * weights
    if name in ("systematic", "ssp"):
        assert np.abs(error).max() < 1
    if name == "stratified":
        assert np.abs(error).max() < 2
    if name == "residual":
        assert error.min() > -1
    if name == "multinomial":
        assert_mean(error**2, N * weights * (1 - weights), num_comparisons=2)
    if name == "killing":
        # The heaviest survives in its own slot; the others do so with their share of the heaviest.
        kept = ancestors[:, 1:] == np.arange(1, N)
        assert np.all(kept[:, weights[1:].argmax()])
        assert np.all(kept.mean(axis=0) > (weights / weights.max())[1:] - 0.1)
    # Variance of the resampled mean, in units of multinomial's.
    variance = positions[ancestors].mean(axis=-1).var() / ((weights @ positions**2 - (weights @ positions) ** 2) / N)
    low, high = {"multinomial": (0.85, 1.15), "residual": (0.2, 0.8), "killing": (0.5, 0.95)}.get(name, (0.0, 0.1))
    assert low < variance < high


@pytest.mark.dealt
@EVERY
@BOTH
def test_zero_weights_are_never_chosen(name: str, conditional: bool) -> None:
    weights = awkward()
    ancestors = draw(by_name(name, conditional), weights, N, 500)
    assert ancestors.min() >= 0 and ancestors.max() < N
    for row, drawn in zip(weights[:8], ancestors, strict=False):
        if conditional:
            assert np.all(drawn[:, 0] == 0)
            # Where particle 0 has no weight the law is undefined, and the path is kept all the same.
            drawn = drawn[:, 1:]
        assert np.all(np.isfinite(row[drawn]))
        # Conditional schemes that know an order turn it, so that it may start anew once.
        turns = 1 if conditional and name in ("systematic", "stratified") else 0
        assert name == "killing" or np.all((np.diff(drawn, axis=-1) < 0).sum(-1) <= turns)
    # No weight at all: every particle in turn.
    in_turn = np.r_[0, np.arange(N - 1)] if (name, conditional) == ("multinomial", True) else np.arange(N)
    assert np.all(ancestors[8:] == in_turn)


@pytest.mark.dealt
@EVERY
@BOTH
def test_one_particle(name: str, conditional: bool) -> None:
    num = 1 if name == "killing" else 3
    with jax.disable_jit():
        ancestors = by_name(name, conditional)(jax.random.key(0), jnp.full((1,), -40.0), num)
    assert np.array_equal(ancestors, np.zeros(num))


def test_vmap_and_old_keys_change_nothing() -> None:
    log_weights = jnp.asarray(awkward(), jnp.float32)
    keys = jax.random.split(jax.random.key(N), (10, 500))
    scheme = by_name("systematic")
    alone = scheme(jax.random.key_data(keys[5, 3]), log_weights[5], N)
    assert np.array_equal(draw(scheme, awkward(), N, 500)[5, 3], alone)


def test_no_derivative_passes() -> None:
    def total(log_weights: jax.Array) -> jax.Array:
        ancestors = by_name("systematic")(jax.random.key(0), log_weights, 6)
        return jnp.sum(jnp.arange(6.0)[ancestors]) + jnp.sum(jnp.exp(log_weights))

    weights = jnp.arange(1.0, 7.0)
    np.testing.assert_allclose(jax.grad(total)(jnp.log(weights)), weights, rtol=1e-6)


# A million particles in float32

MILLION = 1_000_000


def ramp() -> tuple[jax.Array, NDArray[np.float64]]:
    """Float32 log weights of a falling ramp with a third and the tail at zero; their exact shares."""
    weights = np.arange(MILLION, 0, -1, dtype=np.float64)
    weights[::3] = 0.0
    weights[-1000:] = 0.0
    log_weights = np.asarray(log(weights), np.float32)
    exact_weights = np.exp(log_weights.astype(np.float64))
    return jnp.asarray(log_weights), MILLION * exact_weights / exact_weights.sum()


def assert_million(ancestors: NDArray[np.int32], shares: NDArray[np.float64]) -> None:
    """Copies, one by one and cumulated, are within one of the shares; no zero weight was chosen."""
    copies = np.bincount(ancestors, minlength=MILLION)
    assert copies.sum() == MILLION
    assert copies[shares == 0].max() == 0
    # A float32 exponential is good to about 1e-7: hundredths of a copy in all, which no sum can undo.
    assert np.abs(copies - shares).max() < 1.05
    assert np.abs(np.cumsum(copies - shares)).max() < 1.05


def test_a_million_systematic_points() -> None:
    log_weights, shares = ramp()
    assert_million(np.asarray(by_name("systematic")(jax.random.key(0), log_weights, MILLION)), shares)


def test_a_plain_float32_sum_fails_at_a_million() -> None:
    log_weights, shares = ramp()
    ends = np.cumsum(np.exp(np.asarray(log_weights) - np.max(log_weights)), dtype=np.float32)
    points = (np.arange(MILLION, dtype=np.float32) + np.float32(0.5)) / np.float32(MILLION)
    ancestors = np.minimum(np.searchsorted(ends / ends[-1], points), MILLION - 1)
    with pytest.raises(AssertionError):
        assert_million(ancestors, shares)


def test_a_million_multinomial_draws() -> None:
    log_weights, shares = ramp()
    copies = np.bincount(by_name("multinomial")(jax.random.key(1), log_weights, MILLION), minlength=MILLION)
    table, expected = copies.reshape(1000, 1000), shares.reshape(1000, 1000)
    for axis in (0, 1):
        assert_chi2(table.sum(axis=axis), expected.sum(axis=axis), num_comparisons=3)
    # How many particles have k copies: Poisson's law, mixed over the shares.
    poisson = [float(np.mean(np.exp(-shares) * shares**k / math.factorial(k))) for k in range(7)]
    assert_chi2(np.bincount(np.minimum(copies, 7), minlength=8), [*poisson, 1 - sum(poisson)], num_comparisons=3)


# Arguments


def test_unknown_scheme_lists_the_names() -> None:
    with pytest.raises(ArgumentError, match="multinomial, stratified, systematic, residual, ssp, killing"):
        by_name("sytematic")


@BOTH
def test_killing_keeps_the_number_of_particles(conditional: bool) -> None:
    with pytest.raises(ArgumentError, match="num = 4"):
        by_name("killing", conditional)(jax.random.key(0), jnp.zeros(4), 5)


@BOTH
@pytest.mark.parametrize("name", ["multinomial", "stratified", "systematic", "residual", "ssp"])
def test_nothing_to_do_is_an_error(name: str, conditional: bool) -> None:
    scheme = by_name(name, conditional)
    with pytest.raises(ArgumentError, match="num >= 1"):
        scheme(jax.random.key(0), jnp.zeros(4), 0)
    with pytest.raises(ArgumentError, match="at least one log weight"):
        scheme(jax.random.key(0), jnp.zeros(0), 2)


def test_a_function_is_its_own_scheme() -> None:
    def first(key: jax.Array, log_weights: jax.Array, num: int) -> jax.Array:
        return jnp.zeros(num, jnp.int32)

    assert resample(first) is first
    assert resample("ssp") is by_name("ssp")
