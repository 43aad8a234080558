"""Error rates against jiwer on whole lists, weights against repeated rows, and the table of confused words."""

from __future__ import annotations

import jiwer
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.metrics.transcripts import NOTHING, character_errors, confusions, error_rate, word_errors

WORDS = st.lists(st.sampled_from(["one", "two", "three", "tw", "six"]), min_size=1, max_size=6).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS, WORDS | st.just("")), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(PAIRS, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_rates_are_those_of_jiwer_and_weights_repeat_rows(pairs: list[tuple[str, str]], times: list[int]) -> None:
    true, answers = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    words, differing = word_errors(true, answers)
    characters = character_errors(true, answers)
    once = torch.ones(1, len(pairs), dtype=torch.float64)
    assert float(error_rate(words, once)) == pytest.approx(jiwer.wer(true, answers))
    assert float(error_rate(characters, once)) == pytest.approx(jiwer.cer(true, answers))
    assert [len(row) for row in differing] == words[:, 0].tolist()
    repeated = [pair for pair, n in zip(pairs, times, strict=False) for _ in range(n)]
    if repeated:
        weights = torch.tensor([times[: len(pairs)]], dtype=torch.float64)
        assert float(error_rate(words, weights)) == pytest.approx(
            jiwer.wer([a for a, _ in repeated], [b for _, b in repeated])
        )


def test_no_rows_have_no_rate() -> None:
    words, differing = word_errors([], [])
    assert words.shape == (0, 2)
    assert differing == []
    assert bool(error_rate(words, torch.ones(2, 0, dtype=torch.float64)).isnan().all())


def test_confused_words_are_counted_with_those_left_out_and_inserted() -> None:
    true, answers = ["one two three", "two", "two"], ["one tw", "two two", "two"]
    _, differing = word_errors(true, answers)
    words, counts = confusions(true, differing)
    assert words == ["one", "three", "tw", "two", NOTHING]
    table = {(words[i], words[j]): n for i, row in enumerate(counts) for j, n in enumerate(row) if n}
    assert table == {
        ("one", "one"): 1,
        ("two", "two"): 2,
        ("two", "tw"): 1,
        ("three", NOTHING): 1,
        (NOTHING, "two"): 1,
    }
