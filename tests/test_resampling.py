"""Resampling against exact laws: every scheme and its conditional version is enumerated on five particles."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from smcinfer.errors import ArgumentError
from smcinfer.resampling import SCHEMES, Scheme, by_name, resample
from tests.statistics import assert_chi2, assert_mean

Copies = tuple[int, ...]
Law = dict[Copies, float]

NUM_DRAWS = 20_000
# Shares below one, above one and of zero; none near a whole number, where rounding would decide.
WEIGHTS = (
    (0.16, 0.33, 0.0, 0.41, 0.1),
    (0.46, 0.13, 0.18, 0.23, 0.0),
    (0.31, 0.49, 0.08, 0.07, 0.05),
)
BOTH = pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
EVERY = pytest.mark.parametrize("name", SCHEMES)


def log(weights: object) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(weights, dtype=np.float64))


def draw(scheme: Scheme, weights: NDArray[np.float64], num: int, num_draws: int, seed: int = 0) -> NDArray[np.int32]:
    """Ancestors of every row of weights, (rows, num_draws, num)."""
    log_weights = jnp.asarray(log(weights), jnp.result_type(float)) + 3.0  # need not be normalised
    keys = jax.random.split(jax.random.key(seed), (log_weights.shape[0], num_draws))
    many = jax.vmap(jax.vmap(lambda key, row: scheme(key, row, num), (0, None)), (0, 0))
    return np.asarray(jax.jit(many)(keys, log_weights))


def copies_of(ancestors: NDArray[np.int32], num_particles: int) -> NDArray[np.int64]:
    return (ancestors[..., None] == np.arange(num_particles)).sum(axis=-2)


# The laws of the copies, by enumeration


def combine(law: Law, choices: list[tuple[Copies, float]]) -> Law:
    """The law of the sum of a draw from ``law`` and an independent draw from ``choices``."""
    result: Law = defaultdict(float)
    for copies, probability in law.items():
        for extra, chance in choices:
            if chance > 0:
                result[tuple(a + b for a, b in zip(copies, extra, strict=True))] += probability * chance
    return dict(result)


def unit(index: int, size: int) -> Copies:
    return tuple(int(i == index) for i in range(size))


def categorical(probabilities: NDArray[np.float64]) -> list[tuple[Copies, float]]:
    return [(unit(i, len(probabilities)), float(p)) for i, p in enumerate(probabilities)]


def multinomial_law(weights: NDArray[np.float64], num: int) -> Law:
    law: Law = {(0,) * len(weights): 1.0}
    for _ in range(num):
        law = combine(law, categorical(weights))
    return law


def stratified_law(weights: NDArray[np.float64], num: int) -> Law:
    ends = np.cumsum(weights) * num
    starts = ends - weights * num
    law: Law = {(0,) * len(weights): 1.0}
    for k in range(num):
        overlap = np.clip(np.minimum(ends, k + 1) - np.maximum(starts, k), 0, None)
        law = combine(law, categorical(overlap))
    return law


def systematic_law(weights: NDArray[np.float64], num: int) -> Law:
    ends = np.cumsum(weights) * num
    cuts = np.unique(np.concatenate([[0.0, 1.0], ends % 1.0]))
    law: Law = defaultdict(float)
    for low, high in itertools.pairwise(cuts):
        below = np.floor(ends - (low + high) / 2 + 1e-9).astype(int) + 1
        law[tuple(int(c) for c in np.diff(below, prepend=0))] += high - low
    return dict(law)


def split_shares(weights: NDArray[np.float64], num: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    shares = weights * num
    whole = np.floor(shares + 1e-9).astype(int)
    return whole, np.maximum(shares - whole, 0.0)


def residual_law(weights: NDArray[np.float64], num: int) -> Law:
    whole, rest = split_shares(weights, num)
    num_rest = num - int(whole.sum())
    law: Law = {tuple(map(int, whole)): 1.0}
    for _ in range(num_rest):
        law = combine(law, categorical(rest / num_rest))
    return law


def ssp_law(weights: NDArray[np.float64], num: int) -> Law:
    whole, rest = split_shares(weights, num)
    start: Law = defaultdict(float)

    def play(
        carriers: list[tuple[int, float]], survivors: list[tuple[int, float]], rounded: Copies, chance: float
    ) -> None:
        if chance <= 0:
            return
        if not carriers:
            if len(survivors) == 1:
                start[rounded] += chance
            else:
                play(survivors, [], rounded, chance)
            return
        if len(carriers) == 1:
            play([], [*survivors, carriers[0]], rounded, chance)
            return
        (i, a), (j, b) = carriers[:2]
        full = a + b > 1 - 1e-9
        kept = max(a + b - full, 0.0)
        total = 2 - a - b if full else a + b
        stays = ((1 - a if full else a) / total) if total > 0 else 1.0
        for stayer, leaver, probability in ((i, j, stays), (j, i, 1 - stays)):
            outcome = tuple(r + int(full and k == leaver) for k, r in enumerate(rounded))
            play(carriers[2:], [*survivors, (stayer, kept)], outcome, chance * probability)

    play(list(enumerate(rest)), [], tuple(map(int, whole)), 1.0)
    return dict(start)


def killing_law(weights: NDArray[np.float64], num: int) -> Law:
    law: Law = {(0,) * len(weights): 1.0}
    for i in range(num):
        survives = weights[i] / weights.max()
        law = combine(law, categorical(survives * np.eye(num)[i] + (1 - survives) * weights))
    return law


LAWS: dict[str, Callable[[NDArray[np.float64], int], Law]] = {
    "multinomial": multinomial_law,
    "stratified": stratified_law,
    "systematic": systematic_law,
    "residual": residual_law,
    "ssp": ssp_law,
    "killing": killing_law,
}


@cache
def law_of(name: str, weights: tuple[float, ...], num: int, conditional: bool) -> Law:
    """The scheme's law of copies; conditional on ancestor 0 in slot 0 if asked, tilted by the copies of 0."""
    law = LAWS[name](np.asarray(weights), num)
    if conditional:
        law = {copies: p * copies[0] / (num * weights[0]) for copies, p in law.items() if copies[0]}
    assert math.isclose(sum(law.values()), 1.0, rel_tol=1e-9)
    return law


