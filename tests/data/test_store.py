"""The cache: cells are decoded once, entries are never stale or lost, and bytes round-trip."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.core.errors import CellError, SensoriumError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.data.store.store import ArrayCache, Places, Store


class Counted(Modality):
    """A kind of cell that counts how often it is decoded: its bytes as they are, or the first four of them."""

    media = True

    def __init__(self, *, ragged: bool = True, option: int = 1) -> None:
        super().__init__()
        self.ragged = ragged  # type: ignore[misc]
        self.option, self.calls = option, 0
        self.state = {"learnt": 1}

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "never")

    def fit(self, cells: Any) -> None: ...

    @property
    def layout(self) -> Layout:
        return Grid(1, (4,))

    def encode(self, cell: Blob) -> Array:
        self.calls += 1
        if cell.data.startswith(b"bad"):
            raise CellError("is bad", file=cell.name)
        array = np.frombuffer(cell.data, np.uint8).astype(np.int16)
        return array[:, None] if self.ragged else np.resize(array, 4)

    def blank(self) -> Array:
        return np.zeros((0, 1) if self.ragged else 4, np.int16)

    @property
    def store_options(self) -> dict[str, Any]:
        return {"option": self.option, "ragged": self.ragged, "state": self.state}


def fill(cache: ArrayCache, cells: Sequence[bytes | None], workers: int = 2) -> tuple[Places, list[tuple[int, str]]]:
    problems: list[tuple[int, str]] = []

    def opened() -> Iterator[Any]:
        for i, cell in enumerate(cells):
            if cell is not None:
                yield i, lambda cell=cell, i=i: Blob(cell, f"file {i}")

    places = cache.fill(
        len(cells),
        opened(),
        workers=workers,
        progress=lambda n: None,
        problem=lambda row, e: problems.append((row, e.problem)),
    )
    return places, problems


def content(cache: ArrayCache, places: Places) -> list[bytes | None]:
    """Every row's bytes, one at a time."""
    results: list[bytes | None] = []
    for i in range(len(places.offset)):
        data, present, mask = cache.gather(places, np.array([i]))
        kept = data[0] if mask is None else data[0][mask[0]]
        results.append(kept.astype(np.uint8).tobytes() if present[0] else None)
    return results


