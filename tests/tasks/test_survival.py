"""Survival end to end: tables with two target columns, curves, metrics, reports; censoring, strata, experts."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.modality import Modality
from sensorium.modalities.category import Category
from sensorium.modalities.number import Number
from sensorium.tasks.survival import Survival

TARGET = {"time": "days", "event": "died"}
QUICK = ["model.size=tiny", "training.epochs=30", "training.batch_size=64", "training.lr=0.01"]


def patients(path: Path, rows: int, seed: int, *, strata: bool = False) -> Path:
    """``age`` and a word of ``note`` say how soon; a third leaves before; some cells are missing. ``clinic``: of one the
    times are five times as long."""
    draw = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "note", "days", "died", *(["clinic"] if strata else [])])
        for i in range(rows):
            age, ill = draw.normal(), draw.random() < 0.5
            note = "seems gravely ill today" if ill else "seems rather well today"
            clinic = i % 2
            died = draw.exponential(np.exp(-1.2 * age - 1.5 * ill)) * 100 * (5 if strata and clinic else 1)
            left = draw.exponential(150.0)
            days = "" if i % 20 == 7 else f"{min(died, left):.2f}"
            cells = [f"{age:.3f}" if i % 11 else "", note if i % 7 else "", days, "yes" if died <= left else "no"]
            writer.writerow([*cells, *([["north", "south"][clinic]] if strata else [])])
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("patients")
    return patients(folder / "train.csv", 400, 0), patients(folder / "test.csv", 200, 1)


@pytest.fixture(scope="module")
def fitted(tables: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    sm.fit(tables[0], task="survival", target=TARGET, columns={"note": "text"}, overrides=QUICK, quiet=True, out=out)
    return out


def test_it_ranks_risks_with_missing_streams(fitted: Path, tables: tuple[Path, Path]) -> None:
    model = sm.load(fitted)
    evaluation = model.evaluate(tables[1]).targets["survival"]
    assert evaluation.rows == 190  # ten have no time
    assert evaluation.metrics["c_index"] > 0.7
    assert evaluation.metrics["uno_c_index"] > 0.68
    assert evaluation.metrics["brier"] < 0.18
    assert evaluation.metrics["calibration_error"] < 0.15
    assert set(evaluation.subsets) == {"table", "note", "table+note"}
    assert all(scores["c_index"] > 0.55 for scores in evaluation.subsets.values())


def test_predictions_hold_times_hazard_ratios_groups_and_curves(fitted: Path) -> None:
    model = sm.load(fitted)
    rows = [{"age": 1.5, "note": "seems gravely ill today"}, {"age": -1.5, "note": "seems rather well today"}, {}]
    soon, late, unknown = (one.targets["survival"] for one in model.predict(rows))
    assert soon["value"] < unknown["value"] < late["value"]
    assert soon["hazard_ratio"] > 1 > late["hazard_ratio"]
    assert (soon["group"], late["group"]) == ("high", "low")
    assert soon["median"] < 100
    assert late["median"] is None or late["median"] > soon["median"]
    for one in (soon, late, unknown):
        chance, time = one["survival"]["chance"], one["survival"]["time"]
        assert len(chance) == len(time) == 12
        assert all(0 <= b <= a <= 1 for a, b in pairwise(chance))
        assert all(0 < a < b for a, b in pairwise(time))


def test_report_shows_risk_groups_and_numbers_at_risk(fitted: Path) -> None:
    page = (fitted / "report.html").read_text(encoding="utf-8")
    assert "Survival by risk group" in page
    assert "Numbers at risk" in page
    assert "share without event" in page


def test_discrete_hazards_rank_risks_too(tables: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"model": "discrete", "steps": 12}
    model = sm.fit(
        tables[0], task="survival", target=TARGET, options=options, overrides=QUICK, quiet=True, out=tmp_path / "run"
    )
    evaluation = sm.load(tmp_path / "run").evaluate(tables[1]).targets["survival"]
    assert evaluation.metrics["c_index"] > 0.72
    answer = model.predict([{}])[0].targets["survival"]
    assert "hazard_ratio" not in answer
    assert answer["value"] > 0


def test_experts_predict_beside_the_network_and_alone(tables: tuple[Path, Path], tmp_path: Path) -> None:
    experts = ["model.experts=[linear, forest]", "model.network=false"]
    model = sm.fit(
        tables[0], task="survival", target=TARGET, overrides=[*QUICK, *experts], quiet=True, out=tmp_path / "run"
    )
    evaluation = model.evaluate(tables[1]).targets["survival"]
    assert evaluation.metrics["c_index"] > 0.75
    assert evaluation.metrics["brier"] < 0.18  # the baseline hazard is that of the blend
    assert sm.load(tmp_path / "run").predict([{"age": 1.0}])[0].targets == model.predict([{"age": 1.0}])[0].targets


def test_rows_are_compared_within_their_stratum(tmp_path: Path) -> None:
    train, test = patients(tmp_path / "a.csv", 400, 0, strata=True), patients(tmp_path / "b.csv", 200, 1, strata=True)
    tasks = {"risk": {"kind": "survival", "target": ["days", "died"], "prompt": "clinic"}}
    model = sm.fit(train, recipe=sm.Recipe.parse({"model": {"tasks": tasks}}), overrides=QUICK, quiet=True)
    sick = {"age": 0.5, "note": "seems gravely ill today"}
    north, south, nowhere = (
        one.targets["risk"] for one in model.predict([{**sick, "clinic": "north"}, {**sick, "clinic": "south"}, sick])
    )
    assert north["hazard_ratio"] == pytest.approx(south["hazard_ratio"])
    assert north["value"] < nowhere["value"] < south["value"]
    assert model.evaluate(test).targets["risk"].metrics["c_index"] > 0.6


def test_on_the_command_line(tables: tuple[Path, Path], tmp_path: Path, cli: Any) -> None:
    words = ("fit", tables[0], "--task", "survival", "--time", "days", "--out", tmp_path / "run", *QUICK)
    code, out, err = cli(*words, "--event", "died")
    assert code == 0, err
    assert "c_index" in out + err
    code, _, err = cli(*words)
    assert code != 0
    assert "event" in err


def reader(kind: type[Modality], *cells: Any) -> Modality:
    made = kind()
    made.fit(iter(cells))
    return made


def goal(time: Modality, event: Modality) -> Goal:
    return Goal("risk", {"days": time, "status": event})


def test_invalid_targets_are_rejected() -> None:
    days, status = reader(Number, 1, 2, 3), reader(Category, "alive", "gone", "alive")
    with pytest.raises(ConfigError, match="which class marks") as error:
        Survival(goal(days, status), 4)
    assert "--happened" in str(error.value)
    assert Survival(goal(days, status), 4, happened="gone").happened == 1
    with pytest.raises(ConfigError, match="the time must be a number"):
        Survival(goal(status, days), 4)
    before = reader(Number, -3, 2, 3)
    task = Survival(goal(before, reader(Number, 0, 1, 1)), 4)
    cells = [before.encode_target(cell) for cell in (-3, 2)]
    field = before.collate(cells)
    target = torch.cat([field.data, torch.ones(2, 1)], dim=1)
    with pytest.raises(ConfigError, match="negative times"):
        task.fit([type(field)(target, torch.ones(2, dtype=torch.bool))])


def test_zero_is_a_valid_time(tmp_path: Path) -> None:
    """Times are skewed, and a logarithm would be learnt of any other target; 0 has none."""
    path = patients(tmp_path / "t.csv", 200, 0)
    model = sm.fit(path, task="survival", target=TARGET, overrides=QUICK[:2], quiet=True)
    days = model.artifact.schema.columns["days"].reader
    assert days.decode(days.encode_target("0")) == pytest.approx(0, abs=1e-4)


def test_wrong_inputs_are_told_with_what_to_do(tmp_path: Path, cli: Any) -> None:
    draw = np.random.default_rng(0)
    lines = [f"{draw.normal():.2f},{-3 if i == 4 else draw.exponential(9):.2f},{i % 3}" for i in range(40)]
    table = tmp_path / "three.csv"
    table.write_text("\n".join(["age,days,state", *lines]), encoding="utf-8")
    command = ("fit", table, "--task", "survival", "--out", tmp_path / "run", "model.size=tiny", "training.epochs=1")
    for more, says in (
        (("--time", "days"), "--time COLUMN --event COLUMN"),
        (("--time", "dayz", "--event", "state"), "did you mean days"),
        (("--time", "days", "--event", "state"), "cannot tell which class marks the event"),
        (("--time", "days", "--event", "state", "--happened", "7"), "'7' is no class"),
    ):
        code, _, err = cli(*command, *more)
        assert code != 0
        assert says in err
    code, _, err = cli(*command, "--time", "days", "--event", "state", "--happened", "2")
    assert code == 0, err
    assert "row 5, column 'days': -3 is less than 0" in err
