"""Decisions over a weighted set, against sums done by hand."""

import math

import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.language import WeightedText
from smcinfer.language.decoding.decisions import best_of, majority_vote, minimum_bayes_risk, pass_at_k, word_overlap

TEXTS = [
    WeightedText("the answer is 7", 0.4, (1, 2), True),
    WeightedText("so it is 5", 0.35, (3,), True),
    WeightedText("it must be 5", 0.25, (4,), False),
]


def test_the_best_of_the_set_has_the_highest_score_whatever_its_weight() -> None:
    chosen = best_of(TEXTS, lambda text: float(text.startswith("it")))
    assert chosen.text is TEXTS[2] and chosen.value == 1.0 and chosen.weight == 0.25
    assert "not a draw" in str(chosen)


def test_a_vote_adds_the_weights_of_one_answer() -> None:
    chosen = majority_vote(TEXTS, lambda text: text.split()[-1])
    assert chosen.text is TEXTS[1], "the heaviest text of the winning answer"
    assert chosen.value == pytest.approx(0.6)


def test_least_expected_loss_is_a_sum_over_all_pairs() -> None:
    chosen = minimum_bayes_risk(TEXTS, word_overlap)
    overlaps = {one.text: sum(two.weight * word_overlap(one.text, two.text) for two in TEXTS) for one in TEXTS}
    assert chosen.text.text == max(overlaps, key=overlaps.__getitem__)
    assert chosen.value == pytest.approx(max(overlaps.values()))
    # By hand: "so it is 5" shares is with the first (1 of 4, 4), it and 5 with the third.
    assert overlaps["so it is 5"] == pytest.approx(0.4 * 2 / 8 + 0.35 * 1.0 + 0.25 * 4 / 8)


def test_word_overlap_of_nothing() -> None:
    assert word_overlap("", "") == 1.0 and word_overlap("a", "") == 0.0


@pytest.mark.parametrize("rule", [best_of, majority_vote, minimum_bayes_risk])
def test_nothing_to_decide_on(rule) -> None:  # noqa: ANN001
    with pytest.raises(ArgumentError, match="nothing to decide on"):
        rule([], lambda *texts: 0.0)


def test_pass_at_k_is_unbiased_by_enumeration() -> None:
    """Over all outcomes of n tries the mean is 1 - (1 - p)^k; the plug-in is lower."""
    p, n, k = 0.3, 6, 3
    weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    found = sum(weight * pass_at_k(n, c, k) for c, weight in enumerate(weights))
    plugged = sum(weight * (1 - (1 - c / n) ** k) for c, weight in enumerate(weights))
    assert found == pytest.approx(1 - (1 - p) ** k, abs=1e-12) and plugged < found - 0.01


@pytest.mark.parametrize("counts", [(5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0)])
def test_counts_of_tries_are_checked(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ArgumentError):
        pass_at_k(*counts)