CELLS = [bytes([i % 251, i // 251, *range(i % 7)]) for i in range(200)]


def test_arrays_round_trip(tmp_path: Path) -> None:
    for ragged in (True, False):
        cache = Store(tmp_path).cache(Counted(ragged=ragged), "counted")
        places, problems = fill(cache, CELLS)
        want = CELLS if ragged else [np.resize(np.frombuffer(c, np.uint8), 4).tobytes() for c in CELLS]
        assert content(cache, places) == want
        assert problems == []


def test_second_run_decodes_nothing(tmp_path: Path) -> None:
    first = Counted()
    fill(Store(tmp_path).cache(first, "counted"), CELLS)
    assert first.calls == len(CELLS)
    again = Counted()
    cache = Store(tmp_path).cache(again, "counted")
    places, _ = fill(cache, CELLS[::-1])
    assert again.calls == 0
    assert content(cache, places) == CELLS[::-1]


def test_changed_byte_is_another_cell(tmp_path: Path) -> None:
    fill(Store(tmp_path).cache(Counted(), "counted"), CELLS)
    again = Counted()
    changed = [CELLS[0][:-1] + bytes([CELLS[0][-1] ^ 1]), *CELLS[1:]]
    cache = Store(tmp_path).cache(again, "counted")
    places, _ = fill(cache, changed)
    assert again.calls == 1
    assert content(cache, places) == changed


@pytest.mark.parametrize("change", ["option", "state", "kind"])
def test_changed_setting_decodes_again(tmp_path: Path, change: str) -> None:
    fill(Store(tmp_path).cache(Counted(), "counted"), CELLS[:5])
    other = Counted(option=2 if change == "option" else 1)
    if change == "state":
        other.state = {"learnt": 2}
    fill(Store(tmp_path).cache(other, "other" if change == "kind" else "counted"), CELLS[:5])
    assert other.calls == 5


def test_equal_content_is_stored_once(tmp_path: Path) -> None:
    cache = Store(tmp_path).cache(Counted(), "counted")
    places, _ = fill(cache, [b"same one"] * 300)
    assert len(set(places.offset.tolist())) == 1
    assert (cache.folder / "values.bin").stat().st_size == 2 * len(b"same one")
    assert content(cache, places)[250] == b"same one"


def test_unusable_cells_are_cached(tmp_path: Path) -> None:
    cells = [b"good", b"bad 1", None, b"bad 1", b"bad 2"]
    for calls in (4, 0):
        modality = Counted()
        cache = Store(tmp_path).cache(modality, "counted")
        places, problems = fill(cache, cells, workers=1)
        assert problems == [(1, "is bad"), (3, "is bad"), (4, "is bad")]
        assert content(cache, places) == [b"good", None, None, None, None]
        assert modality.calls == calls


def test_unindexed_bytes_are_overwritten(tmp_path: Path) -> None:
    """A writer killed between the values and their index leaves bytes that nothing points to."""
    cache = Store(tmp_path).cache(Counted(), "counted")
    fill(cache, CELLS[:50])
    with (cache.folder / "values.bin").open("ab") as file:
        file.write(b"\xff" * 33)
    after = Counted()
    cache = Store(tmp_path).cache(after, "counted")
    places, _ = fill(cache, CELLS)
    assert after.calls == len(CELLS) - 50
    assert content(cache, places) == CELLS


@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("left", [0, 7, 100])
def test_truncated_arrays_are_encoded_again(tmp_path: Path, ragged: bool, left: int) -> None:
    cache = Store(tmp_path).cache(Counted(ragged=ragged), "counted")
    want = content(cache, fill(cache, CELLS)[0])
    with (cache.folder / "values.bin").open("r+b") as file:
        file.truncate(left)
    after = Counted(ragged=ragged)
    cache = Store(tmp_path).cache(after, "counted")
    assert content(cache, fill(cache, CELLS)[0]) == want
    assert 0 < after.calls <= len(CELLS)


def test_broken_index_error_names_the_folder_to_delete(tmp_path: Path) -> None:
    cache = Store(tmp_path).cache(Counted(), "counted")
    fill(cache, CELLS)
    folder = cache.folder
    del cache
    for path in folder.glob("index.sqlite*"):
        path.write_bytes(b"no data base at all " * 500)
    with pytest.raises(SensoriumError, match="damaged") as caught:
        fill(Store(tmp_path).cache(Counted(), "counted"), CELLS)
    assert str(folder) in str(caught.value)
    assert "delete" in str(caught.value)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(SensoriumError, match="the cache cannot be written") as caught:
        Store(tmp_path / "file" / "cache").cache(Counted(), "counted")
    assert "--cache" in str(caught.value)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Store(tmp_path).cache(Counted(), "counted")
    fill(cache, CELLS[:10])

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sensorium.data.store.store.os.fsync", full)
        with pytest.raises(SensoriumError, match="No space left on device"):
            fill(cache, CELLS)
    assert content(cache, fill(cache, CELLS)[0]) == CELLS


def test_interrupt_loses_nothing_decoded(tmp_path: Path) -> None:
    class Stopped(Counted):
        def encode(self, cell: Blob) -> Array:
            time.sleep(0.002)
            return super().encode(cell)

    modality = Stopped()
    cache = Store(tmp_path).cache(modality, "counted")
    cells = [(i, lambda i=i: Blob(CELLS[i], "x")) for i in range(200)]
    seen = 0

    def progress(count: int) -> None:
        nonlocal seen
        seen += count
        if seen == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(200, iter(cells), workers=2, progress=progress, problem=lambda row, error: None)
    decoded = modality.calls
    assert 40 <= decoded < 200
    again = Counted()
    fill(Store(tmp_path).cache(again, "counted"), CELLS)
    assert again.calls == 200 - decoded


def test_programming_errors_propagate(tmp_path: Path) -> None:
    class Wrong(Counted):
        def encode(self, cell: Blob) -> Array:
            return np.zeros(3, np.float64)

    with pytest.raises(TypeError, match=r"encode gave float64\(3,\); its blank\(\) is int16"):
        fill(Store(tmp_path).cache(Wrong(), "counted"), CELLS[:3])


WRITER = """
import sys
sys.path.insert(0, {here!r})
import importlib.util
spec = importlib.util.spec_from_file_location("store_test", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from pathlib import Path
from sensorium.data.store.store import Store
start = int(sys.argv[2])
cells = [b"cell number %d " % i * (i % 5 + 1) for i in range(start, start + 400)]
for part in range(0, 400, 20):
    shelf = Store(Path(sys.argv[1])).cache(module.Counted(), "counted")
    places, _ = module.fill(shelf, cells[part : part + 20])
    assert module.content(shelf, places) == cells[part : part + 20]
print("done", flush=True)
"""


def writer(folder: Path, start: int) -> subprocess.Popen[str]:
    program = WRITER.format(here=str(Path(__file__).parent), file=__file__)
    words = [sys.executable, "-c", program, str(folder), str(start)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    both = [writer(tmp_path, 0), writer(tmp_path, 200)]
    for process in both:
        out, error = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "done\n"), error
    modality = Counted()
    cache = Store(tmp_path).cache(modality, "counted")
    cells = [b"cell number %d " % i * (i % 5 + 1) for i in range(600)]
    assert content(cache, fill(cache, cells)[0]) == cells
    assert modality.calls == 0
    assert (cache.folder / "values.bin").stat().st_size == 2 * sum(map(len, cells)), "each cell once"


MAKER = """
import sys, time
from pathlib import Path
import numpy as np
from sensorium.data.store.store import ArrayCache
class Empty:
    ragged, store_options = True, {}
    def blank(self): return np.zeros(0, np.int16)
began = float(sys.argv[2])
for i in range(100):
    while time.time() < began + i / 100: pass
    ArrayCache(Path(sys.argv[1]) / str(i), Empty())
"""


def test_many_processes_create_one_cache(tmp_path: Path) -> None:
    began = str(time.time() + 2)
    words = [sys.executable, "-c", MAKER, str(tmp_path), began]
    makers = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for maker in makers:
        _, stderr = maker.communicate(timeout=60)
        assert maker.returncode == 0, stderr


def test_killed_writer_leaves_a_valid_cache(tmp_path: Path) -> None:
    process = writer(tmp_path, 0)
    deadline = time.monotonic() + 30
    values = lambda: [p for p in tmp_path.glob("*/values.bin") if p.stat().st_size > 10_000]  # noqa: E731
    while not values() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    modality = Counted()
    cache = Store(tmp_path).cache(modality, "counted")
    cells = [b"cell number %d " % i * (i % 5 + 1) for i in range(400)]
    assert content(cache, fill(cache, cells)[0]) == cells
    assert modality.calls < 400


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(st.none() | st.binary(min_size=1, max_size=9), min_size=1, max_size=30),
    index=st.lists(st.integers(0, 10**6), max_size=12),
    ragged=st.booleans(),
)
def test_gathering_equals_encoding(tmp_path: Path, cells: list[bytes | None], index: list[int], ragged: bool) -> None:
    modality = Counted(ragged=ragged)
    cache = Store(tmp_path).cache(modality, "counted")
    places, problems = fill(cache, cells, workers=1)
    rows = np.array([i % len(cells) for i in index], np.int64)
    data, present, mask = cache.gather(places, rows)
    bad = {row for row, _ in problems}
    want = [None if cells[i] is None or i in bad else modality.encode(Blob(cells[i] or b"", "")) for i in rows.tolist()]
    field = modality.collate(want)
    np.testing.assert_array_equal(present, field.present.numpy())
    np.testing.assert_array_equal(data, field.data.numpy())
    if ragged:
        assert mask is not None
        assert field.mask is not None
        np.testing.assert_array_equal(mask, field.mask.numpy())
    else:
        assert mask is None


def test_large_files_are_read_correctly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.data.store.array_file.MAPPED_BYTES", 64)  # a larger file is read, not mapped
    for ragged in (True, False):
        cache = Store(tmp_path).cache(Counted(ragged=ragged), "counted")
        places, _ = fill(cache, CELLS)
        once = content(cache, places)
        assert content(cache, places) == once
        data, _, _ = cache.gather(places, np.arange(200))
        assert data.any()


def test_large_cache_reads_what_a_small_one_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ragged in (True, False):
        cache = Store(tmp_path).cache(Counted(ragged=ragged), "counted")
        places, _ = fill(cache, CELLS)
        rng = np.random.default_rng(0)
        for index in (
            np.arange(len(CELLS)),
            rng.permutation(len(CELLS)),
            rng.integers(0, len(CELLS), 7),
            np.zeros(0, np.int64),
        ):
            mapped = Store(tmp_path).cache(Counted(ragged=ragged), "counted").gather(places, index)
            with monkeypatch.context() as patch:
                patch.setattr("sensorium.data.store.array_file.MAPPED_BYTES", 0)
                read = Store(tmp_path).cache(Counted(ragged=ragged), "counted").gather(places, index)
            for one, other in zip(mapped, read, strict=True):
                np.testing.assert_array_equal(one, other)


def test_truncated_large_cache_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.data.store.array_file.MAPPED_BYTES", 0)
    cache = Store(tmp_path).cache(Counted(ragged=True), "counted")
    places, _ = fill(cache, CELLS)
    values = cache.folder / "values.bin"
    values.write_bytes(values.read_bytes()[:1])
    with pytest.raises(SensoriumError, match="shorter"):
        cache.gather(places, np.arange(len(CELLS)))