def assert_law(copies: NDArray[np.int64], law: Law) -> None:
    seen, counts = np.unique(copies, axis=0, return_counts=True)
    observed = {tuple(map(int, row)): int(count) for row, count in zip(seen, counts, strict=True)}
    categories = sorted(set(law) | set(observed))
    assert_chi2([observed.get(c, 0) for c in categories], [law.get(c, 0.0) for c in categories], num_comparisons=3)


@EVERY
@BOTH
@pytest.mark.parametrize("num", [5, 8])
def test_copies_have_the_enumerated_law(name: str, conditional: bool, num: int, precision: str) -> None:
    if name == "killing" and num != 5:
        pytest.skip("killing keeps the number of particles")
    weights = np.asarray(WEIGHTS)
    ancestors = draw(by_name(name, conditional), weights, num, NUM_DRAWS)
    copies = copies_of(ancestors, 5)
    for row, row_copies in zip(WEIGHTS, copies, strict=True):
        assert_law(row_copies, law_of(name, row, num, conditional))
    if conditional:
        assert np.all(ancestors[..., 0] == 0)


@EVERY
def test_enumerated_laws_are_unbiased(name: str) -> None:
    for weights, num in itertools.product(WEIGHTS, (5, 8)):
        if name == "killing" and num != 5:
            continue
        law = law_of(name, weights, num, False)
        mean = sum(p * np.asarray(copies) for copies, p in law.items())
        np.testing.assert_allclose(mean, num * np.asarray(weights), atol=1e-12)


# Negative controls: what the law tests must catch


