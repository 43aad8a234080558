"""Answers that keep every bit in any company: in a table, alone, in a crowd, on the command line."""

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
from sensorium.serve.batch_invariance import UNSTEADY, Found, invented, steadiness
from sensorium.testing import samples

Rows = list[dict[str, Any]]


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"base64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell for name, cell in row.items()
    }


def crowd(client: Any, cells: Rows) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda row: client.post("/predict", json={"row": as_json(row)}).json(), cells))


def batches(client: Any) -> tuple[float, float]:
    """How many passes there were, and rows in them."""
    lines = client.get("/metrics").text.splitlines()
    told = [next(line for line in lines if line.startswith(f"sensorium_batch_rows_{what}")) for what in ("count", "sum")]
    return float(told[0].split()[1]), float(told[1].split()[1])


def test_a_row_is_answered_alike_in_any_company(predictor: Predictor, cells: Rows) -> None:
    whole = predictor.predict(cells, steady=True)
    for size in (1, 7, 16, 64):
        assert predictor.predict(cells, steady=True, batch_size=size) == whole
    assert [predictor.predict([row], steady=True)[0] for row in cells] == whole
    order = np.random.default_rng(0).permutation(len(cells)).tolist()
    assert predictor.predict([cells[i] for i in order], steady=True) == [whole[i] for i in order]
    for one, other in zip(whole, predictor.predict(cells), strict=True):
        chances = other.targets["event"]["probabilities"]
        assert one.targets["event"]["probabilities"] == pytest.approx(chances, abs=1e-5)
    assert predictor.predict([], steady=True) == []


def test_a_crowd_shares_passes_and_is_answered_as_the_table(make_client: Any, predictor: Predictor, cells: Rows) -> None:
    client = make_client(wait=0.05)
    assert client.app.state.served["house"].steady.least is not None
    assert crowd(client, cells) == [one.to_json() for one in predictor.predict(cells, steady=True)]
    passes, rows = batches(client)
    assert rows == len(cells)
    assert passes < rows, "nobody was answered in company"
    assert client.get("/schema").json()["exact"] is True


def test_the_command_line_says_the_same(
    cli: Any, client: Any, run_folder: Path, scenes: Path, cells: Rows, tmp_path: Path
) -> None:
    code, _, said = cli("predict", run_folder, scenes / "test.csv", "--out", tmp_path / "all.jsonl", "--batch-size", 10)
    assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["targets"] for line in lines] == [one["targets"] for one in crowd(client, cells)]


def test_passes_are_not_shared_where_that_is_wanted(make_client: Any, predictor: Predictor, cells: Rows) -> None:
    client = make_client(merge="never")
    assert crowd(client, cells) == [predictor.predict([row])[0].to_json() for row in cells]
    passes, rows = batches(client)
    assert passes <= rows == len(cells)
    client = make_client(merge="always", wait=0.05)
    for one, other in zip(crowd(client, cells), predictor.predict(cells), strict=True):
        chances = other.targets["event"]["probabilities"]
        assert one["targets"]["event"]["probabilities"] == pytest.approx(chances, abs=1e-5)
    assert client.get("/schema").json()["exact"] is False
    with pytest.raises(ConfigError, match="merge is auto or always or never, not 'often'"):
        make_client(merge="often")


def test_a_model_whose_rows_touch_is_found_out(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steadiness(predictor).least is not None
    real = predictor.model.fusion.forward

    def touching(parts: Any) -> Any:
        fused = real(parts)
        return type(fused)(fused.tokens, fused.mask, fused.pooled + 1e-6 * fused.pooled.mean(dim=0), fused.present)

    monkeypatch.setattr(predictor.model.fusion, "forward", touching)
    assert steadiness(predictor) == UNSTEADY


def test_rows_are_divided_into_the_cheapest_passes() -> None:
    found = Found(4, {32: 11.0, 16: 8.0, 8: 6.0, 4: 5.0})
    assert [found.passes(n) for n in (0, 1, 4, 5, 9, 17, 33)] == [[], [4], [4], [8], [16], [32], [32, 4]]
    heavy = Found(4, {size: float(size) for size in (32, 16, 8, 4)})
    assert sum(heavy.passes(17)) == 20
    for n in range(100):
        assert sum(heavy.passes(n)) >= n


@pytest.mark.parametrize("kind", [kind for kind in kinds("modalities") if kind not in ("missing",)])
def test_rows_are_invented_for_every_kind(kind: str) -> None:
    """They pass through the modality as real ones do."""
    schema = Schema.declare({"x": kind})
    reader = schema.columns["x"].reader
    reader.fit(samples.cells(kind))
    rows = invented(schema, 20, np.random.default_rng(0))
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
