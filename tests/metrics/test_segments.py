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
    assert counts.shape == (len(OVERLAPS) + 1, 3)
    assert counts.tolist() == [[2, 0, 0]] * 4


def exact_spans(codes: list[int], labels: int, background: int | None) -> set[tuple[int, int, int]]:
    """Spans by their definition: a stretch of tokens of one label, of which only the first may begin one."""
    spans = set()
    for start in range(len(codes)):
        for end in range(start + 1, len(codes) + 1):
            part = [code % labels if code >= 0 else -1 for code in codes[start:end]]
            one = part[0] >= 0 and part[0] != background and len(set(part)) == 1
            later = all(code < labels for code in codes[start + 1 : end])
            before = start > 0 and codes[start] < labels and codes[start - 1] >= 0 and codes[start - 1] % labels == part[0]
            after = end < len(codes) and 0 <= codes[end] < labels and codes[end] == part[0]
            if one and later and not before and not after:
                spans.add((start, end, part[0]))
    return spans


@pytest.mark.parametrize("background", [0, None])
def test_spans_with_beginnings_are_counted_exactly(background: int | None) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        true, answered = rng.integers(-1, 6, (2, 9)).tolist()
        answered = [max(code, 0) for code in answered]
        want, got = (exact_spans(codes, 3, background) for codes in (true, answered))
        assert set(segments_of(true, background, 3)) == want
        cut = exact_spans([a if t >= 0 else -1 for a, t in zip(answered, true, strict=True)], 3, background)
        counts = count_segments(answered, true, background, 3)[-1].tolist()
        assert counts == [len(want & cut), len(cut - want), len(want - cut)]
        assert set(segments_of(answered, background, 3)) == got
