"""A long table (a row for each moment) in requests, explanations and comparisons."""

from __future__ import annotations

import csv
import json
import math
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")

import sensorium as sm
from sensorium.evaluation.formatting import number

SETTINGS = ["model.size=tiny", "training.epochs=2"]
OPTIONS = {"horizon": 6, "past": 24, "time": "time", "series": "meter", "known": ["heat"]}


def moments(hours: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    rows = []
    for hour in range(hours):
        for meter, level in (("north", 50), ("south", 80)):
            heat = draw.gauss(0, 1)
            load = round(level + 5 * math.sin(hour / 12 * math.pi) + 3 * heat, 2)
            time = (datetime(2024, 1, 1) + timedelta(hours=hour)).isoformat()
            if draw.random() > 0.03:
                rows.append({"time": time, "meter": meter, "load": load, "heat": round(heat, 3)})
    return rows


@pytest.fixture(scope="module")
def model() -> sm.Trained:
    rows = moments(120)
    return sm.fit(rows, target="load", task="forecasting", options=OPTIONS, overrides=SETTINGS, quiet=True, seed=0)


@pytest.fixture(scope="module")
def client(model: sm.Trained, make_client: Any) -> Any:
    return make_client({"meters": model.predictor})


def test_the_last_window_of_each_series_is_forecast(model: sm.Trained, client: Any) -> None:
    rows = moments(120)[60:]
    answer = client.post("/predict", json={"table": rows})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert sorted(one["series"] for one in body["predictions"]) == ["north", "south"]
    assert any("heat" in note for note in body["notes"]), "what was known in advance is not there"
    for served, local in zip(body["predictions"], model.predict(rows), strict=True):
        mine = json.loads(json.dumps(local.to_json()["targets"]["load"]))
        assert served["targets"]["load"]["times"] == mine["times"]
        assert served["targets"]["load"]["value"] == pytest.approx(mine["value"], abs=1e-3)
    explained = client.post("/explain", json={"table": rows})
    assert explained.status_code == 200, explained.text
    assert "table" in client.get("/openapi.json").text


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "one for each moment"),
        ([3], "a row must be an object"),
        ([{"load": 1.0}], "time"),
        ([{"time": "yesterday evening", "load": 1.0, "meter": "north"}], "is not a time"),
        ([{"time": "2024-01-01T00:00", "load": "much", "meter": "north"}], "is not a number"),
        ([{"time": "2024-01-01T00:00", "load": None, "meter": "north"}], "number"),
    ],
)
def test_invalid_tables_are_refused_with_a_message(client: Any, table: Any, words: str) -> None:
    answer = client.post("/predict", json={"table": table})
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["error"]["problem"]


def test_models_without_windows_refuse_a_table(make_client: Any, predictor: Any) -> None:
    answer = make_client({"house": predictor}).post("/predict", json={"table": [{"time": 1}]})
    assert answer.status_code == 422
    assert "long table" in answer.json()["error"]["problem"]


def test_explanations_name_similar_training_windows(model: sm.Trained) -> None:
    rows = moments(120)
    explanation = model.explain(rows, row=1, train=rows)
    (neighbours,) = explanation.nearest.values()
    assert len({round(one.likeness, 6) for one in neighbours}) > 1, "windows differ; rows of a moment would not"
    assert all(len(one.targets["load"]) == OPTIONS["horizon"] for one in neighbours)
    (printed, *_) = [line for line in explanation.text().splitlines() if "similar to training row" in line]
    future = ", ".join(number(float(step)) for step in neighbours[0].targets["load"].ravel())
    assert f"load {future}" in printed


def test_an_invalid_horizon_is_refused_with_a_message(tmp_path: Path, cli: Any) -> None:
    table = tmp_path / "meters.csv"
    _write(table, moments(48))
    code, _, err = cli(
        "fit", table, "--task", "forecasting", "--target", "load", "--horizon", "abc", "--out", tmp_path / "r"
    )
    assert code != 0
    assert "horizon: 'abc' is not a whole number" in err


def test_encoders_are_compared_on_later_windows(tmp_path: Path, cli: Any) -> None:
    early, later = tmp_path / "early.csv", tmp_path / "later.csv"
    rows = moments(200)
    _write(early, [row for row in rows if row["time"] < "2024-01-07"])
    _write(later, rows)
    words = (
        "--task",
        "forecasting",
        "--target",
        "load",
        "--horizon",
        6,
        "--past",
        24,
        "--time",
        "time",
        "--series",
        "meter",
    )
    code, out, err = cli("compare", early, "--test", later, *words, "--encoders", "past=tcn,statistics", "--seeds", 2,
                         "--out", tmp_path / "compared", "model.size=tiny", "training.epochs=1")  # fmt: skip
    assert code == 0, err
    assert "statistics" in out
    code, _, err = cli("compare", early, *words, "--encoders", "past=tcn,statistics", "--out", tmp_path / "other")
    assert code != 0
    assert "--test" in err


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
