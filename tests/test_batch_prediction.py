"""Predictions for shards: the same as for the table, a part a shard, in any number of processes, and never made twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sensorium import batch_prediction
from sensorium.batch_prediction import predict_shards
from sensorium.core.errors import ConfigError
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.shards.pack import pack
from sensorium.data.tables.table import Table


@pytest.fixture(scope="module")
def packed(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    pack(Table.read(scenes / "test.csv"), out, media=LocalFiles(scenes), rows_per_shard=7)
    return out


def lines(folder: Path) -> list[dict[str, str]]:
    results = []
    for part in sorted(folder.glob("*.csv")):
        with part.open(encoding="utf-8", newline="") as file:
            results += list(csv.DictReader(file))
    return results


def same(one: list[dict[str, str]], other: list[dict[str, str]]) -> None:
    assert one == other  # a row's neighbours in a batch do not count


def test_parts_together_are_the_predictions_of_the_table(
    packed: Path, run_folder: Path, scenes: Path, tmp_path: Path, cli: Any
) -> None:
    assert cli("predict", run_folder, scenes / "test.csv", "--out", tmp_path / "whole.csv", "-q")[0] == 0
    code, _, stderr = cli("predict", run_folder, packed, "--out", tmp_path / "parts", "--processes", 2)
    assert code == 0, stderr
    with (tmp_path / "whole.csv").open(encoding="utf-8", newline="") as file:
        same(lines(tmp_path / "parts"), list(csv.DictReader(file)))
    assert not list((tmp_path / "parts").glob(".*part"))


def test_a_finished_part_is_not_made_again(
    packed: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    whole = batch_prediction._Worker.predict

    def stop(self: Any, i: int) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(i)
        return whole(self, i)

    monkeypatch.setattr(batch_prediction._Worker, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        predict_shards(run_folder, packed, tmp_path)
    monkeypatch.setattr(batch_prediction._Worker, "predict", lambda self, i: made.append(i) or whole(self, i))
    predict_shards(run_folder, packed, tmp_path)
    count = len(list(packed.glob("*.parquet")))
    assert sorted(made) == list(range(count))
    predict_shards(run_folder, packed, tmp_path)
    assert len(made) == count


def test_ranks_share_the_shards(packed: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        predict_shards(run_folder, packed, tmp_path / "ranks", format="jsonl")
    whole = {path.stem for path in packed.glob("*.parquet")}
    assert {path.stem for path in (tmp_path / "ranks").glob("*.jsonl")} == whole


def test_parts_of_another_model_or_other_rows_are_refused(
    packed: Path, run_folder: Path, tmp_path: Path, scenes: Path
) -> None:
    predict_shards(run_folder, packed, tmp_path / "out")
    pack(Table.read(scenes / "valid.csv"), tmp_path / "other", media=LocalFiles(scenes))
    with pytest.raises(ConfigError, match="another model, or for other rows"):
        predict_shards(run_folder, tmp_path / "other", tmp_path / "out")
    with pytest.raises(ConfigError, match="csv or jsonl"):
        predict_shards(run_folder, packed, tmp_path / "x", format="xml")


def test_a_plain_table_is_not_divided(run_folder: Path, scenes: Path, tmp_path: Path, cli: Any) -> None:
    code, _, stderr = cli("predict", run_folder, scenes / "test.csv", "--out", tmp_path / "a.csv", "--processes", 2)
    assert code == 2
    assert "sensorium pack" in stderr


def test_the_command_line_packs_and_checks(scenes: Path, tmp_path: Path, cli: Any) -> None:
    code, _, stderr = cli("pack", scenes / "test.csv", tmp_path / "packed", "--format", "tar", "--rows-per-shard", 10)
    assert code == 0, stderr
    assert "shards" in stderr
    assert cli("pack", tmp_path / "packed", "--check")[0] == 0
    shard = sorted((tmp_path / "packed").glob("*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    code, _, stderr = cli("pack", tmp_path / "packed", "--check")
    assert code == 2
    assert "damaged" in stderr
    assert cli("pack", scenes / "test.csv")[0] == 2
    assert cli("pack", scenes / "test.csv", tmp_path / "x", "--format", "zip")[0] == 2


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_rows_are_known_by_number_and_by_what_is_kept(
    packed: Path, run_folder: Path, scenes: Path, tmp_path: Path, cli: Any, ending: str
) -> None:
    rows = list(Table.read(scenes / "test.csv").rows())
    keep = [name for name in ("id", "photo", "note") if name in rows[0]]
    requested = [part for name in keep for part in ("--keep", name)]
    whole = tmp_path / f"whole.{ending}"
    assert cli("predict", run_folder, scenes / "test.csv", "--out", whole, "-q", *requested)[0] == 0
    if ending == "csv":
        with whole.open(encoding="utf-8", newline="") as file:
            result = list(csv.DictReader(file))
        assert list(result[0])[: 1 + len(keep)] == ["row", *keep]
        code, _, stderr = cli("predict", run_folder, packed, "--out", tmp_path / "parts", *requested)
        assert code == 0, stderr
        same(lines(tmp_path / "parts"), result)
        kept = [{name: row[name] for name in keep} for row in result]
    else:
        result = [json.loads(line) for line in whole.read_text(encoding="utf-8").splitlines()]
        kept = [row["keep"] for row in result]
    assert [int(row["row"]) for row in result] == list(range(1, len(rows) + 1))
    assert kept == [{name: row[name] for name in keep} for row in rows]
    code, _, stderr = cli("predict", run_folder, scenes / "test.csv", "--keep", "idd")
    assert code != 0
    assert "no column named 'idd'" in stderr


@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_a_misnamed_column_is_named(form: Any, run_folder: Path, scenes: Path, tmp_path: Path, cli: Any) -> None:
    rows = Table.read(scenes / "test.csv")
    named = {("Note " if name == "note" else name): rows.column(name) for name in rows.columns if name != "sensor"}
    pack(Table.read(named), tmp_path / "packed", media=LocalFiles(scenes), format=form)
    code, _, stderr = cli("predict", run_folder, tmp_path / "packed", "--out", tmp_path / "parts")
    assert code == 0, stderr
    assert "no column note, sensor" in stderr
    assert "'Note ' may be 'note': rename it" in stderr
    with pytest.warns(UserWarning, match="'Note ' may be 'note'"):
        predict_shards(run_folder, tmp_path / "packed", tmp_path / "others")
    code, _, stderr = cli("predict", run_folder, tmp_path / "packed", "--out", tmp_path / "third", "--keep", "whn")
    assert code == 2
    assert "no column named 'whn'; did you mean when" in stderr
    assert not (tmp_path / "third").exists()


def test_parts_of_another_model_are_replaced_only_told_to(
    packed: Path, run_folder: Path, scenes: Path, tmp_path: Path, cli: Any
) -> None:
    words = ["predict", run_folder, packed, "--out", tmp_path / "new" / "parts"]
    assert cli(*words)[0] == 0
    (tmp_path / "new" / "parts" / "mine.csv").write_text("a,b\n")
    code, _, stderr = cli(*words, "--keep", "when")
    assert code == 2
    assert "--overwrite" in stderr
    before = {path.name for path in (tmp_path / "new" / "parts").iterdir()}
    code, _, stderr = cli(*words, "--keep", "when", "--overwrite")
    assert code == 2, "what is not ours is never replaced"
    assert {path.name for path in (tmp_path / "new" / "parts").iterdir()} == before
    (tmp_path / "new" / "parts" / "mine.csv").unlink()
    code, _, stderr = cli(*words, "--keep", "when", "--overwrite")
    assert code == 0, stderr
    parts = sorted((tmp_path / "new" / "parts").glob("shard-*.csv"))
    assert parts
    assert all(part.read_text().startswith("row,when,") for part in parts)
