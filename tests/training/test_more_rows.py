"""Fits with made and unlabelled rows: always compared with a fit without them, and never validated on such rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError, DataError
from sensorium.data.made_rows import MARK
from sensorium.data.tables.table import Table
from sensorium.reporting import made_files
from sensorium.reporting.console import Console
from sensorium.training.table_splits import from_table
from sensorium.training.training_request import Request

OPTIONS: dict[str, Any] = {
    "target": "label",
    "overrides": ["model.size=tiny", "model.experts=[]"],
    "epochs": 2,
    "quiet": True,
}


def rows(count: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    labels = [("low", "high")[i % 2] for i in range(count)]
    return [{"x": 3.0 * (label == "high") + draw.normal(), "y": draw.normal(), "label": label} for label in labels]


@pytest.fixture(scope="module")
def augmented(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("augmented")
    made_files.write(folder / "made", [{**row, MARK: "by hand"} for row in rows(12, seed=1)])
    return sm.fit(rows(), augment_with=folder / "made", unlabelled=rows(30, seed=2), out=folder / "run", **OPTIONS), folder


def test_both_scores_are_printed_and_recorded(augmented: Any, capsys: Any) -> None:
    model, folder = augmented
    entry = sm.load(folder / "run").artifact.report["more_rows"]
    assert entry == model.artifact.report["more_rows"]
    assert set(entry["scores"]["label"]) == {"metric", "without", "with", "better"}
    assert [text.split(" of ")[0] for text in entry["with"]] == ["12 made rows", "30 unlabelled rows"]
    assert model.artifact.report["rows"] == 34 + 12  # 6 of the 40 are held out
    assert model.recipe.init is not None


def test_a_generator_is_trained_on_training_rows_and_its_rows_are_added(tmp_path: Path, capfd: Any) -> None:
    model = sm.fit(rows(), synthetic=0.5, out=tmp_path / "run", **OPTIONS)
    assert model.artifact.report["rows"] == 34 + 17
    made = Table.read(tmp_path / "run" / "made" / "rows.csv")
    assert len(made) == 17
    assert all(made.column(MARK))
    assert set(made.column("label")) == {"low", "high"}
    printed = capfd.readouterr()
    assert "without" in printed.out + printed.err
    assert "with 17 made rows" in printed.out + printed.err


def test_made_rows_are_not_used_for_validation() -> None:
    table = [*rows(), *({**row, MARK: "yes"} for row in rows(30, seed=1))]
    splits = from_table(Request.of(table, target="label"), Console(quiet=True), None)
    assert not splits.held_out.has(MARK) or not any(splits.held_out.column(MARK))
    assert sum(bool(cell) for cell in splits.training.column(MARK)) == 30
    assert len(splits.held_out) == 6
    assert MARK not in {column.name for column in splits.schema.inputs}
    valid = [*rows(4), {**rows(1)[0], MARK: "yes"}]
    splits = from_table(Request.of(rows(), target="label", valid=valid), Console(quiet=True), None)
    assert len(splits.held_out) == 4


def test_incompatible_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a multiple of the training rows"):
        sm.fit(rows(), synthetic=-1.0, **OPTIONS)
    with pytest.raises(ConfigError, match="further rows do not go with a search"):
        sm.fit(rows(), synthetic=1.0, search=2, **OPTIONS)
    with pytest.raises(DataError, match="made rows have no target label"):
        sm.fit(rows(), augment_with=[{"x": 1.0, "y": 2.0}], **OPTIONS)
    with pytest.raises(DataError, match="nowhere: there are no made rows"):
        sm.fit(rows(), augment_with="nowhere", **OPTIONS)


def test_a_stream_without_labels_learns_from_the_answers_of_another() -> None:
    draw = np.random.default_rng(0)
    table = []
    for i in range(120):
        label = ("low", "high")[i % 2]
        cells = {name: 4.0 * (label == "high") + draw.normal() for name in ("seen", "heard")}
        labelled = i < 60  # these have one stream only, the others both and no label
        table.append({**cells, "heard": None if labelled else cells["heard"], "label": label if labelled else None})
    model = sm.fit(
        table,
        target="label",
        streams={"eye": "seen", "ear": "heard"},
        epochs=20,
        overrides=[
            *("model.size=tiny", "model.experts=[]", "model.fusion=lowrank", "training.lr=0.005"),
            "objectives=[supervised, {kind: distillation, teachers: [eye]}]",
        ],
        quiet=True,
    )
    alone = model.predict([{"heard": value} for value in (-1.0, 0.0, 4.0, 5.0)])
    assert [row.value for row in alone] == ["low", "low", "high", "high"]


@pytest.mark.parametrize("option", ["augment_with", "unlabelled"])
def test_a_missing_table_is_found_before_anything_is_trained(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorium.training.fit.train_network", lambda *_: pytest.fail("a network was trained"))
    with pytest.raises(DataError, match=r"nowhere\.csv: (no such file|there are no made rows)"):
        sm.fit(rows(), **{option: tmp_path / "nowhere.csv"}, **OPTIONS)
