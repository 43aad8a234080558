"""Forecasting end to end: windows with gaps and other streams; quantiles, calibration, scores, reports, level shifts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.metrics.forecasting import row_scores
from sensorium.nn.forecaster import LEVELS, pinball, uncrossed

QUICK = ["model.size=tiny", "training.epochs=12", "training.lr=0.005", "training.batch_size=32"]
PAST, AHEAD = 24, 6


def load_windows(path: Path, rows: int, seed: int) -> Path:
    """Daily waves with a random level; a note says whether the next steps are higher. Gaps and missing cells."""
    draw = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for i in range(rows):
            time = draw.integers(12) + np.arange(PAST + AHEAD)
            high = bool(draw.integers(2))
            load = 50 * draw.normal() + 5 * np.sin(time / 12 * 2 * np.pi) + 0.3 * draw.normal(size=len(time))
            load[PAST:] += 4 * high
            cells: list[Any] = [round(float(value), 3) for value in load]
            if i % 5 == 0:
                cells[3] = cells[PAST + 2] = None
            note = "a holiday, nobody works" if high else "an ordinary working day"
            row = {"past": cells[:PAST], "future": cells[PAST:], "note": note if i % 7 else None}
            if i % 29 == 3:
                row["past"] = None
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("load")
    return load_windows(folder / "train.jsonl", 300, 0), load_windows(folder / "test.jsonl", 120, 1)


@pytest.fixture(scope="module")
def fitted(tables: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    sm.fit(tables[0], target="future", task="forecasting", columns={"note": "text"}, overrides=QUICK, quiet=True, out=out)
    return out


def test_it_beats_simple_methods_and_covers(fitted: Path, tables: tuple[Path, Path]) -> None:
    evaluation = sm.load(fitted).evaluate(tables[1]).targets["future"]
    simple = next(view for view in evaluation.views if view.name == "simple_methods").to_json()
    assert evaluation.metrics["mase"] == pytest.approx(simple[0]["MASE"], rel=1e-5)
    *naive, ridge, analogues = simple[1:]
    assert all(evaluation.metrics["mase"] < 0.8 * row["MASE"] for row in naive)
    assert evaluation.metrics["mase"] < min(ridge["MASE"], analogues["MASE"])
    assert 0.65 < evaluation.metrics["coverage_80"] < 0.92
    assert evaluation.metrics["mase"] < evaluation.subsets["past"]["mase"]  # the note helps
    assert "Error and coverage by step" in (fitted / "report.html").read_text(encoding="utf-8")


def test_a_forecast_follows_the_level_and_its_quantiles_do_not_cross(fitted: Path) -> None:
    model = sm.load(fitted)
    past = (5 * np.sin(np.arange(PAST) / 12 * 2 * np.pi)).tolist()
    rows = [{"past": past}, {"past": [value + 30 for value in past]}, {"note": "an ordinary working day"}, {}]
    low, high, *_ = answers = [one.targets["future"] for one in model.predict(rows)]
    assert np.asarray(high["value"]) - np.asarray(low["value"]) == pytest.approx(np.full(AHEAD, 30), abs=3)
    for answer in answers:
        quantiles = np.array([answer["quantiles"][f"{level:g}"] for level in LEVELS])
        assert quantiles.shape == (len(LEVELS), AHEAD)
        assert (np.diff(quantiles, axis=0) >= 0).all()
        assert answer["value"] == answer["quantiles"]["0.5"]
        assert answer["steps"] == list(range(1, AHEAD + 1))


def test_on_the_command_line(tables: tuple[Path, Path], tmp_path: Path, cli: Any) -> None:
    quick = [*QUICK[:1], "training.epochs=1"]
    code, out, err = cli("fit", tables[0], "--target", "future", "--season", "12", "--task", "forecasting",
                         "--out", tmp_path / "run", *quick)  # fmt: skip
    assert code == 0, err
    assert "mase" in (out + err).lower()


def test_mase_is_the_error_relative_to_the_naive_forecast_within_the_past() -> None:
    draw = np.random.default_rng(0)
    past, future, predicted = draw.normal(size=(4, 30, 2)), draw.normal(size=(4, 7, 2)), draw.normal(size=(4, 7, 2))
    future[0, 2, 1] = np.nan
    expected = np.nanmean(np.abs(future - predicted), axis=1) / np.abs(np.diff(past, axis=1)).mean(axis=1)
    scale = torch.from_numpy(np.abs(np.diff(past, axis=1)).mean(axis=1))
    median, truth = torch.from_numpy(predicted), torch.from_numpy(future)
    result = row_scores(median - 1, median, median + 1, median * 0, truth, scale)
    assert result[:, 0].numpy() == pytest.approx(expected.mean(axis=1))
    assert result[:, 4].tolist() == pytest.approx([2.0] * 4)
    known = np.isfinite(future[0])
    assert float(result[0, 1]) == pytest.approx((np.abs(future[0] - predicted[0]) <= 1)[known].mean())


def test_pinball_is_least_at_the_quantile_and_quantiles_are_put_in_order() -> None:
    truth = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    best = truth.quantile(torch.tensor(LEVELS, dtype=torch.float64))
    least = pinball(best.expand(len(truth), -1), truth).mean(dim=0)
    for off in (-0.1, 0.1):
        assert bool((pinball((best + off).expand(len(truth), -1), truth).mean(dim=0) > least).all())
    crossed = torch.tensor([3.0, 1.0, 2.0, 0.0, -1.0, 5.0, 4.0])
    assert uncrossed(crossed).tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0]


def test_a_long_table_on_the_command_line(tmp_path: Path, cli: Any) -> None:
    draw = np.random.default_rng(0)
    lines = ["meter,time,load,heat"]
    for hour in range(24 * 14):
        heat = draw.normal()
        for meter, level in (("north", 50), ("south", 80)):
            load = level + 5 * np.sin(hour / 24 * 2 * np.pi) + 4 * heat
            day, ready = divmod(hour, 24)[0] + 1, hour < 24 * 12
            if draw.random() > 0.03:
                cell = f"{load:.2f}" if ready else ""
                lines.append(f"{meter},2024-01-{day:02}T{hour % 24:02}:00,{cell},{heat:.3f}")
    table = tmp_path / "meters.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    code, out, err = cli("fit", table, "--task", "forecasting", "--target", "load", "--horizon", 6, "--time", "time",
                         "--series", "meter", "--known", "heat", "--past", 24, "--out", tmp_path / "run",
                         "model.size=tiny", "training.epochs=4", "training.lr=0.005")  # fmt: skip
    assert code == 0, err
    assert "steps have no reading: gaps are marked" in out + err
    assert "known improves the score significantly" in out
    code, out, err = cli("predict", tmp_path / "run", table, "--keep", "meter", "--by-step")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["meter"], row["load.times"][8:16]) for row in rows[5:7]] == [("north", "13T05:00"), ("south", "13T00:00")]
    assert all(float(row["load.quantiles=0.1"]) <= float(row["load"]) <= float(row["load.quantiles=0.9"]) for row in rows)
    code, out, err = cli("evaluate", tmp_path / "run", table)
    assert code != 0
    assert "2024-01-12T23:00:00, where training ended" in err


def test_a_linear_series_is_forecast_by_the_linear_part() -> None:
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(160):
        past = [draw.normal()]
        for _ in range(29):
            past.append(0.9 * past[-1] + 0.1 * draw.normal())
        ahead = draw.normal(size=4)
        future = [past[-1] * 0.9 ** (k + 1) + ahead[k] for k in range(4)]
        rows.append({"past": past, "price": ahead.tolist(), "future": future})
    overrides = [*QUICK[:1], "training.epochs=1", "columns.future.on=past", "columns.price={kind: series, length: 4}"]
    model = sm.fit(rows[:120], valid=rows[120:], target="future", task="forecasting", options={"known": ["price"]},
                   overrides=overrides, quiet=True)  # fmt: skip
    task = model.model.tasks["future"]
    assert float(task.simple.linear.share) == 0.5  # an untrained network says less
    simple = {row["method"]: row["MASE"] for row in model.evaluate(rows[120:]).targets["future"].views[0].to_json()}
    assert simple["linear (ridge)"] < 0.6 * min(simple["last value"], simple["mean of the past"])


def test_a_series_that_never_changes_is_forecast_and_saved(tmp_path: Path) -> None:
    rows = [{"load": 5.0} for _ in range(60)]
    quick = [*QUICK[:1], "training.epochs=1"]
    options = {"horizon": 4, "past": 12}
    sm.fit(rows, target="load", task="forecasting", options=options, overrides=quick, quiet=True, out=tmp_path / "run")
    (answer,) = sm.load(tmp_path / "run").predict(rows)  # MASE is undefined
    assert answer.value == pytest.approx([5.0] * 4, abs=0.01)


def test_missing_settings_of_a_long_table_are_named(tmp_path: Path, cli: Any) -> None:
    table = tmp_path / "load.csv"
    table.write_text("\n".join(["time,load,heat", *(f"{i},{i % 5},{i * i % 7 / 2}" for i in range(60))]), encoding="utf-8")
    command = ("fit", table, "--task", "forecasting", "--out", tmp_path / "run")
    for more, says in (
        (("--target", "load"), "--horizon STEPS"),
        (("--target", "load", "--time", "time"), "whose horizon is not given"),
        (("--horizon", "4"), "--target COLUMN"),
        (("--target", "load", "--horizon", "four"), "horizon"),
        (("--target", "load", "--horizon", "4", "--time", "time", "--known", "price"), "no column named 'price'"),
        (("--target", "load", "--horizon", "80", "--time", "time"), "a shorter --horizon"),
    ):
        code, _, err = cli(*command, *more)
        assert code != 0
        assert says in err