def forced(name: str) -> Scheme:
    """Slot 0 forced, the rest as usual: right for multinomial only."""

    def scheme(key: jax.Array, log_weights: jax.Array, num: int) -> jax.Array:
        rest = by_name(name)(key, log_weights, num - 1)
        return jnp.concatenate([jnp.zeros(1, jnp.int32), rest])

    return scheme


@pytest.mark.parametrize("name", ["stratified", "systematic", "residual", "ssp"])
def test_forcing_slot_zero_is_not_conditional(name: str) -> None:
    copies = copies_of(draw(forced(name), np.asarray(WEIGHTS[:1]), 5, NUM_DRAWS), 5)[0]
    with pytest.raises(AssertionError):
        assert_law(copies, law_of(name, WEIGHTS[0], 5, True))


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "killing"])
def test_overwriting_slot_zero_is_not_conditional(name: str) -> None:
    def overwritten(key: jax.Array, log_weights: jax.Array, num: int) -> jax.Array:
        shuffle_key, draw_key = jax.random.split(key)
        shuffled = jax.random.permutation(shuffle_key, by_name(name)(draw_key, log_weights, num))
        return shuffled.at[0].set(0)

    copies = copies_of(draw(overwritten, np.asarray(WEIGHTS[1:2]), 5, NUM_DRAWS), 5)[0]
    law = law_of(name, WEIGHTS[1], 5, True)
    if name == "multinomial":
        assert_law(copies, law)
    else:
        with pytest.raises(AssertionError):
            assert_law(copies, law)


@pytest.mark.parametrize("name", ["stratified", "systematic", "residual", "ssp", "killing"])
def test_unconditional_copies_fail_the_conditional_law(name: str) -> None:
    copies = copies_of(draw(by_name(name), np.asarray(WEIGHTS[:1]), 5, NUM_DRAWS), 5)[0]
    with pytest.raises(AssertionError):
        assert_law(copies, law_of(name, WEIGHTS[0], 5, True))


def test_each_scheme_fails_the_law_of_the_others() -> None:
    drawn = {name: copies_of(draw(by_name(name), np.asarray(WEIGHTS[:1]), 5, NUM_DRAWS), 5)[0] for name in SCHEMES}
    for name, other in itertools.permutations(SCHEMES, 2):
        with pytest.raises(AssertionError):
            assert_law(drawn[name], law_of(other, WEIGHTS[0], 5, False))


# Moments on more particles, where nothing can be enumerated


@pytest.mark.parametrize("num", [37, 20, 90])
@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "killing"])
def test_copies_are_unbiased_and_bounded(name: str, num: int) -> None:
    weights = np.random.default_rng(1).gamma(2.0, size=37)
    weights[[0, 7, 36]] = 0.0
    weights /= weights.sum()
    copies = copies_of(draw(by_name(name), weights[None], num, 4000)[0], 37)
    assert_mean(copies, num * weights)
    assert np.all(copies.sum(axis=-1) == num)
    error = copies - num * weights
    if name in ("systematic", "ssp"):
        assert np.abs(error).max() < 1
    if name == "stratified":
        assert np.abs(error).max() < 2
    if name == "residual":
        assert error.min() > -1
    if name == "multinomial":
        assert_mean((copies - num * weights) ** 2, num * weights * (1 - weights))


def test_killing_is_unbiased() -> None:
    weights = np.random.default_rng(1).gamma(2.0, size=37)
    weights /= weights.sum()
    ancestors = draw(by_name("killing"), weights[None], 37, 4000)[0]
    assert_mean(copies_of(ancestors, 37), 37 * weights)
    # Slot i keeps its particle with this probability; what it is given otherwise depends on the slot.
    heaviest = int(weights.argmax())
    assert np.all(ancestors[:, heaviest] == heaviest)
    uniform = np.full((1, 37), 1 / 37)
    assert np.array_equal(draw(by_name("killing"), uniform, 37, 3)[0], np.tile(np.arange(37), (3, 1)))


