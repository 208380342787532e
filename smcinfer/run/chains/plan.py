"""How a run of chains is divided: rounds of warm-up, after each of which the sampler is tuned, then segments of draws."""

from typing import Any, NamedTuple

from smcinfer.ground import validate

MAX_DOUBLINGS = 3
"""Lengths of paired rounds, each twice the one before; every length is used twice, so that a step size settles."""

MAX_PAIRED_SEGMENTS = 10
"""Most segments of the draws after paired rounds: waits of fast chains for slow ones."""

MAX_ROUNDS = 5
"""Most rounds that double every time."""

MAX_SEGMENTS = 20
"""Most segments of the draws after rounds that double every time."""


class Segment(NamedTuple):
    """A stretch of the way: ``records`` records of each chain, ``thin`` transitions apart; the sampler may be tuned after it.

    Records of segments that tune are not among the draws.
    """

    records: int
    thin: int
    tuning: bool

    @property
    def transitions(self) -> int:
        """Transitions of each chain."""
        return self.records * self.thin


def checked(num_chains: Any, num_draws: Any, num_warmup: Any, thin: Any) -> tuple[int, int, int, int]:
    """The four counts of every run of chains, as integers.

    Args:
        num_chains: at least one.
        num_draws: draws of each chain, at least one.
        num_warmup: transitions of each chain before its draws, at least zero.
        thin: transitions from one draw to the next, at least one.

    Raises:
        ArgumentError: for one that is no count, or out of range.
    """
    return (
        validate.count("num_chains", num_chains),
        validate.count("num_draws", num_draws),
        validate.count("num_warmup", num_warmup, at_least=0),
        validate.count("thin", thin),
    )


def paired(num_draws: int, num_warmup: int, thin: int) -> list[Segment]:
    """Rounds of warm-up whose length doubles every other time, for kernels whose step size is tuned by its acceptance.

    Every round keeps equally many records: twice the length is twice the thinning. A few transitions may be left over.

    Args:
        num_draws: draws of each chain.
        num_warmup: transitions of each chain before its draws.
        thin: transitions from one draw to the next.
    """
    doublings = min(MAX_DOUBLINGS, (num_warmup // 2 + 1).bit_length() - 1)
    rounds: list[Segment] = []
    if doublings:
        records = num_warmup // (2 * (2**doublings - 1))
        rounds = [Segment(records, 2 ** (number // 2), True) for number in range(2 * doublings)]
        left = num_warmup - sum(each.transitions for each in rounds)
        rounds[-1] = Segment(records, rounds[-1].thin + left // records, True)
    return rounds + _draws(num_draws, thin, MAX_PAIRED_SEGMENTS)


def doubling(num_draws: int, num_warmup: int, thin: int) -> list[Segment]:
    """Rounds of warm-up whose length doubles every time, for transitions so dear that there are few of them.

    Every round keeps as many records as a segment of draws; a warm-up shorter than that is one round.

    Args:
        num_draws: draws of each chain.
        num_warmup: transitions of each chain before its draws.
        thin: transitions from one draw to the next.
    """
    draws = _draws(num_draws, thin, MAX_SEGMENTS)
    size = draws[0].records
    if num_warmup < size:
        return [Segment(num_warmup, 1, True)] * (num_warmup > 0) + draws
    rounds = min(MAX_ROUNDS, (num_warmup // size + 1).bit_length() - 1)
    thins = [2**number for number in range(rounds)]
    thins[-1] += num_warmup // size - sum(thins)
    return [Segment(size, each, True) for each in thins] + draws


def _draws(num_draws: int, thin: int, most: int) -> list[Segment]:
    """Equal segments, the same whether or not anybody watches."""
    segments = max(n for n in range(1, most + 1) if num_draws % n == 0)
    return [Segment(num_draws // segments, thin, False)] * segments
