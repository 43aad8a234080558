"""Training from a stream of shards: the same rows, exact resume, validation rows that are never trained on."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import encode
from sensorium.data.files.media_access import UPLOADS_ONLY, LocalFiles
from sensorium.data.shards.pack import pack
from sensorium.data.shards.prefetch import PrefetchedBatches, StreamEpoch
from sensorium.data.shards.row_stream import Stream
from sensorium.data.shards.shard_folder import shards
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table
from sensorium.training.lightning_module import TrainingModule
from sensorium.training.prepare import fit_modalities
from sensorium.training.shard_source import HeldOutRows

OPTIONS = ["model.size=tiny", "training.epochs=2", "training.batch_size=8", "training.checkpoint_every=0.000001"]


class PowerCutError(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def packed(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training table of scenes as shards of 20 rows. Do not write."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    assert pack(Table.read(scenes / "train.csv"), out, media=LocalFiles(scenes), rows_per_shard=20) == []
    return out


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of numbers and words as shards of 16 rows, each with a weight."""
    out = tmp_path_factory.mktemp("words") / "shards"
    rows = [
        {"x": i % 7 - 3.0, "z": (i * 5) % 11, "word": ["ash", "elm"][i % 2], "who": f"p{i // 4}", "y": "ab"[i % 7 > 3]}
        for i in range(96)
    ]
    pack(Table.read([row | {"w": 1 + i % 3} for i, row in enumerate(rows)]), out, media=UPLOADS_ONLY, rows_per_shard=16)
    return out


def stream_fit(source: Any, **arguments: Any) -> Any:
    options: dict[str, Any] = {
        "target": "y",
        "quiet": True,
        "stream": True,
        "ignore": ["who", "w"],
        "overrides": [],
    } | arguments
    return sm.fit(source, **{**options, "overrides": [*OPTIONS, *options["overrides"]]})


def schema_of(table: Table, weight: str | None = None) -> Schema:
    columns: dict[str, Any] = {"x": "number", "word": "category", "y": {"kind": "category", "role": "target"}}
    schema = Schema.declare(columns | ({weight: {"role": "weight", "kind": "number"}} if weight else {}))
    fit_modalities(schema, table, UPLOADS_ONLY)
    return schema


def test_stream_batches_equal_table_batches(words: Path, tmp_path: Path) -> None:
    table = Table.read(words)
    schema = schema_of(table, "w")
    rows = encode(schema, table, media=UPLOADS_ONLY, store=Store(tmp_path))
    flow = PrefetchedBatches(Stream(words), schema, 10, workers=2)
    for i in range(12):  # 9.6 batches are a pass: the tenth goes on with the first rows
        batch = next(flow)
        own = rows.batch(np.arange(10 * i, 10 * i + 10, dtype=np.int64) % len(table))
        assert torch.equal(batch.weight, own.weight)
        for name, field in own.inputs.items():
            assert torch.equal(batch.inputs[name].data, field.data)
            assert torch.equal(batch.inputs[name].present, field.present)
        assert torch.equal(batch.targets["y"].data, own.targets["y"].data)
        assert torch.equal(batch.targets["y"].present, own.targets["y"].present)
    flow.close()


def test_flow_resumes_at_its_position(words: Path) -> None:
    schema = schema_of(Table.read(words))

    def new() -> PrefetchedBatches:
        return PrefetchedBatches(Stream(words, seed=3, buffer=20), schema, 7, workers=2)

    straight, first, second = new(), new(), new()
    expected = [next(straight).inputs["table"].data for _ in range(40)]
    assert not torch.equal(expected[0], expected[14]), "another order in the next pass"
    for i in range(17):
        assert torch.equal(next(first).inputs["table"].data, expected[i])
    state = first.state_dict()
    next(second), next(second)
    second.load_state_dict(state)
    for i in range(17, 40):
        assert torch.equal(next(second).inputs["table"].data, expected[i])
    for flow in (straight, first, second):
        flow.close()


def test_pass_is_a_number_of_batches(words: Path) -> None:
    schema = schema_of(Table.read(words))
    flow = PrefetchedBatches(Stream(words, seed=0), schema, 8)
    epoch = StreamEpoch(flow, 5, epoch=1)
    assert len(list(epoch)) == len(epoch) == 5
    assert epoch.state_dict() == {"epoch": 1, "batch": 5}
    again = StreamEpoch(flow, 5, epoch=1)
    again.load_state_dict({"epoch": 1, "batch": 3})
    assert len(list(again)) == 2
    other = StreamEpoch(flow, 5, epoch=2)
    other.load_state_dict({"epoch": 1, "batch": 3})
    assert len(list(other)) == 5
    flow.close()


