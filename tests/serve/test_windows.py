"""Windows from chunks: reordering, gaps and counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import ConfigError, DataError
from sensorium.streaming.windows import Frames, Window, Windows


def chunks(signal: np.ndarray, size: int) -> list[tuple[int, int, np.ndarray]]:
    return [(i, at, signal[at : at + size]) for i, at in enumerate(range(0, len(signal), size))]


def assemble(windows: Windows, parts: list[tuple[int, int, np.ndarray]]) -> list[Window]:
    return [window for part in parts for window in windows.push(*part)] + windows.end()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40), st.integers(0, 200), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_windows_do_not_depend_on_order_within_reach(length: int, hop: int, size: int, steps: int, random: object) -> None:
    hop = min(hop, length)
    signal = np.arange(2 * steps, dtype=np.float32).reshape(-1, 2)
    parts = chunks(signal, size)
    reach = 3
    mixed = sorted(parts, key=lambda part: part[0] + random.uniform(0, reach))  # type: ignore[attr-defined]
    windows = Windows(length, hop, channels=2, reach=reach)
    result = assemble(windows, mixed)
    assert [w.start for w in result] == list(range(0, steps - length + 1, hop))
    for i, window in enumerate(result):
        assert window.number == i
        assert window.filled == 0
        np.testing.assert_array_equal(window.data, signal[window.start : window.start + length])
    counts = windows.counts
    assert (counts.chunks, counts.lost, counts.late, counts.repeated) == (len(parts), 0, 0, 0)
    numbers = [part[0] for part in mixed]
    assert counts.reordered == sum(number < max(numbers[: i + 1]) for i, number in enumerate(numbers))


@given(st.lists(st.sampled_from(["keep", "lose", "repeat", "delay"]), min_size=1, max_size=30), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_every_chunk_is_counted(fates: list[str], length: int) -> None:
    """Windows contain the signal, or the blank value where chunks were lost."""
    signal = np.arange(1, 5 * len(fates) + 1, dtype=np.float32)[:, None]
    sent, delayed = [], []
    for part, fate in zip(chunks(signal, 5), fates, strict=True):
        sent += {"keep": [part], "lose": [], "repeat": [part, part], "delay": []}[fate]
        delayed += [part] if fate == "delay" else []
    windows = Windows(length, max(1, length // 2), reach=2, blank=np.nan)
    result = assemble(windows, sent + delayed)
    counts = windows.counts
    assert counts.chunks == len(sent) + len(delayed)
    for window in result:
        want = signal[window.start : window.start + length]
        real = ~np.isnan(window.data)
        np.testing.assert_array_equal(window.data[real], want[real])
        assert window.filled == (~real).sum()
    assert counts.filled == sum(window.filled for window in result)
    assert len({window.number for window in result}) == len(result)
    missing = sum(fate in ("lose", "delay") for fate in fates)
    assert counts.lost <= missing
    assert counts.repeated >= fates.count("repeat")


def test_late_chunk_is_counted_and_dropped() -> None:
    windows = Windows(10, 10, reach=1)
    parts = chunks(np.ones((50, 1), np.float32), 5)
    result = assemble(windows, [parts[0], parts[2], parts[3], parts[1], *parts[4:]])
    assert windows.counts.lost == 1
    assert windows.counts.late == 1
    assert windows.counts.reordered == 0, "a late chunk does not count as reordered"
    assert [window.filled for window in result] == [5, 0, 0, 0, 0]


def test_gap_does_not_fill_memory() -> None:
    windows = Windows(10, 5, reach=0)
    assert windows.push(0, 0, np.ones((12, 1), np.float32))
    computed = windows.push(1_000_000, 2**40 + 1, np.ones((30, 1), np.float32))
    assert [window.start % 5 for window in computed] == [0] * len(computed)
    assert computed[0].start >= 2**40 + 1
    assert computed[0].filled == 0
    assert windows.counts.lost == 999_999
    assert windows.counts.skipped > 10**10
    assert len(windows._given_up) <= 1000
    with pytest.raises(DataError, match="starts at step 3"):
        windows.push(1_000_001, 3, np.ones((3, 1), np.float32))


def test_frames_drop_late_ones() -> None:
    frames = Frames()
    assert [len(frames.push(number, number, b"x")) for number in (0, 2, 1, 3)] == [1, 1, 0, 1]
    assert (frames.counts.lost, frames.counts.late) == (1, 1)


def test_settings_are_validated() -> None:
    from sensorium.streaming.stream_session import Setup

    for wrong, problem in (
        ([], "has no column"),
        ({"column": "x", "rat": 1}, "did you mean rate"),
        ({"column": "x", "rate": "fast"}, "rate is not a valid number"),
        ({"column": "x", "hop": float("nan")}, "hop is not a valid number"),
        ({"column": "x", "row": 3}, "row must be an object"),
    ):
        with pytest.raises(ConfigError, match=problem):
            Setup.from_json(wrong)