def test_variance_is_ordered() -> None:
    """Of the resampled mean of a smooth function of sorted particles; only multinomial has its full variance."""
    n = 64
    particles = np.linspace(-2, 2, n)
    weights = np.exp(-0.5 * (particles - 0.5) ** 2)
    weights /= weights.sum()
    variance = {}
    for name in SCHEMES:
        means = particles[draw(by_name(name), weights[None], n, 4000)[0]].mean(axis=-1)
        assert_mean(means, float(weights @ particles))
        variance[name] = means.var()
    exact = float(weights @ particles**2 - (weights @ particles) ** 2) / n
    assert 0.85 < variance["multinomial"] / exact < 1.15
    assert variance["residual"] < 0.8 * exact
    assert variance["killing"] < 0.95 * exact
    for name in ("stratified", "systematic", "ssp"):
        assert variance[name] < 0.1 * exact


# Edges


def awkward_weights() -> NDArray[np.float64]:
    """Rows of 192 log weights with zeros everywhere they could hurt."""
    rng = np.random.default_rng(3)
    rows = np.log(rng.gamma(0.3, size=(8, 192)))
    rows[0, 1:] = -np.inf
    rows[1, :-1] = -np.inf
    rows[2, :100] = -np.inf
    rows[3, 90:] = -np.inf
    rows[4, rng.random(192) < 0.9] = -np.inf
    rows[5, 1::2] = np.nan
    rows[6, ::3] = np.inf
    rows[7] = np.linspace(-600, 0, 192)[::-1]
    return rows


@EVERY
@BOTH
def test_zero_weights_are_never_chosen(name: str, conditional: bool, precision: str) -> None:
    rows = awkward_weights()
    keys = jax.random.split(jax.random.key(5), (len(rows), 100))
    scheme = by_name(name, conditional)
    many = jax.jit(jax.vmap(jax.vmap(lambda key, row: scheme(key, row, 192), (0, None)), (0, 0)))
    ancestors = np.asarray(many(keys, jnp.asarray(rows, precision)))
    assert ancestors.dtype == np.int32
    assert ancestors.min() >= 0 and ancestors.max() < 192
    for row, drawn in zip(rows, ancestors, strict=True):
        if conditional and not np.isfinite(row[0]):
            # The law is undefined; the path is kept all the same.
            assert np.all(drawn[:, 0] == 0)
            drawn = drawn[:, 1:]
        assert np.all(np.isfinite(row[drawn]))
        if name != "killing" and not conditional:
            assert np.all(np.diff(drawn, axis=-1) >= 0)


@EVERY
@BOTH
def test_no_weight_at_all_gives_every_particle_in_turn(name: str, conditional: bool) -> None:
    for fill in (-jnp.inf, jnp.nan, jnp.inf):
        ancestors = by_name(name, conditional)(jax.random.key(0), jnp.full((6,), fill), 6)
        expected = np.r_[0, np.arange(5)] if (name, conditional) == ("multinomial", True) else np.arange(6)
        assert np.array_equal(ancestors, expected)


@EVERY
@BOTH
def test_one_particle(name: str, conditional: bool) -> None:
    num = 1 if name == "killing" else 3
    ancestors = by_name(name, conditional)(jax.random.key(0), jnp.full((1,), -40.0), num)
    assert np.array_equal(ancestors, np.zeros(num))


@pytest.mark.parametrize("name", ["stratified", "systematic", "residual", "ssp"])
@BOTH
def test_whole_shares_are_copied_exactly(name: str, conditional: bool, precision: str) -> None:
    ancestors = draw(by_name(name, conditional), np.asarray([[0.5, 0.25, 0.0, 0.25]]), 8, 200)
    assert np.array_equal(np.unique(ancestors, axis=1)[0], [[0, 0, 0, 0, 1, 1, 3, 3]])


@EVERY
@BOTH
def test_vmap_and_old_keys_change_nothing(name: str, conditional: bool) -> None:
    scheme = by_name(name, conditional)
    log_weights = jax.random.normal(jax.random.key(1), (4, 12))
    keys = jax.random.split(jax.random.key(2), 4)
    together = jax.vmap(lambda key, row: scheme(key, row, 12))(keys, log_weights)
    assert np.array_equal(together[2], scheme(jax.random.key_data(keys[2]), log_weights[2], 12))


