"""Corpus chrF against sacrebleu, and weights against repeated rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from sensorium.metrics.chrf import chrf, chrf_statistics

TEXT = st.lists(st.sampled_from(["red", "der rote", "Hund", "a", "红 色", "running"]), min_size=1, max_size=5).map(" ".join)
ROWS = st.lists(st.tuples(TEXT | st.just(""), st.lists(TEXT, min_size=2, max_size=2)), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_chrf_is_that_of_sacrebleu_and_weights_repeat_rows(rows: list[tuple[str, list[str]]], times: list[int]) -> None:
    def reference(some: list[tuple[str, list[str]]]) -> float:
        sentences = [row[0] for row in some]
        return float(CHRF().corpus_score(sentences, [[row[1][k] for row in some] for k in range(2)]).score) / 100

    statistics = chrf_statistics([row[0] for row in rows], [row[1] for row in rows])
    assert float(chrf(statistics, torch.ones(1, len(rows), dtype=torch.float64))) == pytest.approx(reference(rows))
    repeated = [row for row, n in zip(rows, times, strict=False) for _ in range(n)]
    if repeated:
        weights = torch.tensor([times[: len(rows)]], dtype=torch.float64)
        assert float(chrf(statistics, weights)) == pytest.approx(reference(repeated))


def test_no_rows_have_no_score() -> None:
    assert bool(chrf(chrf_statistics([], []), torch.ones(2, 0, dtype=torch.float64)).isnan().all())
