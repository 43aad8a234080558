"""The approximate index: nearly the rows of exact search, the same after changes, and nothing unchecked from disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("faiss", reason="an approximate index needs sensorium[search]")

from sensorium.core.errors import ArtifactError
from sensorium.retrieval import coarse_cells, index_files, nearest
from sensorium.retrieval.index_files import CELLS, CENTRES, MANIFEST, Contents, read_index, write_index
from sensorium.retrieval.nearest import nearest_rows

ROWS, WIDTH, TOP = 3_000, 16, 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Approximate search begins at few rows, and visits few cells."""
    for module in (coarse_cells, index_files, nearest):
        monkeypatch.setattr(module, "LEAST", 500)
    monkeypatch.setattr(coarse_cells, "PROBED", 12)


def contents(rows: int = ROWS, **more: Any) -> Contents:
    """Rows about a few hundred centres, as embeddings lie; some lack a side."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(200, WIDTH))
    vectors = centres[draw.integers(0, 200, rows)] + 0.5 * draw.normal(size=(2, rows, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    present = draw.random((2, rows)) < 0.9
    vectors *= present[:, :, None]
    ids = [str(i) for i in range(rows)]
    return Contents("m", "", "t", ("a", "b"), ids, {}, 1, present, vectors.astype(np.float32), approximate=True, **more)


def queries(made: Contents, sides: tuple[bool, bool] = (True, False)) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rows = np.flatnonzero(made.present.all(axis=0))[:40]
    return made.vectors[:, rows], np.repeat(np.array(sides)[:, None], len(rows), axis=1)


@pytest.mark.parametrize("sides", [(True, False), (True, True)])
def test_recall_against_exact_search(tmp_path: Path, sides: tuple[bool, bool]) -> None:
    write_index(tmp_path / "idx", contents())
    stored = read_index(tmp_path / "idx")
    assert stored.coarse is not None
    asked = queries(stored, sides)
    exact, near = (nearest_rows(stored, *asked, top=TOP, exact=exact) for exact in (True, False))
    shared = [len(set(a) & set(b)) / TOP for a, b in zip(exact.places.tolist(), near.places.tolist(), strict=True)]
    assert np.mean(shared) > 0.9
    assert (np.diff(near.scores, axis=1) <= 0).all()
    for q in range(5):  # scores are exact: candidates are compared again
        for place, score in zip(near.places[q].tolist(), near.scores[q].tolist(), strict=True):
            if place in exact.places[q]:
                assert score == pytest.approx(float(exact.scores[q][exact.places[q] == place][0]), abs=1e-6)


def test_filters_hold(tmp_path: Path) -> None:
    write_index(tmp_path / "idx", contents())
    stored = read_index(tmp_path / "idx")
    many, few = np.arange(ROWS) % 2 == 0, np.arange(ROWS) % 100 == 0
    places = nearest_rows(stored, *queries(stored), allowed=many, top=TOP, exact=False).places
    assert (places[places >= 0] % 2 == 0).all()
    exact, near = (nearest_rows(stored, *queries(stored), allowed=few, top=TOP, exact=exact) for exact in (True, False))
    assert np.array_equal(exact.places, near.places), "few rows are compared exactly"


def test_few_rows_have_no_cells(tmp_path: Path) -> None:
    write_index(tmp_path / "idx", contents(100))
    stored = read_index(tmp_path / "idx")
    assert (stored.approximate, stored.coarse) == (True, None)
    exact, near = (nearest_rows(stored, *queries(stored), exact=exact) for exact in (True, False))
    assert np.array_equal(exact.places, near.places)


def test_cells_from_disk_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "idx"
    write_index(folder, contents())

    def forge(name: str, data: bytes) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (folder / name).write_bytes(data)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    good = (folder / CELLS).read_bytes()
    (folder / CELLS).write_bytes(good[:-4] + b"\1\0\0\0")
    with pytest.raises(ArtifactError, match="SHA-256"):
        read_index(folder)
    forge(CELLS, good[:-4] + np.int32(10**6).tobytes())
    with pytest.raises(ArtifactError, match="a cell that does not exist"):
        read_index(folder)
    forge(CELLS, good)
    forge(CENTRES, b"\0" * 12)
    with pytest.raises(ArtifactError, match="does not hold together"):
        read_index(folder)
