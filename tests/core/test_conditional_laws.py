"""Conditional SMC by exact enumeration: two to four particles, three times, every scheme, no random number drawn."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from smcinfer.core.resampling import SCHEMES
from tests.resampling_laws import LAWS, in_order, orders_of

TIMES, STATES = 3, 2
INITIAL = (0.35, 0.65)
MOVE = ((0.8, 0.2), (0.3, 0.7))
POTENTIAL = ((0.4, 1.7), (2.1, 0.3), (0.6, 1.1))
Ancestors = tuple[int, ...]
Law = dict[Ancestors, float]
Path = tuple[int, ...]


def target() -> tuple[dict[Path, float], float]:
    """The law of paths, and its normaliser."""
    law = {}
    for path in itertools.product(range(STATES), repeat=TIMES):
        steps = [INITIAL[path[0]], *(MOVE[a][b] for a, b in itertools.pairwise(path))]
        law[path] = math.prod(steps) * math.prod(POTENTIAL[t][x] for t, x in enumerate(path))
    z = sum(law.values())
    return {path: value / z for path, value in law.items()}, z


def conditional_smc(num: int, law: Callable[[tuple[float, ...]], Law]) -> tuple[float, dict[Path, float]]:
    """E[Z / Z_hat] through an exact path in slot 0, and the law of a path drawn from the last weights.

    Args:
        num: particles, resampled at every step.
        law: of the ancestors in their slots given ancestor 0 in slot 0, from normalised weights.
    """
    everybody = list(itertools.product(range(STATES), repeat=num))
    # Populations of paths with their probability, the kept path's under the target, times Z; and that over Z_hat.
    now: dict[tuple[Path, ...], tuple[float, float]] = {}
    for x in everybody:
        chance = math.prod(INITIAL[one] for one in x) * POTENTIAL[0][x[0]]
        now[tuple((one,) for one in x)] = chance, chance / mean_potential(0, x)
    for t in range(1, TIMES):
        after: dict[tuple[Path, ...], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for paths, (mass, over) in now.items():
            for ancestors, chance in law(weights(t - 1, paths)).items():
                parents = [paths[a] for a in ancestors]
                for x in everybody:
                    moved = math.prod(MOVE[parent[-1]][one] for parent, one in zip(parents, x, strict=True))
                    moved *= chance * POTENTIAL[t][x[0]]
                    key = tuple((*parent, one) for parent, one in zip(parents, x, strict=True))
                    before = after[key]
                    after[key] = before[0] + mass * moved, before[1] + over * moved / mean_potential(t, x)
        now = after
    drawn: dict[Path, float] = defaultdict(float)
    for paths, (mass, _) in now.items():
        for path, weight in zip(paths, weights(TIMES - 1, paths), strict=True):
            drawn[path] += mass * weight
    z = target()[1]
    return sum(over for _, over in now.values()), {path: value / z for path, value in drawn.items()}


def mean_potential(t: int, x: tuple[int, ...]) -> float:
    """The factor of Z_hat at t."""
    return sum(POTENTIAL[t][one] for one in x) / len(x)


def weights(t: int, paths: tuple[Path, ...]) -> tuple[float, ...]:
    """Normalised weights of the paths' ends."""
    seen = [POTENTIAL[t][path[-1]] for path in paths]
    return tuple(one / sum(seen) for one in seen)


def faults(num: int, law: Callable[[tuple[float, ...]], Law]) -> tuple[float, float]:
    """How far E[Z / Z_hat] is from one, and the law of a drawn path from the target's."""
    ratio, drawn = conditional_smc(num, law)
    exact = target()[0]
    return abs(ratio - 1.0), max(abs(drawn[path] - exact[path]) for path in exact)


def of_scheme(name: str) -> Callable[[tuple[float, ...]], Law]:
    """What the conditional version of a scheme does (`tests/core/test_resampling.py` holds it to that)."""

    def law(weights: tuple[float, ...]) -> Law:
        orders, mean = orders_of(name, len(weights)), defaultdict(float)
        for order in orders:
            for ancestors, chance in in_order(name, weights, len(weights), order).items():
                first, *others = ancestors
                slots = ancestors if name in ("systematic", "stratified") else (first, *sorted(others))
                mean[slots] += chance / len(orders)
        return mean

    return law


def in_place(name: str) -> Callable[[tuple[float, ...]], Law]:
    """What it would do with the particles in the order of their slots and the children sorted."""

    def law(weights: tuple[float, ...]) -> Law:
        size, found = len(weights), {}
        for copies, chance in LAWS[name](np.asarray(weights), size).items():
            if copies[0]:
                found[tuple(np.repeat(range(size), copies).tolist())] = chance * copies[0] / (size * weights[0])
        return found

    return law


@pytest.mark.parametrize("num", [2, 3, 4])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_exact(name: str, num: int) -> None:
    """The reciprocal of Z_hat is unbiased, and particle Gibbs leaves the law of paths invariant."""
    assert max(faults(num, of_scheme(name))) < 1e-12


@pytest.mark.parametrize(("name", "num"), [("stratified", 3), ("systematic", 4), ("ssp", 4)])
def test_a_kept_path_that_always_stands_first_is_caught(name: str, num: int) -> None:
    """Four particles are the fewest that tell a copy of systematic resampling from its siblings."""
    assert min(faults(num, in_place(name))) > 1e-6


@pytest.mark.parametrize("name", ["multinomial", "residual", "killing"])
def test_places_do_not_matter_to_schemes_that_know_none(name: str) -> None:
    assert max(faults(4, in_place(name))) < 1e-12
