"""VQA accuracy and the normalised match."""

from __future__ import annotations

from itertools import combinations

import pytest

from sensorium.metrics.vqa import normalised, normalised_match, vqa_accuracy


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The cat.", "cat"),
        ("Two", "2"),
        ("a man, an owl", "man owl"),
        ("2,000", "2000"),
        ("3.5", "3.5"),
        ("don't", "don't"),
        ("'red'", "red"),
        ("none", "0"),
        ("T-shirt", "t shirt"),
    ],
)
def test_answers_are_normalised(text: str, wanted: str) -> None:
    assert normalised(text) == wanted
    assert normalised_match(text, ["x", wanted]) == 1.0


@pytest.mark.parametrize("agreeing", range(11))
def test_vqa_accuracy_is_the_mean_over_all_subsets_of_nine_annotators(agreeing: int) -> None:
    answers = ["yes"] * agreeing + [f"other {i}" for i in range(10 - agreeing)]
    subsets = list(combinations(answers, 9))
    wanted = sum(min(1.0, subset.count("yes") / 3) for subset in subsets) / len(subsets)
    assert vqa_accuracy("Yes!", answers) == pytest.approx(wanted)


def test_vqa_accuracy_with_few_annotators() -> None:
    assert vqa_accuracy("red", ["red"]) == 1.0
    assert vqa_accuracy("red", ["blue"]) == 0.0
    assert vqa_accuracy("red", ["red", "red", "red"]) == 1.0
    assert vqa_accuracy("red", ["red", "blue"]) == 0.5
    assert vqa_accuracy("red", []) == 0.0
