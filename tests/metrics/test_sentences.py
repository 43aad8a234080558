"""Scores of sentences, against figures of the reference implementations and small cases worked out by hand."""

from __future__ import annotations

import pytest
import torch

from sensorium.metrics.bleu import bleu, bleu_statistics
from sensorium.metrics.sentences import cider_d, common_subsequence, exact_match, rouge_l, token_f1

REFERENCES = [
    ["a red disc near the top", "one red disc"],
    ["two blue squares on the left", "blue squares beside each other on the left side"],
    ["a green triangle", "the triangle is green and small"],
    ["nothing to see here at all"],
]
SAID = ["a red disc near the left", "two blue squares", "the green triangle is small", "a red disc near the top"]


def split(rows: list[list[str]]) -> list[list[list[str]]]:
    return [[sentence.split() for sentence in row] for row in rows]


def test_cider_d_is_that_of_the_reference() -> None:
    # CiderScorer(n=4, sigma=6) of pycocoevalcap 1.2 on these sentences.
    scores = cider_d([sentence.split() for sentence in SAID], split(REFERENCES))
    assert scores.tolist() == pytest.approx([4.69326818, 2.59828346, 2.58159172, 0.0], abs=1e-7)


def test_cider_d_of_the_references_themselves() -> None:
    first = [[row[0]] for row in REFERENCES]
    assert cider_d([row[0].split() for row in first], split(first)).tolist() == pytest.approx([10, 10, 7.5, 10])
    assert cider_d([[]], [[["a"]]]).tolist() == [0.0]


def test_rouge_l() -> None:
    assert common_subsequence(list("abcbdab"), list("bdcaba")) == 4
    precision, recall = 3 / 4, 3 / 5
    wanted = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l(["a", "b", "c", "x"], [["a", "b", "c", "d", "e"]]) == pytest.approx(wanted)
    assert rouge_l([], [["a"]]) == 0.0
    assert rouge_l(["a"], [["b"], ["a"]]) == 1.0


def test_token_f1_and_exact_match_take_the_best_reference() -> None:
    assert token_f1(["the", "red", "disc"], [["red", "disc"], ["blue"]]) == pytest.approx(4 / 5)
    assert token_f1(["a", "a"], [["a"]]) == pytest.approx(2 / 3), "a word counts as often as it is there"
    assert exact_match(["red"], [["blue"], ["red"]]) == 1.0
    assert exact_match(["red", "disc"], [["disc", "red"]]) == 0.0


def test_bleu_of_resamples_is_that_of_the_repeated_rows() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    statistics = bleu_statistics(SAID, REFERENCES)
    weights = torch.tensor([[1.0, 1, 1, 1], [2, 0, 1, 0]], dtype=torch.float64)
    wanted = []
    for rows in ([0, 1, 2, 3], [0, 0, 2]):
        longest = max(len(REFERENCES[i]) for i in rows)
        streams = [[(REFERENCES[i] + [None] * longest)[k] for i in rows] for k in range(longest)]
        wanted.append(sacrebleu.corpus_bleu([SAID[i] for i in rows], streams).score / 100)
    assert bleu(statistics, weights).tolist() == pytest.approx(wanted, abs=1e-9)
