"""Scores of segments, against small cases worked out by hand and a search over all pairings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.metrics.segments import OVERLAPS, count_segments, edit_score, matched, pooled_f1, segments_of


def test_segments_are_runs_without_background_and_unknown_steps() -> None:
    codes = [0, 0, 1, 1, 1, -1, 1, 2, 2]
    assert segments_of(codes) == [(0, 2, 0), (2, 5, 1), (6, 7, 1), (7, 9, 2)]
    assert segments_of(codes, background=0) == [(2, 5, 1), (6, 7, 1), (7, 9, 2)]
    assert segments_of([]) == []


def test_a_segment_is_found_once() -> None:
    true = [(0, 10, 1), (10, 20, 2)]
    assert matched(true, true, 0.5) == (2, 0, 0)
    # Split in the middle: one half is found at 50 %, the other is too many.
    assert matched([(0, 5, 1), (6, 10, 1), (10, 20, 2)], true, 0.5) == (2, 1, 0)
    assert matched([(0, 5, 1), (6, 10, 1), (10, 20, 2)], true, 0.6) == (1, 2, 1)
    assert matched([(0, 10, 2)], true, 0.1) == (0, 1, 2), "the label counts"
    assert matched([], true, 0.1) == (0, 0, 2)


def edit_distance(one: str, other: str) -> int:
    if not one or not other:
        return len(one) + len(other)
    return min(
        edit_distance(one[1:], other) + 1,
        edit_distance(one, other[1:]) + 1,
        edit_distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


@pytest.mark.parametrize(("one", "other"), [("abca", "abca"), ("abc", "acb"), ("a", ""), ("abab", "ba"), ("", "")])
def test_edit_score_is_the_levenshtein_distance(one: str, other: str) -> None:
    wanted = 1 - edit_distance(one, other) / max(len(one), len(other), 1)
    assert edit_score([ord(c) for c in one], [ord(c) for c in other]) == pytest.approx(wanted)


def test_f1_of_all_rows_is_pooled_and_weighted() -> None:
    counts = torch.tensor([[3, 1, 0], [0, 2, 2]])
    weights = torch.tensor([[1.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    assert pooled_f1(counts, weights).tolist() == pytest.approx([6 / 11, 12 / 14])


def test_steps_of_unknown_label_count_neither_way() -> None:
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], 6)
    predicted = true.copy()
    hidden = true.copy()
    hidden[6:12] = -1
    predicted[6:12] = rng.integers(0, 3, 6)
    counts = count_segments(predicted.tolist(), hidden.tolist(), None)
    assert counts.shape == (len(OVERLAPS), 3)
    assert counts.tolist() == [[2, 0, 0]] * 3
