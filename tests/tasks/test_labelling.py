"""Labelling: from a table of sensors to spans, trained, scored, saved and served."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.batch import Batch
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.data.synthetic_activities import make

QUICK = ["model.size=tiny", "training.epochs=8", "columns.labels.on=motion", "columns.motion={kind: series, length: 120}"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("activities"), rows=100, holes=0.08)


@pytest.fixture(scope="module")
def run(tables: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labelling") / "run"
    sm.fit(tables["train"], target="labels", overrides=QUICK, quiet=True, out=out, seed=1)
    return out


def test_it_is_learnt_scored_and_reported(run: Path, tables: dict[str, Path], tmp_path: Path) -> None:
    model = sm.load(run)
    assert model.recipe.model.tasks["labels"]["kind"] == "labelling", "inferred from the cells"
    evaluation = model.evaluate(tables["test"], report=tmp_path / "report.html")
    scores = evaluation.targets["labels"]
    assert scores.headline == "segment_f1_50"
    assert scores.metrics["segment_f1_50"] > 0.8 > scores.baseline["segment_f1_50"]
    assert scores.metrics["step_accuracy"] > 0.85
    assert scores.subsets["motion"]["step_accuracy"] < scores.metrics["step_accuracy"] - 0.05, "the meter is needed"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Labels along time" in page
    assert "Each label" in page


def test_answers_are_spans_of_the_whole_recording(run: Path, tables: dict[str, Path]) -> None:
    model, table = sm.load(run), sm.Table.read(tables["test"])
    predictions = model.predict(tables["test"])
    for i, prediction in enumerate(predictions):
        spans = prediction.targets["labels"]["value"]
        assert json.loads(json.dumps(spans)) == spans
        if not table.row(i)["motion"]:
            assert spans == []
            continue
        length = len(np.load(tables["test"].parent / table.row(i)["motion"]))
        assert spans[0][0] == 0.0
        assert spans[-1][1] == length
        assert all(one[1] == other[0] and one[2] != other[2] for one, other in pairwise(spans))


def test_a_row_is_answered_as_in_a_batch(run: Path, tables: dict[str, Path]) -> None:
    model, table = sm.load(run), sm.Table.read(tables["test"])
    together = model.predict(tables["test"])
    for i in range(4):
        alone = model.predict([dict(table.row(i))], media=tables["test"].parent)[0].targets["labels"]
        assert alone["value"] == together[i].targets["labels"]["value"]
        assert alone["confidence"] == pytest.approx(together[i].targets["labels"]["confidence"], abs=1e-5)


def test_truths_come_back_in_the_units_of_the_table(run: Path, tables: dict[str, Path]) -> None:
    model, table = sm.load(run), sm.Table.read(tables["test"])
    batch: Batch = next(iter(model.batches(model.encode(table))))
    truths = model.model.tasks["labels"].plain.truths(batch)
    compared = 0
    for i, truth in enumerate(truths):
        row = table.row(i)
        if truth is not None and row["motion"]:
            assert truth == [[float(a), float(b), name] for a, b, name in json.loads(row["labels"])]
            compared += 1
    assert compared > 10


def test_each_step_for_itself_switches_more(run: Path, tables: dict[str, Path]) -> None:
    model = sm.load(run)
    task: Any = model.model.tasks["labels"].plain
    batch = next(iter(model.batches(model.encode(sm.Table.read(tables["test"])))))
    with torch.no_grad():
        output = Forward(model.model, batch).outputs["labels"]
    field = batch.inputs["motion"]
    assert field.mask is not None
    smooth = task.decoded(output, field.mask, field)
    task.switch = 0.0
    plain = task.decoded(output, field.mask, field)
    logits = output[:, : field.mask.shape[1]]
    assert torch.equal(plain[field.mask], logits.argmax(dim=2)[field.mask])

    def changes(codes: torch.Tensor) -> int:
        return int(((codes[:, 1:] != codes[:, :-1]) & field.mask[:, 1:]).sum())  # type: ignore[index]

    assert changes(smooth) < changes(plain)


def test_causal_labels_do_not_know_the_future(tables: dict[str, Path]) -> None:
    brief = [*QUICK, "training.epochs=1", "model.encoders.motion=tcn"]
    options = {"causal": True, "depth": 2}
    model = sm.fit(
        tables["train"], target="labels", task="labelling", options=options, ignore=["power"], overrides=brief, quiet=True
    )
    steps = np.load(tables["test"].parent / "motion" / "0080.npy")
    task: Any = model.model.tasks["labels"].plain

    def logits(series: np.ndarray[Any, Any]) -> torch.Tensor:
        rows = sm.Table.read({"motion": [series], "labels": [None]})
        batch = next(iter(model.batches(model.encode(rows))))
        task.steer.weight.data.zero_()  # the vector of the row knows all of it
        task.steer.bias.data.zero_()
        with torch.no_grad():
            output: torch.Tensor = Forward(model.model, batch).outputs["labels"]
        return output

    changed = steps.copy()
    changed[40:] += 3.0
    torch.testing.assert_close(logits(steps)[:, :40], logits(changed)[:, :40])
    assert not torch.allclose(logits(steps)[:, 40:60], logits(changed)[:, 40:60])


def test_labels_need_something_to_lie_on(tables: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="lies on one of several inputs"):
        sm.fit(tables["train"], target="labels", overrides=QUICK[:2], quiet=True)


def test_it_is_explained_by_stream(run: Path, tables: dict[str, Path]) -> None:
    shares = sm.load(run).explain(tables["test"], sample=12).mean_shares("labels")
    assert set(shares) == {"motion", "power"}
    assert all(np.isfinite(list(shares.values())))