def test_no_derivative_passes() -> None:
    def total(log_weights: jax.Array) -> jax.Array:
        ancestors = by_name("multinomial")(jax.random.key(0), log_weights, 6)
        return jnp.sum(jnp.arange(6.0)[ancestors] * jnp.exp(log_weights))

    gradient = jax.jit(jax.grad(total))(jnp.log(jnp.arange(1.0, 7.0)))
    assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


# A million particles in float32

MILLION = 1_000_000


def ramp() -> tuple[jax.Array, NDArray[np.float64]]:
    """Float32 log weights of a falling ramp with a third and the tail at zero; their exact shares."""
    weights = np.arange(MILLION, 0, -1, dtype=np.float64)
    weights[::3] = 0.0
    weights[-1000:] = 0.0
    log_weights = jnp.asarray(log(weights), jnp.float32)
    exact = np.exp(np.asarray(log_weights, np.float64))
    return log_weights, MILLION * exact / exact.sum()


def assert_million(ancestors: jax.Array, shares: NDArray[np.float64], bound: float) -> None:
    """Copies, one by one and cumulated, are within ``bound`` of the shares; no zero weight was chosen."""
    copies = np.bincount(np.asarray(ancestors), minlength=MILLION)
    assert copies.sum() == MILLION
    assert copies[shares == 0].max() == 0
    assert np.abs(copies - shares).max() < bound
    assert np.abs(np.cumsum(copies - shares)).max() < bound


@pytest.mark.parametrize("name", ["systematic", "stratified"])
def test_a_million_particles(name: str) -> None:
    log_weights, shares = ramp()
    scheme = resample(name)
    # A float32 exponential is good to a relative 1e-7 or so: a few hundredths of a copy in all.
    assert_million(scheme(jax.random.key(0), log_weights, MILLION), shares, 1.05)


def test_a_million_multinomial_draws_follow_their_weights() -> None:
    log_weights, shares = ramp()
    ancestors = by_name("multinomial")(jax.random.key(1), log_weights, MILLION)
    copies = np.bincount(np.asarray(ancestors), minlength=MILLION)
    assert_chi2(copies.reshape(1000, 1000).sum(axis=1), shares.reshape(1000, 1000).sum(axis=1))
    assert_chi2(copies.reshape(1000, 1000).sum(axis=0), shares.reshape(1000, 1000).sum(axis=0))
    # The number of particles with k copies is Poisson's, mixed over the shares.
    poisson = [float(np.mean(np.exp(-shares) * shares**k / math.factorial(k))) for k in range(7)]
    assert_chi2(np.bincount(np.minimum(copies, 7), minlength=8), [*poisson, 1 - sum(poisson)])


def test_a_plain_float32_sum_fails_at_a_million() -> None:
    log_weights, shares = ramp()
    ends = np.cumsum(np.exp(np.asarray(log_weights) - np.asarray(log_weights).max()), dtype=np.float32)
    points = (np.arange(MILLION, dtype=np.float32) + np.float32(0.5)) / np.float32(MILLION)
    ancestors = np.minimum(np.searchsorted(ends / ends[-1], points), MILLION - 1)
    with pytest.raises(AssertionError):
        assert_million(jnp.asarray(ancestors), shares, 1.05)


# Arguments


def test_unknown_scheme_lists_the_names() -> None:
    with pytest.raises(ArgumentError, match="multinomial, stratified, systematic, residual, ssp, killing"):
        by_name("sytematic")


@BOTH
def test_killing_keeps_the_number_of_particles(conditional: bool) -> None:
    with pytest.raises(ArgumentError, match="num = 4"):
        by_name("killing", conditional)(jax.random.key(0), jnp.zeros(4), 5)


@BOTH
@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "killing"])
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
