"""Outliers of a numeric target, against scipy and on the scale that is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from sensorium.data.inspection.inspect import inspect
from sensorium.data.inspection.outliers import outlier_indices
from sensorium.data.tables.table import Table


def test_outliers_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 2, 300), rng.normal(10, 40, 20)])
    away = np.abs(values - np.median(values))
    expected = np.flatnonzero(away > 5 * median_abs_deviation(values, scale="normal"))
    result = outlier_indices(values.tolist())
    assert sorted(result) == expected.tolist()
    assert 5 < len(result) < 20
    assert (np.diff(away[result]) <= 0).all(), "the farthest first"
    assert outlier_indices([1.0] * 9 + [50.0]) == [], "more than half are the same: nothing is known of their spread"
    assert outlier_indices([3.0]) == []


def test_inspect_reports_outlier_rows() -> None:
    price = [10.0 + i % 7 for i in range(60)]
    price[11], price[40] = 900.0, -500.0
    table = Table.read({"x": list(range(60)), "price": price})
    inspection = inspect({"train": table}, target="price", columns={"price": "number"})
    (target,) = inspection.targets
    assert target.outliers == [(12, 900.0), (41, -500.0)]
    assert target.median == np.median(price)
    assert target.range is not None
    assert target.range[1] == pytest.approx(np.mean(price))
    text = inspection.text()
    assert f"mean {np.mean(price):g}, median {np.median(price):g}" in text
    assert "2 of 60 values lie beyond 5 robust deviations from the median: row 12 (900), row 41 (-500)" in text
    document = json.loads(json.dumps(inspection.to_json()))["targets"][0]
    assert document["outliers"] == [[12, 900.0], [41, -500.0]]
    assert document["median"] == target.median


def test_skewed_target_is_judged_on_its_log_scale() -> None:
    price = np.exp(np.random.default_rng(1).normal(5, 1.2, 400)).round(2)
    assert len(outlier_indices(price.tolist())) > 10
    table = Table.read({"x": list(range(400)), "price": price.tolist()})
    (target,) = inspect({"train": table}, target="price", columns={"price": "number"}).targets
    assert target.outliers == []
    price[7] = 1e9
    table = Table.read({"x": list(range(400)), "price": price.tolist()})
    inspection = inspect({"train": table}, target="price", columns={"price": "number"})
    assert [row for row, _ in inspection.targets[0].outliers] == [8]
    assert "of their logarithms" in inspection.text()


def test_fit_reports_mean_median_and_outliers(
    scenes: Path, tmp_path: Path, write_csv: Any, read_csv: Any, cli: Any
) -> None:
    rows = [dict(row, cost=str(20 + i % 9)) for i, row in enumerate(read_csv(scenes / "train.csv"))]
    rows[4]["cost"] = "5000"
    table = write_csv(tmp_path / "train.csv", rows, ["room", "temperature", "cost"])
    valid = write_csv(tmp_path / "valid.csv", rows[10:30], ["room", "temperature", "cost"])
    quick = ["model.size=tiny", "training.epochs=1"]
    options = ["--as", "cost=number", "--as", "room=category", "--as", "temperature=number"]
    code, _, err = cli("fit", table, "--target", "cost", "--valid", valid, "--out", tmp_path / "run", *options, *quick)
    assert code == 0, err
    costs = [float(row["cost"]) for row in rows]
    assert f"cost: mean {np.mean(costs):g}, median {np.median(costs):g} over {len(costs)} training rows" in err
    assert f"cost: 1 of {len(costs)} values lies beyond 5 robust deviations" in err
    assert "from the median: row 5 (5000)" in err
