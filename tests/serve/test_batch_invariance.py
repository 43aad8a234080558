"""Predictions are bit-identical in a table, alone, in concurrent requests and on the command line."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.registry import kinds
from sensorium.core.schema import Schema
from sensorium.predictor import Predictor
from sensorium.serve.batch_invariance import NOT_INVARIANT, BatchInvariance, measure_batch_invariance, random_samples
from sensorium.testing import samples

Rows = list[dict[str, Any]]


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"base64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell for name, cell in row.items()
    }


def ask_concurrently(client: Any, cells: Rows) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda row: client.post("/predict", json={"row": as_json(row)}).json(), cells))


def batches(client: Any) -> tuple[float, float]:
    """Return the number of batches and of their rows."""
    lines = client.get("/metrics").text.splitlines()
    counts = [next(line for line in lines if line.startswith(f"sensorium_batch_rows_{what}")) for what in ("count", "sum")]
    return float(counts[0].split()[1]), float(counts[1].split()[1])


def test_prediction_does_not_depend_on_the_batch(predictor: Predictor, cells: Rows) -> None:
    whole = predictor.predict(cells, batch_invariant=True)
    for size in (1, 7, 16, 64):
        assert predictor.predict(cells, batch_invariant=True, batch_size=size) == whole
    assert [predictor.predict([row], batch_invariant=True)[0] for row in cells] == whole
    order = np.random.default_rng(0).permutation(len(cells)).tolist()
    assert predictor.predict([cells[i] for i in order], batch_invariant=True) == [whole[i] for i in order]
    for one, other in zip(whole, predictor.predict(cells), strict=True):
        chances = other.targets["event"]["probabilities"]
        assert one.targets["event"]["probabilities"] == pytest.approx(chances, abs=1e-5)
    assert predictor.predict([], batch_invariant=True) == []


def test_concurrent_requests_share_batches_bit_identically(make_client: Any, predictor: Predictor, cells: Rows) -> None:
    client = make_client(wait=0.05)
    assert client.app.state.services["house"].invariance.least is not None
    assert ask_concurrently(client, cells) == [one.to_json() for one in predictor.predict(cells, batch_invariant=True)]
    passes, rows = batches(client)
    assert rows == len(cells)
    assert passes < rows, "no requests shared a batch"
    assert client.get("/schema").json()["exact"] is True


def test_command_line_predicts_the_same(
    cli: Any, client: Any, run_folder: Path, scenes: Path, cells: Rows, tmp_path: Path
) -> None:
    code, _, stderr = cli("predict", run_folder, scenes / "test.csv", "--out", tmp_path / "all.jsonl", "--batch-size", 10)
    assert code == 0, stderr
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["targets"] for line in lines] == [one["targets"] for one in ask_concurrently(client, cells)]


def test_merge_never_and_always(make_client: Any, predictor: Predictor, cells: Rows) -> None:
    client = make_client(merge="never")
    assert ask_concurrently(client, cells) == [predictor.predict([row])[0].to_json() for row in cells]
    passes, rows = batches(client)
    assert passes <= rows == len(cells)
    client = make_client(merge="always", wait=0.05)
    for one, other in zip(ask_concurrently(client, cells), predictor.predict(cells), strict=True):
        chances = other.targets["event"]["probabilities"]
        assert one["targets"]["event"]["probabilities"] == pytest.approx(chances, abs=1e-5)
    assert client.get("/schema").json()["exact"] is False
    with pytest.raises(ConfigError, match="merge must be auto, always or never, not 'often'"):
        make_client(merge="often")


def test_batch_dependent_model_is_detected(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_batch_invariance(predictor).least is not None
    real = predictor.model.fusion.forward

    def touching(parts: Any) -> Any:
        fused = real(parts)
        return type(fused)(fused.tokens, fused.mask, fused.pooled + 1e-6 * fused.pooled.mean(dim=0), fused.present)

    monkeypatch.setattr(predictor.model.fusion, "forward", touching)
    assert measure_batch_invariance(predictor) == NOT_INVARIANT


def test_rows_are_split_into_the_cheapest_batches() -> None:
    results = BatchInvariance(4, {32: 11.0, 16: 8.0, 8: 6.0, 4: 5.0})
    assert [results.passes(n) for n in (0, 1, 4, 5, 9, 17, 33)] == [[], [4], [4], [8], [16], [32], [32, 4]]
    heavy = BatchInvariance(4, {size: float(size) for size in (32, 16, 8, 4)})
    assert sum(heavy.passes(17)) == 20
    for n in range(100):
        assert sum(heavy.passes(n)) >= n


@pytest.mark.parametrize("kind", [kind for kind in kinds("modalities") if kind not in ("missing",)])
def test_random_samples_of_every_kind(kind: str) -> None:
    """They have the format of real samples."""
    schema = Schema.declare({"x": kind})
    reader = schema.columns["x"].reader
    reader.fit(samples.cells(kind))
    rows = random_samples(schema, 20, np.random.default_rng(0))
    real = reader.encode(samples.cells(kind)[0])
    for row in rows:
        if row["x"] is not None:
            assert row["x"].dtype == real.dtype
            assert row["x"].shape[reader.ragged :] == real.shape[reader.ragged :]
    prepared = schema.prepare(schema.collate(rows, whole=True))
    (field,) = prepared.inputs.values()
    assert field.data.shape[0] == 20
    assert bool(torch.isfinite(field.data.float()).all())
    if reader.ragged:
        (stored,) = schema.collate(rows, whole=True).inputs.values()
        assert stored.data.shape[1] == reader.longest
        assert len(real) <= reader.longest
