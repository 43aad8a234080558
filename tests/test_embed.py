"""Vectors of rows: the same for a row whatever stands beside it, for any set of streams, in every format of file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.data.tables.table import Table


@pytest.fixture(scope="module")
def model(run_folder: Path) -> Any:
    return sm.load(run_folder)


def test_a_row_has_the_same_vector_alone(model: Any, scenes: Path) -> None:
    rows = Table.read(scenes / "test.csv")
    for stream in (None, *model.model.streams):
        whole = model.embed(scenes / "test.csv", stream=stream, batch_size=7)
        assert whole.shape == (len(rows), whole.shape[1])
        assert torch.isfinite(whole).all()
        for i in (0, 8, len(rows) - 1):
            assert torch.equal(model.embed([rows.row(i)], stream=stream, media=scenes)[0], whole[i])


def test_any_stream_may_be_missing(model: Any, scenes: Path) -> None:
    row = next(row for row in Table.read(scenes / "test.csv").rows() if all(row[c] for c in ("photo", "note", "sound")))
    full = model.embed([row], media=scenes)[0]
    for column, stream in (("photo", "photo"), ("note", "note"), ("sound", "sound")):
        without = {name: cell for name, cell in row.items() if name != column}
        assert not torch.equal(model.embed([without], media=scenes)[0], full)
        assert not model.embed([without], stream=stream, media=scenes).any()
        assert model.embed([row], stream=stream, media=scenes).any()
        (one,) = model.predictor.embeddings([without])
        assert stream in one.missing
    assert torch.isfinite(model.embed([{}])).all()
    assert model.embed([]).shape == (0, full.shape[0])


def test_it_is_what_the_task_reads(model: Any, scenes: Path) -> None:
    """The fused vector of the plain forward pass, by hand."""
    rows = Table.read(scenes / "test.csv")
    encoded = model.encode(rows)
    batch = next(model.batches(encoded, batch_size=len(rows)))
    with torch.inference_mode():
        by_hand = model.model.forward(batch)
        fused = model.model.fusion(model.model.encode(batch)).pooled
    assert set(by_hand) == {"event"}
    torch.testing.assert_close(model.embed(scenes / "test.csv"), fused, atol=1e-5, rtol=1e-4)


def test_frames_and_files_too(model: Any, scenes: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(scenes / "test.csv", dtype=str).drop(columns=["photo", "sound", "sensor"])
    want = model.embed(frame)
    assert torch.equal(model.predictor.embed(frame, batch_invariant=True), want)
    assert torch.equal(model.predictor.embed(iter(Table.read(frame).rows()), batch_invariant=True), want)


def test_what_cannot_be_is_said(model: Any, quick_fit: Any) -> None:
    with pytest.raises(ConfigError, match="no stream named 'foto'; did you mean photo"):
        model.embed([{}], stream="foto")
    alone = quick_fit(
        ignore=["cost", "tags", "photo", "sound", "sensor"], quality="fast", overrides=["model.experts=[linear]"]
    )
    with pytest.raises(ConfigError, match="has no network") as caught:
        alone.embed([{}])
    assert "--quality good" in str(caught.value)


def read(path: Path) -> tuple[np.ndarray[Any, Any], list[str]]:
    """The vectors of a file, and what is kept beside them."""
    if path.suffix == ".npy":
        return np.load(path), []
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name.startswith("vector_")]
        return np.array([[float(row[name]) for name in names] for row in rows], np.float32), [row["when"] for row in rows]
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return np.array([line["vector"] for line in lines], np.float32), [line["keep"]["when"] for line in lines]
    from pyarrow import parquet

    result = parquet.read_table(path).to_pydict()
    return np.array(result["vector"], np.float32), result["when"]


@pytest.mark.parametrize("ending", ["npy", "csv", "jsonl", "parquet"])
def test_files(cli: Any, model: Any, run_folder: Path, scenes: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / "new" / f"v.{ending}"
    keep = [] if ending == "npy" else ["--keep", "when"]
    for stream in (None, "photo"):
        words = ["embed", run_folder, scenes / "test.csv", "--out", out, *keep, "--batch-size", 5, "--overwrite"]
        code, _, stderr = cli(*words, *([] if stream is None else ["--stream", stream]))
        assert code == 0, stderr
        vectors, when = read(out)
        assert np.array_equal(vectors, model.embed(scenes / "test.csv", stream=stream).numpy()), "to the last bit"
        assert not when or when == Table.read(scenes / "test.csv").column("when")
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    code, _, stderr = cli("embed", run_folder, scenes / "test.csv", "--out", out, *keep)
    assert (code, "--overwrite" in stderr) == ((2, True) if ending == "npy" else (0, False)), stderr


def test_on_standard_output_and_refusals(cli: Any, run_folder: Path, scenes: Path, tmp_path: Path) -> None:
    code, out, _ = cli("embed", run_folder, scenes / "test.csv", "--stream", "note", "-q")
    assert code == 0
    lines = list(csv.DictReader(out.splitlines()))
    assert [line["row"] for line in lines] == [str(i + 1) for i in range(len(lines))]
    lacking = [line for line in lines if "note" in line["missing"].split()]
    assert lacking
    assert all(float(cell) == 0 for line in lacking for name, cell in line.items() if name.startswith("vector_"))
    for words, fix in ((["--out", tmp_path / "v.txt"], ".npy"), (["--out", tmp_path / "v.npy", "--keep", "when"], ".csv")):
        code, _, stderr = cli("embed", run_folder, scenes / "test.csv", *words)
        assert code == 2
        assert fix in stderr
    _, stderr, _ = cli("embed", "--help")
    assert "Example: sensorium embed" in stderr