def test_stream_training_keeps_no_rows(packed: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.training.shard_source.DECODED_ROWS", 10)
    table = Table.read(scenes / "train.csv")
    model = stream_fit(
        packed,
        target="event",
        ignore=["cost", "tags", "note", "sensor", "when"],
        overrides=["training.epochs=8"],
        cache=tmp_path / "cache",
        out=tmp_path / "run",
    )
    held = model.artifact.report["valid"]["rows"]
    assert 0 < held < len(table) / 2
    assert model.artifact.report["rows"] == len(table) - held
    kept = 0
    for index in (tmp_path / "cache").glob("*/index.sqlite"):
        kept = max(kept, sqlite3.connect(index).execute("SELECT COUNT(*) FROM cells").fetchone()[0])
    assert 0 < kept <= held + 10 < len(table)
    evaluation = model.evaluate(scenes / "test.csv")
    target = evaluation.targets["event"]
    assert target.metrics["accuracy"] > target.baseline["accuracy"] + 0.2
    assert (tmp_path / "run" / "report.html").is_file()
    assert Recipe.from_yaml(tmp_path / "run" / "recipe.yaml").data.stream


def test_resume_within_an_epoch(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = stream_fit(words)
    done: list[int] = []
    real = TrainingModule.training_step

    def step(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        if len(done) in limit:
            raise PowerCutError
        done.append(self.global_step)
        return real(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr("sensorium.training.callbacks.CHECKPOINT_INTERVAL", 0)
        patch.setattr(TrainingModule, "training_step", step)
        for at in (3, 10, 14):
            limit = {at}
            with pytest.raises(PowerCutError):
                stream_fit(words, out=tmp_path / "run", resume=True)
        limit = set()
        again = stream_fit(words, out=tmp_path / "run", resume=True)
    assert done == list(range(len(done))), "every step once"
    assert int(straight.history[-1]["step"]) == len(done)
    one, other = straight.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_stream_validation_rows_are_held_out(words: Path) -> None:
    sizes = tuple(len(shard) for shard in shards(words))
    held = HeldOutRows(0, sizes, {0: 0.5, 2: 0.3})
    stream = Stream(words, seed=0, leave=held)
    seen = sorted((row["who"], row["z"], row["x"]) for row in stream)
    out = [
        (row["who"], row["z"], row["x"])
        for number, shard in enumerate(shards(words))
        for i, row in enumerate(shard.records())
        if held(number, i, row)
    ]
    assert len(seen) == held.training_rows()
    assert 3 <= len(out) <= 24
    assert not set(seen) & set(out)
    assert len(seen) + len(out) == sum(sizes)
    groups = HeldOutRows(1, sizes, None, "who", 0.3)
    kept = {row["who"] for row in Stream(words, seed=0, leave=groups)}
    assert 0 < len(kept) < 24
    assert sum(row["who"] in kept for row in Stream(words)) == sum(1 for _ in Stream(words, leave=groups))


def test_epoch_rows_fixes_epoch_length(words: Path) -> None:
    model = stream_fit(words, overrides=["data.epoch_rows=24", "training.epochs=3"])
    assert [record["step"] for record in model.history] == [3, 6, 9]


def test_stream_with_groups_and_validation_table(words: Path) -> None:
    model = stream_fit(words, group="who", ignore=["w"])
    assert model.artifact.report["valid"]["rows"] % 4 == 0, "groups of four rows are whole"
    result = stream_fit(
        words, valid=[{"x": 1.0, "z": 2, "word": "ash", "y": "a"}, {"x": -1.0, "z": 2, "word": "elm", "y": "b"}]
    )
    assert result.artifact.report["valid"]["rows"] == 2
    assert result.artifact.report["rows"] == 96


def test_stream_problems_are_reported_once(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (scenes / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["photo"]][:40]
    for row in rows:
        row["photo"] = str(scenes / row["photo"])
    spoilt = tmp_path / "spoilt.png"
    spoilt.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nothing")
    rows[20]["photo"] = str(spoilt)
    pack(Table.read(rows), tmp_path / "shards", media=LocalFiles(scenes, anywhere=True), rows_per_shard=10)
    options = [{"photo": row["photo"], "event": row["event"]} for row in rows]
    stream_fit(
        tmp_path / "shards", target="event", ignore=["cost", "tags", "note", "sensor", "when", "sound"], valid=options
    )
    stderr = capsys.readouterr().err
    assert "spoilt.png" in stderr
    assert "column 'photo': 1 cell could not be used" in stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "rows"}, "only shards can be read as a stream"),
        ({"search": 3}, "a search needs a table in memory"),
        ({"overrides": ["data.split.kind=time", "data.split.by=x"]}, "a stream cannot be split by time"),
        ({"stream": False, "overrides": ["data.epoch_rows=10"]}, "epoch_rows applies to streams"),
    ],
)
def test_unsupported_stream_options_are_refused(words: Path, options: dict[str, Any], message: str) -> None:
    source: Any = [{"x": 1, "y": "a"}] if options.pop("source", None) else words
    with pytest.raises((ConfigError, DataError), match=message):
        stream_fit(source, **options)
