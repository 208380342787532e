"""Decisions over a weighted set, against sums done by hand."""

import pytest

from smcinfer.ground.errors import ArgumentError
from smcinfer.language import WeightedText
from smcinfer.language.decoding.decisions import best_of, majority_vote, minimum_bayes_risk, word_overlap

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
