"""Media access: what a cell may open; nothing opens outside its folder or hangs."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import CellError
from sensorium.core.modality import Blob
from sensorium.data.files.media_access import UPLOADS_ONLY, LocalFiles, Uploads


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "outside.png").write_bytes(b"secret")
    (tmp_path / "in" / "a.png").write_bytes(b"picture")
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["a b.png", "照片 1.png", "sub/x.png", "café.png"])
def test_file_names(root: Path, name: str) -> None:
    (root / name).write_bytes(name.encode())
    assert LocalFiles(root).open(name) == Blob(name.encode(), name)
    assert LocalFiles(root).open(str(root / name)).data == name.encode()
    assert LocalFiles(root).open(Path(name)).data == name.encode()


@pytest.mark.parametrize(("stored", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_forms(root: Path, stored: str, written: str) -> None:
    (root / unicodedata.normalize(stored, "é.png")).write_bytes(b"x")
    assert LocalFiles(root).open(unicodedata.normalize(written, "é.png")).data == b"x"


def test_backslash_and_blanks(root: Path) -> None:
    (root / "sub" / "x.png").write_bytes(b"x")
    assert LocalFiles(root).open("sub\\x.png").data == b"x"
    assert LocalFiles(root).open(" a.png ").data == b"picture"


@pytest.mark.parametrize(
    "cell", ["../outside.png", "sub/../../outside.png", "link.png", "/etc/hostname", "folder/outside.png"]
)
def test_paths_outside_are_refused(root: Path, cell: str) -> None:
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "folder").symlink_to(root.parent)
    with pytest.raises(CellError, match=r"row 3, column 'photo': leads out"):
        LocalFiles(root).open(cell, row=3, column="photo")


def test_dots_and_links_inside_are_allowed(root: Path) -> None:
    (root / "link.png").symlink_to(root / "a.png")
    assert LocalFiles(root).open("sub/../a.png").data == b"picture"
    assert LocalFiles(root).open("link.png").data == b"picture"


def test_anywhere(root: Path) -> None:
    assert LocalFiles(root, anywhere=True).open("../outside.png").data == b"secret"
    assert LocalFiles(root, anywhere=True).open(str(root.parent / "outside.png")).data == b"secret"


def test_bad_files(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    (root / "zero.png").write_bytes(b"")
    (root / "big.png").write_bytes(b"x" * 11)
    media = LocalFiles(root, max_bytes=10)
    for cell, problem in {
        "A.PNG": r"no such file.*\n.*did you mean a\.png",
        "aa.png": r"no such file.*\n.*did you mean a\.png",
        "gone/a.png": r"no such file.*\n.*no folder",
        "zero.png": "0 bytes",
        "sub": "folder",
        "pipe.png": "not a regular file",
        "big.png": "limit",
        "http://x.org/a.png": "download",
        "a\0.png": "not a file name",
        "x" * 5000: "cannot be read",
    }.items():
        with pytest.raises(CellError, match=rf"(?s)row 7, column 'c'.*{problem}") as caught:
            media.open(cell, row=7, column="c")
        assert caught.value.file is not None
    with pytest.raises(CellError, match="limit"):
        media.open(b"x" * 11)
    with pytest.raises(CellError, match="not a regular file"):
        LocalFiles("/", anywhere=True).open("/dev/zero")


def test_similar_names_are_looked_up_a_few_times_only(root: Path) -> None:
    media = LocalFiles(root)
    fixes = []
    for i in range(media.SEARCHES + 5):
        with pytest.raises(CellError) as caught:
            media.open(f"b{i}.png")
        fixes.append(caught.value.fix)
    assert all(fixes[: media.SEARCHES])
    assert not any(fixes[media.SEARCHES :])


def test_content_in_the_cell() -> None:
    for media in (UPLOADS_ONLY, LocalFiles(".")):
        array = np.zeros((2, 3))
        assert media.open(array) is array
        assert media.open([1, 2]) == [1, 2]
        assert media.open(b"abc") == Blob(b"abc", "<bytes>")
        assert media.open({"bytes": b"abc", "path": "a.png"}) == Blob(b"abc", "a.png")
        assert media.open(Blob(b"abc", "n")) == Blob(b"abc", "n")
        assert media.open({"nodes": 1}) == media.open('{"nodes": 1}') == {"nodes": 1}
        for cell in (3, b"", None):
            with pytest.raises(CellError):
                media.open(cell)


def test_uploads_refuse_names(root: Path) -> None:
    for cell in (str(root / "a.png"), Path("a.png"), {"path": "a.png"}):
        with pytest.raises(CellError, match="upload"):
            Uploads().open(cell)


def test_list_in_a_cell_is_not_a_file_name(tmp_path: Path) -> None:
    media = LocalFiles(tmp_path)
    assert media.open("[1, 2.5, null]") == [1, 2.5, None]
    assert media.open(" [[1, 2], [3, 4]] ") == [[1, 2], [3, 4]]
    (tmp_path / "[1].png").write_bytes(b"x")
    assert media.open("[1].png") == Blob(b"x", "[1].png")
    with pytest.raises(CellError, match="no such file"):
        media.open("[not json]")
