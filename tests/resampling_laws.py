"""Exact laws of the copies that resampling schemes make, by enumeration: small numbers of particles only."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Copies = tuple[int, ...]
Law = dict[Copies, float]


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
        if high - low < 1e-12:  # two ends that rounding has put apart
            continue
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
    """The scheme's law of copies; given ancestor 0 in slot 0 if asked: in a random order, tilted by the copies of 0."""
    if not conditional:
        law = LAWS[name](np.asarray(weights), num)
    else:
        law = defaultdict(float)
        orders = orders_of(name, len(weights))
        for order in orders:
            for ancestors, chance in in_order(name, weights, num, order).items():
                law[tuple(np.bincount(ancestors, minlength=len(weights)).tolist())] += chance / len(orders)
    assert math.isclose(sum(law.values()), 1.0, rel_tol=1e-9)
    return dict(law)


Order = tuple[int, ...]
"""Which particle stands at each place that a scheme sees; numbers past the particles are empty places."""


@cache
def orders_of(name: str, size: int) -> list[Order]:
    """The orders that a conditional scheme puts its particles into, equally likely."""
    if name == "stratified":
        return [tuple((place - turn) % size for place in range(size)) for turn in range(size)]
    if name == "ssp":
        leaves = 1 << (size - 1).bit_length()
        return list({_paired((0, *others)) for others in itertools.permutations(range(1, leaves))})
    return [tuple(range(size))]


def _paired(order: Order) -> Order:
    """The same pair tree with the smaller half of every pair on its left: swapping halves changes no law."""
    if len(order) == 1:
        return order
    middle = len(order) // 2
    return sum(sorted((_paired(order[:middle]), _paired(order[middle:]))), ())


def in_order(name: str, weights: tuple[float, ...], num: int, order: Order) -> dict[tuple[int, ...], float]:
    """The law of the ancestors in their slots in one order, given ancestor 0 in slot 0."""
    size = len(weights)
    there = np.array([weights[i] if i < size else 0.0 for i in order])
    law: dict[tuple[int, ...], float] = defaultdict(float)
    for copies, chance in LAWS[name](there, num).items():
        ancestors = [i for i, count in zip(order, copies, strict=True) for _ in range(count)]
        # Any copy of particle 0 may be the kept one; the children are turned until it comes first.
        for kept in (slot for slot, i in enumerate(ancestors) if i == 0):
            law[(*ancestors[kept:], *ancestors[:kept])] += chance / (num * weights[0])
    return dict(law)
