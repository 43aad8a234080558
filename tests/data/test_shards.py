"""Shards: packing round-trips in either format, nothing leads out of a shard, and references stay small."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.core.modality import Blob, is_blank
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import encode
from sensorium.data.files.media_access import UPLOADS_ONLY, LocalFiles
from sensorium.data.shards.pack import pack
from sensorium.data.shards.references import Packed
from sensorium.data.shards.row_stream import Stream
from sensorium.data.shards.shard_folder import MANIFEST, is_sharded, shards
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table
from sensorium.training.column_declaration import declare

FORMATS = ("parquet", "tar")


@pytest.fixture(scope="module")
def packed(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The training table as shards of 20 rows, in both formats. Do not write."""
    out = tmp_path_factory.mktemp("packed")
    table = Table.read(scenes / "train.csv")
    for name in FORMATS:
        assert pack(table, out / name, media=LocalFiles(scenes), format=name, rows_per_shard=20) == []
    return {name: out / name for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
def test_packing_round_trips(packed: dict[str, Path], scenes: Path, name: str) -> None:
    table, again = Table.read(scenes / "train.csv"), Table.read(packed[name])
    assert sorted(again.columns) == sorted(table.columns)
    assert len(again) == len(table)
    opener = LocalFiles(scenes)
    for column in table.columns:
        for cell, other in zip(table.column(column), again.column(column), strict=True):
            if isinstance(other, Packed):
                assert other.name == cell
                assert UPLOADS_ONLY.open(other) == opener.open(cell), "the same bytes under the same name"
            else:
                assert other == cell or (is_blank(other) and is_blank(cell))


@pytest.mark.parametrize("name", FORMATS)
def test_packed_rows_encode_alike(packed: dict[str, Path], scenes: Path, name: str, tmp_path: Path) -> None:
    schema = Schema.declare(
        {"photo": {"kind": "image", "size": 16}, "sound": "audio", "event": {"kind": "category", "role": "target"}}
    )
    table = Table.read(scenes / "train.csv")
    from sensorium.training.prepare import fit_modalities

    fit_modalities(schema, table, LocalFiles(scenes))
    store = Store(tmp_path)
    one = encode(schema, table, media=LocalFiles(scenes), store=store)
    other = encode(schema, Table.read(packed[name]), media=UPLOADS_ONLY, store=store)
    index = np.arange(len(table))
    for stream in schema.streams:
        a, b = one.inputs[stream].gather(index), other.inputs[stream].gather(index)
        assert (a.data == b.data).all()
        assert (a.present == b.present).all()


def test_shard_folder_can_replace_a_table(
    packed: dict[str, Path], scenes: Path, trained: Any, quick_fit: Any, tmp_path: Path
) -> None:
    plan, ways = Recipe(), [scenes / "train.csv", packed["parquet"], packed["tar"]]
    table = [declare(Table.read(way), plan, ["event"], {}).reasons for way in ways]
    assert table[0] == table[1] == table[2], "columns are guessed alike, for the same reasons"
    scores = [trained.evaluate(way).to_json()["targets"]["event"] for way in ways[:2]]
    assert scores[0] == scores[1]
    ignore = ["cost", "tags", "note", "sound", "when", "photo"]
    sharded = quick_fit(packed["tar"], ignore=ignore, overrides=["training.epochs=1"])
    assert sharded.recipe.data.train == str(packed["tar"])


@pytest.mark.parametrize("name", FORMATS)
def test_manifest_detects_changes(packed: dict[str, Path], name: str, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(packed[name], folder)
    assert is_sharded(folder)
    result = shards(folder)
    assert [len(shard) for shard in result][:-1] == [20] * (len(result) - 1)
    for shard in result:
        shard.check()
        assert len(shard) == sum(1 for _ in shard.records())
    data = bytearray(result[1].path.read_bytes())
    data[len(data) // 2] ^= 1
    result[1].path.write_bytes(data)
    result[0].check()
    with pytest.raises(DataError, match="damaged"):
        result[1].check()
    result[1].path.write_bytes(data[:-10])
    with pytest.raises(DataError, match="truncated"):
        shards(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["shards"][0]["file"] = "../" + manifest["shards"][0]["file"]
    del manifest["sha256"]  # as earlier versions wrote it, and whoever means harm
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="not a shard of this folder"):
        shards(folder)


def test_interrupted_packing_restarts_and_a_finished_one_is_kept(scenes: Path, tmp_path: Path) -> None:
    table = Table.read(scenes / "test.csv")
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(table, tmp_path, media=LocalFiles(scenes), rows_per_shard=10, progress=stop)
    assert not (tmp_path / MANIFEST).exists()
    pack(table, tmp_path, media=LocalFiles(scenes), rows_per_shard=30)
    assert {p.name for p in tmp_path.iterdir()} == {MANIFEST, "shard-00000.parquet"}
    with pytest.raises(DataError, match="already"):
        pack(table, tmp_path, media=LocalFiles(scenes))


def test_unreadable_cell_is_reported_and_missing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"whatever")
    table = Table({"photo": ["a.png", "gone.png", None], "y": [1, 2, 3]}, root=tmp_path)
    for name in FORMATS:
        problems = pack(table, tmp_path / name, media=LocalFiles(tmp_path), columns={"photo": "image"}, format=name)
        assert [(p.row, p.column) for p in problems] == [(2, "photo")]
        schema = Table.read(tmp_path / name)
        assert [is_blank(cell) for cell in schema.column("photo")] == [False, True, True]
        assert schema.column("y") == [1, 2, 3]


def test_cells_of_several_files_and_unicode_names(tmp_path: Path) -> None:
    for name in ("一.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    table = Table({"照片/1.x": ["一.png;b.png", "b.png", ""], "数": ["[1, 2]", "[3]", None]}, root=tmp_path)
    for name in FORMATS:
        assert pack(table, tmp_path / name, media=LocalFiles(tmp_path), columns={"照片/1.x": "images"}, format=name) == []
        schema = Table.read(tmp_path / name)
        opened = UPLOADS_ONLY.open_several(schema.column("照片/1.x")[0])
        assert opened == [Blob("一.png".encode(), "一.png"), Blob(b"b.png", "b.png")]
        assert is_blank(schema.column("照片/1.x")[2])
        assert schema.column("数")[:2] == ["[1, 2]", "[3]"]


def test_files_and_numbers_in_one_column_are_refused(tmp_path: Path) -> None:
    table = Table({"x": ["a.csv", "[1, 2, 3]"]}, root=tmp_path)
    with pytest.raises(DataError, match="some do not"):
        pack(table, tmp_path / "out", media=LocalFiles(tmp_path), columns={"x": "series"})


def test_shard_is_closed_by_size_too(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(bytes([i]) * 2**18)
    table = Table({"photo": [f"{i}.png" for i in range(6)], "y": list(range(6))}, root=tmp_path)
    pack(table, tmp_path / "out", media=LocalFiles(tmp_path), columns={"photo": "image"}, megabytes=0.5)
    assert [len(shard) for shard in shards(tmp_path / "out")] == [2, 2, 2]


# ── tar ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tar(path: Path, members: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            file.addfile(member, io.BytesIO(data))
    return path


def test_foreign_shards_are_read_by_suffix(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", [("x/1.jpg", b"one"), ("x/1.cls", b"7"), ("x/2.jpg", b"two"), ("x/2.json", b'{"y": 3}')])
    tar(tmp_path / "b.tar", [("3.txt", "三".encode())])
    table = Table.read(tmp_path)
    assert [getattr(cell, "name", None) for cell in table.column("jpg")] == ["x/1.jpg", "x/2.jpg", None]
    assert UPLOADS_ONLY.open(table.column("jpg")[1]) == Blob(b"two", "x/2.jpg")
    assert (table.column("cls"), table.column("y"), table.column("txt")) == (
        ["7", None, None],
        [None, 3, None],
        [None, None, "三"],
    )


@pytest.mark.parametrize(
    "name", ["../up.jpg", "/etc/passwd.jpg", "a/../../b.jpg", "a\\..\\b.jpg", "x.pkl", "x.pth", "x", ".jpg", "x.tar.gz"]
)
def test_unsafe_names_and_unknown_content_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        Table.read(tar(tmp_path / "bad.tar", [(name, b"x")]))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(DataError, match="link or a device"):
        Table.read(tar(tmp_path / "bad.tar", [("1.jpg", b"")], kind, "/etc/passwd"))


def test_invalid_and_oversized_tars_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="complete tar"):
        Table.read(tmp_path / "no.tar")
    path = tar(tmp_path / "a.tar", [("1.jpg", b"x" * 100)])
    cell = Table.read(path).column("jpg")[0]
    with pytest.raises(CellError, match="limit"):
        LocalFiles(tmp_path, max_bytes=50).open(cell)
    path.write_bytes(path.read_bytes()[:550])
    with pytest.raises(CellError, match="shorter"):
        UPLOADS_ONLY.open(cell)
    path.unlink()
    with pytest.raises(CellError, match="shard"):
        UPLOADS_ONLY.open(cell)


@given(st.binary(max_size=2000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_are_a_tar_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.tar"
    path.write_bytes(data)
    with contextlib.suppress(DataError):
        Table.read(path)


# ── streams ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """53 numbered rows in 8 shards. Do not write."""
    out = tmp_path_factory.mktemp("numbered")
    pack(Table({"n": list(range(53))}), out, media=UPLOADS_ONLY, rows_per_shard=7)
    return out


def numbers(stream: Stream) -> list[int]:
    return [row["n"] for row in stream]


@given(readers=st.integers(1, 12), buffer=st.integers(1, 60), seed=st.one_of(st.none(), st.integers(0, 5)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_readers_partition_the_rows(numbered: Path, readers: int, buffer: int, seed: int | None) -> None:
    results = [numbers(Stream(numbered, seed=seed, buffer=buffer, reader=i, readers=readers)) for i in range(readers)]
    assert sorted(n for part in results for n in part) == list(range(53))


@given(stop=st.integers(0, 120), buffer=st.integers(1, 60), seed=st.integers(0, 5), readers=st.sampled_from([1, 3, 20]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stream_resumes_where_it_stopped(numbered: Path, stop: int, buffer: int, seed: int, readers: int) -> None:
    def stream() -> Stream:
        return Stream(numbered, seed=seed, buffer=buffer, readers=readers)

    whole = stream()
    every = [n for _ in range(3) for n in numbers(whole)]
    stop = min(stop, len(every) - 1)
    first = stream()
    seen: list[int] = []
    while len(seen) < stop:
        for row in first:
            seen.append(row["n"])
            if len(seen) == stop:
                break
    second = stream()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest: list[int] = []
    while len(rest) < len(every) - stop:
        rest += numbers(second)
    assert seen + rest[: len(every) - stop] == every


def test_epochs_differ_and_seeds_repeat(numbered: Path) -> None:
    one, other = Stream(numbered, seed=1, buffer=20), Stream(numbered, seed=1, buffer=20)
    first, second = numbers(one), numbers(one)
    assert first != second
    assert [first, second] == [numbers(other), numbers(other)]
    assert numbers(Stream(numbered)) == list(range(53)), "without a seed in order"
    with pytest.raises(ConfigError, match="another stream"):
        Stream(numbered, seed=2, buffer=20).load_state_dict(one.state_dict())
    with pytest.raises(ConfigError):
        Stream(numbered, reader=2, readers=2)


@pytest.mark.parametrize("name", FORMATS)
def test_stream_batches_equal_those_of_the_table(packed: dict[str, Path], trained: Any, scenes: Path, name: str) -> None:
    schema = trained.schema
    table = Table.read(scenes / "train.csv")
    rows = encode(schema, table, media=LocalFiles(scenes), store=Store(trained.cache))
    size = 32
    for i, batch in enumerate(Stream(packed[name], buffer=10).batches(schema, size)):
        other = rows.batch(np.arange(i * size, min(len(table), (i + 1) * size)))
        for stream, field in batch.inputs.items():
            assert (field.present == other.inputs[stream].present).all()
            real = field.present
            assert (field.data[real] == other.inputs[stream].data[real]).all()
        assert (batch.targets["event"].data == other.targets["event"].data).all()


def test_stream_rows_cannot_open_local_files(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([["photo"], [str(tmp_path / "secret.png")]])
    schema = Schema.declare({"photo": "image"})
    assert isinstance(
        Table.read(tar(tmp_path / "a.tar", [("1.json", b'{"photo": "/etc/passwd"}')])).column("photo")[0], str
    )
    schema.columns["photo"].reader.fit([])
    batch = next(Stream(tmp_path / "a.tar").batches(schema, 1))
    assert not batch.inputs["photo"].present.any()


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bits_raise_an_error_that_names_the_file(packed: dict[str, Path], name: str, tmp_path: Path) -> None:
    right = [{key: str(cell) for key, cell in row.items()} for row in Table.read(packed[name]).rows()]
    rng = np.random.default_rng(0)
    files = sorted(packed[name].iterdir())
    errors: list[tuple[str, DataError]] = []
    for i in range(40):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        hurt = files[i % len(files)]
        for file in files:
            data = bytearray(file.read_bytes())
            if file == hurt:
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            (folder / file.name).write_bytes(data)
        try:
            rows = [{key: str(cell) for key, cell in row.items()} for row in Table.read(folder).rows()]
        except DataError as error:
            errors.append((hurt.name, error))
        else:
            assert hurt.name == MANIFEST, "every byte of a shard is compared"
            assert [{k: v.replace(str(folder), str(packed[name])) for k, v in row.items()} for row in rows] == right
    assert all(name == MANIFEST or name in str(error) or MANIFEST in str(error) for name, error in errors)
    assert all(error.fix is not None for _, error in errors)
    assert len(errors) >= 30


def test_digest_is_verified_once_per_process_and_change(
    packed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from sensorium.data.shards import shard_folder as module

    shutil.copytree(packed["tar"], tmp_path / "copy")
    calls: list[Path] = []
    compare = module.file_digest
    monkeypatch.setattr(module, "file_digest", lambda path: calls.append(path) or compare(path))
    for _ in range(3):
        list(shards(tmp_path / "copy")[0].records())
    assert len(calls) == 1
    data = calls[0].read_bytes()
    calls[0].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="damaged"):
        list(shards(tmp_path / "copy")[0].records())


def test_packing_deletes_no_foreign_shard(scenes: Path, tmp_path: Path) -> None:
    table = Table.read(scenes / "test.csv")
    for name in ("my-shard-1.parquet", "shard-00000.tar", "shard-00007.parquet"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        with pytest.raises(DataError, match="not packed here"):
            pack(table, folder, media=LocalFiles(scenes))
        assert (folder / name).read_bytes() == b"mine"
    mine, folder = tmp_path / "mine.txt", tmp_path / "linked"
    folder.mkdir()
    mine.write_bytes(b"mine")
    (folder / f".{MANIFEST}.part").symlink_to(mine)
    pack(table, folder, media=LocalFiles(scenes))
    assert mine.read_bytes() == b"mine"
    assert not (folder / MANIFEST).is_symlink()


def test_duplicate_tar_members_are_refused(tmp_path: Path) -> None:
    import io
    import tarfile

    for names in (["1.photo.png", "1.photo.png"], ["1.cls", "2.cls", "1.cls"], ["1.note.txt", "1.note.txt"]):
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w") as tar:
            for i, name in enumerate(names):
                member = tarfile.TarInfo(name)
                member.size = 1
                tar.addfile(member, io.BytesIO(b"%d" % i))
        with pytest.raises(DataError, match=r"twice|at two places"):
            Table.read(path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_mask_with_a_file_for_each_class_is_packed(tmp_path: Path, name: str) -> None:
    from PIL import Image

    for file, value in (("lung", 255), ("heart", 1)):
        Image.fromarray(np.full((6, 8), value, np.uint8)).save(tmp_path / f"{file}.png")
    table = Table({"mask": ["lung.png;heart.png", ""]}, source="masks.csv")
    kind = {"kind": "mask", "files": ["lung", "heart"]}
    assert pack(table, tmp_path / "out", media=LocalFiles(tmp_path), format=name, columns={"mask": kind}) == []
    first, second = Table.read(tmp_path / "out").column("mask")
    assert is_blank(second)
    want = [(tmp_path / f"{file}.png").read_bytes() for file in ("lung", "heart")]
    assert [blob.data for blob in UPLOADS_ONLY.open_several(first)] == want
    with pytest.raises(DataError, match=r"column 'mask': some cells name several files, and mask reads one\n.*files: \["):
        pack(table, tmp_path / "other", media=LocalFiles(tmp_path), columns={"mask": "mask"})
    with pytest.raises(ConfigError, match="column 'mask'"):
        pack(table, tmp_path / "other", media=LocalFiles(tmp_path), columns={"mask": {"kind": "mask", "files": []}})
    assert not (tmp_path / "other").exists()
