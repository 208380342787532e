r"""Decisions from a weighted set of texts: one answer that is good on average, or by a score.

A decision is *not* a draw of the target. The best of N is biased towards what the score likes, a vote towards what is common;
who needs draws takes them in proportion to the weights (`smcinfer.Result.draws`).
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence

from smcinfer.ground import validate
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.texts import WeightedText


@dataclasses.dataclass(frozen=True)
class Decision:
    """One chosen text.

    Attributes:
        text: the choice; for a vote the heaviest text of the winning class.
        value: what it was chosen for: its score, its class's share of the weight, its expected utility.
        rule: in words.
        weight: the share of the target that the choice (or its class) has.
    """

    text: WeightedText
    value: float
    rule: str
    weight: float

    def __str__(self) -> str:
        return f"{self.rule}: {self.value:.4g}  {self.text.text!r}"


def pass_at_k(num_tries: int, num_right: int, k: int) -> float:
    r"""How likely at least one of k independent tries is right, from n tries of which c were: unbiased.

    .. math:: 1 - \binom{n - c}{k} \Big/ \binom{n}{k}

    Putting c / n into :math:`1 - (1 - p)^k` is too low on average. Source: Chen et al. (2021).

    Args:
        num_tries: n, independent draws of equal weight.
        num_right: c of them.
        k: at most n.

    Raises:
        ArgumentError: for counts that do not fit each other.
    """
    validate.count("num_tries", num_tries)
    validate.count("num_right", num_right, at_least=0, at_most=num_tries)
    validate.count("k", k, at_most=num_tries)
    return 1.0 - math.comb(num_tries - num_right, k) / math.comb(num_tries, k)


def best_of(texts: Sequence[WeightedText], score: Callable[[str], float]) -> Decision:
    """The text of the highest score among those that have any weight (best-of-N).

    Args:
        texts: of `Generation.decode`; N is the number of particles they came from.
        score: of one text, higher is better; it need not be the potential.
    """
    _some(texts)
    scores = [float(score(entry.text)) for entry in texts]
    best = max(range(len(texts)), key=scores.__getitem__)
    return Decision(texts[best], scores[best], "best of the set, not a draw", texts[best].weight)


def majority_vote(texts: Sequence[WeightedText], answer: Callable[[str], Hashable]) -> Decision:
    r"""The answer that has most of the weight: :math:`\arg\max_a \sum_i w_i\, [a(s_i) = a]`.

    Args:
        texts: of `Generation.decode`.
        answer: the class of a text (the number it ends with, its first word); texts of one class vote together.
    """
    _some(texts)
    shares: dict[Hashable, float] = {}
    for entry in texts:
        name = answer(entry.text)
        shares[name] = shares.get(name, 0.0) + entry.weight
    winner = max(shares, key=shares.__getitem__)
    chosen = max((entry for entry in texts if answer(entry.text) == winner), key=lambda entry: entry.weight)
    return Decision(chosen, shares[winner], f"weighted majority for {winner!r}, not a draw", shares[winner])


def minimum_bayes_risk(texts: Sequence[WeightedText], utility: Callable[[str, str], float]) -> Decision:
    r"""The text of the highest expected utility, :math:`\arg\max_i \sum_j w_j\, u(s_i, s_j)`.

    Args:
        texts: of `Generation.decode`.
        utility: ``(candidate, reference) -> float``, higher is better; called once for every pair.

    Source: Kumar & Byrne (2004).
    """
    _some(texts)
    total = sum(entry.weight for entry in texts)
    expected = [sum(other.weight * float(utility(one.text, other.text)) for other in texts) / total for one in texts]
    best = max(range(len(texts)), key=expected.__getitem__)
    return Decision(texts[best], expected[best], "least expected loss, not a draw", texts[best].weight)


def word_overlap(candidate: str, reference: str) -> float:
    """F1 of the words that two texts share, in [0, 1]: a plain utility for `minimum_bayes_risk`."""
    one, other = candidate.split(), reference.split()
    if not one or not other:
        return float(one == other)
    counts = {word: min(one.count(word), other.count(word)) for word in set(one)}
    return 2 * sum(counts.values()) / (len(one) + len(other))


def _some(texts: Sequence[WeightedText]) -> None:
    if not texts:
        raise ArgumentError("there is nothing to decide on", expected="at least one text of positive weight", got=0)
