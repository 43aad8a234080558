"""Windows of a long table: their steps, and that no step is both learnt from and tested on."""

from __future__ import annotations

from typing import Any

import pytest

from sensorium.core.errors import DataError
from sensorium.data.windows import cut_windows


def meters() -> list[dict[str, Any]]:
    return [
        {"meter": meter, "hour": hour, "load": None if hour == 5 else 100 * number + hour, "heat": -hour}
        for hour in range(40)
        for number, meter in enumerate("ab")
    ]


def test_windows_follow_each_series_and_no_future_is_learnt_from_and_tested_on() -> None:
    training, backtest = cut_windows(meters(), "load", horizon=3, past=6, series="meter", known=["heat"], held_out=0.25)
    assert len(training) + len(backtest) == 2 * (40 - 3 - 6 + 1 - 2)
    first = training.row(0)
    assert first == {
        "meter": "a",
        "hour": 5,
        "heat": [-6.0, -7.0, -8.0],
        "past": [0, 1, 2, 3, 4, None],
        "future": [6, 7, 8],
    }
    for row in [*training.rows(), *backtest.rows()]:
        assert {int(value // 100) for value in [*row["past"], *row["future"]] if value is not None} == {row["meter"] == "b"}
    learnt = {step for row in training.rows() for step in row["future"]}
    assert max(step % 100 for step in learnt) < 30
    assert min(step % 100 for row in backtest.rows() for step in row["future"]) == 30
    assert all(step < 100 or 100 <= step < 130 for step in learnt)


def test_invalid_window_settings_are_refused() -> None:
    with pytest.raises(DataError, match="long enough"):
        cut_windows(meters(), "load", horizon=30, past=20, series="meter")
    with pytest.raises(DataError, match="is not a number"):
        cut_windows([{"load": "much"}, *meters()], "load", horizon=2, past=2)
