"""Long tables: the clock and its step, gaps, repeated and unsorted times, the division over time, calendar features."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.recipe import Windows
from sensorium.data.regular_grid import LongTable
from sensorium.data.tables.table import Table
from sensorium.data.window_tables import backtest_windows, next_windows, training_windows

START = datetime(2024, 2, 27, 22)


def hours(count: int = 60, jitter: int = 0) -> list[dict[str, Any]]:
    """Hourly rows of two meters; the load says which hour it is."""
    late = timedelta(seconds=jitter)
    return [
        {
            "meter": meter,
            "time": (START + timedelta(hours=hour) + (late if hour % 3 else -late)).isoformat(),
            "load": 1000 * number + hour,
            "heat": -hour,
            "wind": (hour * 7) % 11 + 0.5,
            "note": f"hour {hour}",
        }
        for hour in range(count)
        for number, meter in enumerate("ab")
    ]


def settings(**more: Any) -> Windows:
    return Windows(**{"target": ["load"], "horizon": 4, "time": "time", "series": "meter", **more})


def test_gaps_are_marked_and_rows_in_any_order_and_a_jittering_clock_give_the_same_grid() -> None:
    rows = [row for row in hours(jitter=90) if row["load"] not in (7, 8, 1009)]
    first, second = LongTable.of(Table.read(rows[::-1]), settings()).series[::-1]
    assert first.values[:, 0] == pytest.approx([np.nan if k in (7, 8) else k for k in range(60)], nan_ok=True)
    assert second.values[:, 0] == pytest.approx([np.nan if k == 9 else 1000 + k for k in range(60)], nan_ok=True)
    long = LongTable.of(Table.read(rows[::-1]), settings())
    assert long.windows.step == 3600.0
    assert long.windows.beside == ["heat", "wind"]
    assert any("in order of time" in note for note in long.notes)
    assert any("3 of 120 steps have no reading" in note for note in long.notes)


def test_readings_of_one_step_are_averaged() -> None:
    rows = [{"t": t, "x": x} for t, x in [(0, 1.0), (10, 2.0), (12, 4.0), (20, 5.0), (30, 6.0), (40, 7.0)]]
    long = LongTable.of(Table.read(rows), Windows(target=["x"], horizon=1, time="t", step=10))
    assert long.series[0].values[:, 0].tolist() == [1.0, 3.0, 5.0, 6.0, 7.0]


def test_windows_do_not_leak_and_hold_the_right_cells() -> None:
    cut = training_windows(Table.read(hours()), settings(known=["heat"], past=8), part=0.25)
    learnt = {step for row in cut.training.rows() for step in row["load"][:, 0] % 1000}
    held = {step for row in cut.held_out.rows() for step in row["load"][:, 0] % 1000}
    assert max(learnt) < min(held) == 45
    assert cut.season == 1  # a past of 8 hours holds no day
    for row in [*cut.training.rows(), *cut.held_out.rows()]:
        now = row["load"][0, 0]
        base = 1000 * (row["meter"] == "b")
        assert row["past"][:, 0].tolist() == list(np.arange(now - 8, now))
        assert row["past"][:, 1].tolist() == list(-(np.arange(now - 8, now) - base))
        assert row["known"][:, 0].tolist() == list(-(np.arange(now, now + 4) - base))
        assert row["note"] == f"hour {now - 1 - base:.0f}"
        assert row["times"][0] == (START + timedelta(hours=float(now - base))).isoformat()
        angle = 2 * np.pi * ((START.hour + now - base + np.arange(4)) % 24) / 24
        assert row["known"][:, 1] == pytest.approx(np.sin(angle))


def test_backtests_begin_after_training_and_the_future_after_the_last_reading() -> None:
    chosen = training_windows(Table.read(hours()), settings(known=["heat"], past=8)).windows
    later = [{**row, "load": None if row["heat"] < -80 else row["load"]} for row in hours(85)]
    tested = backtest_windows(Table.read(later), chosen)
    assert {row["load"][0, 0] % 1000 for row in tested.rows()} == set(range(60, 78))
    ahead = next_windows(Table.read(later), chosen)
    assert [row["meter"] for row in ahead.rows()] == ["a", "b"]
    assert ahead.row(0)["times"][0] == (START + timedelta(hours=81)).isoformat()
    assert ahead.row(0)["known"][:, 0].tolist() == [-81, -82, -83, -84]
    assert not ahead.notes
    assert "heat" in next_windows(Table.read(hours()), chosen).notes[0]
    with pytest.raises(DataError, match="where training ended"):
        backtest_windows(Table.read(hours()), chosen)


def test_months_are_steps_of_their_own_lengths() -> None:
    dates = [f"{2015 + k // 12}-{k % 12 + 1:02}-01" for k in range(60)]
    table = Table.read([{"month": date, "sales": k} for k, date in enumerate(dates)])
    cut = training_windows(table, Windows(target=["sales"], horizon=3, time="month"))
    assert cut.windows.step == "1 months"
    assert cut.season == 12
    assert cut.windows.calendar == ["year"]
    assert next_windows(table, cut.windows).row(0)["times"] == ["2020-01-01", "2020-02-01", "2020-03-01"]


@pytest.mark.parametrize(
    ("change", "more", "says"),
    [
        ({}, {"target": ["lod"]}, "no column named 'lod'; did you mean load"),
        ({}, {"time": "note"}, "'hour 0' is not a time"),
        ({}, {"target": ["note"]}, "'hour 0' is not a number"),
        ({}, {"horizon": 50}, "a shorter --horizon"),
        ({}, {"series": None}, "--series COLUMN"),
        ({}, {"step": "often"}, "is not a step of the clock"),
        ({}, {"known": ["load"]}, "named twice"),
        ({"past": 1}, {}, "rename the column"),
        ({"meter": ""}, {}, "which series the row belongs to"),
        ({"time": "2094-01-01"}, {}, "correct a wrong time"),
        ({"load": None}, {}, ""),
    ],
)
def test_invalid_window_settings_are_refused(change: dict[str, Any], more: dict[str, Any], says: str) -> None:
    rows = hours()
    rows[-1] |= change
    if not says:
        training_windows(Table.read(rows), settings(**more))
        return
    with pytest.raises((DataError, ConfigError), match=says):
        training_windows(Table.read(rows), settings(**more))


def test_step_is_inferred_from_irregular_times() -> None:
    draw = np.random.default_rng(3)
    late = draw.integers(-20, 20, 300)
    rows = [
        {"time": (START + timedelta(hours=i, minutes=int(m))).isoformat(), "load": i}
        for i, m in enumerate(late)
        if i % 11  # and gaps
    ]
    long = LongTable.of(Table.read(rows), Windows(target=["load"], horizon=4, time="time"))
    assert long.windows.step == 3600.0
    (one,) = long.series
    known = one.values[np.isfinite(one.values[:, 0]), 0]
    assert len(known) == len(rows)
