"""Tables: every source gives the same cells, and every error names file and row."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import DataError
from sensorium.data.tables import delimited
from sensorium.data.tables.table import Table


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_imports_without_torch_or_pandas() -> None:
    code = (
        "import sys, sensorium.data.tables.table, sensorium.data.files.media_access, "
        "sensorium.data.inspection.type_inference, sensorium.data.splitting, "
        "sensorium.data.inspection.inspect, sensorium.data.synthetic\n"
        "assert not {'torch', 'pandas', 'pyarrow', 'soundfile', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", '\ufeffname,note\r\n张三,"two\nlines, ""quoted"""\r\n\r\n,x\r\n')
    table = Table.read(path)
    assert table.columns == ["name", "note"]
    assert list(table.rows()) == [{"name": "张三", "note": 'two\nlines, "quoted"'}, {"name": "", "note": "x"}]
    assert table.root == tmp_path
    assert str(path) == table.source


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,b\n1,2;3\n4,5;6\n"),
        ("a.csv", 'a;b\n1;"2;3"\n4;"5;6"\n'),
        ("a.csv", 'a\tb\n1\t2;3\n4\t"5;6"\n'),
        ("a.tsv", "a\tb\n1\t2;3\n4\t5;6\n"),
    ],
)
def test_delimiters(tmp_path: Path, name: str, text: str) -> None:
    table = Table.read(write(tmp_path, name, text))
    assert [table.column("a"), table.column("b")] == [["1", "4"], ["2;3", "5;6"]]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells, st.just("x")), max_size=8), delimiter=st.sampled_from(",;\t"))
def test_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], delimiter: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("one", "two", "three"), *rows])
    columns = delimited.read_delimited(path, delimiter)
    assert list(zip(*columns.values(), strict=True)) == rows


def test_equal_cells_share_one_object(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "i,c\n" + "".join(f"{i},{'red' if i % 2 else 'blue'}\n" for i in range(10_000)))
    table = Table.read(path)
    assert len(table) == 10_000
    assert table.column("i") == [str(i) for i in range(10_000)]
    assert len({id(cell) for cell in table.column("c")}) == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n3\n", ["row 2", "1 cell", "2 columns"]),
        (b"a,b\n1,2\n\n3,4,5\n", ["row 2", "3 cells"]),
        (b"a,b,a\n1,2,3\n", ["named twice: a"]),
        (b"", ["empty", "name the columns"]),
        (b"\xef\xbb\xbf\n", ["empty"]),
        (b'a,b\n1,2\n3,"open\n4,5\n', ["row 2", "quote"]),
        (b'a,b\n1,"x"y\n', ["row 1", "quote"]),
        ("a,b\n1,x\n2,张\n".encode("gb18030"), ["row 2", "column 'b'", "UTF-8", "iconv"]),
        (b"a,b\xff\n1,x\n", ["header", "UTF-8"]),
        (b"a,b\n1,\0\0\0\0\n", ["line 2", "zero bytes"]),
    ],
)
def test_bad_csv(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    path = write(tmp_path, "bad.csv", content)
    with pytest.raises(DataError) as caught:
        Table.read(path)
    for part in ["bad.csv", *expected]:
        assert part in str(caught.value)


def test_large_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = csv.field_size_limit()
    assert len(Table.read(write(tmp_path, "a.csv", "a,b\n1," + "x" * 300_000 + "\n")).column("b")[0]) == 300_000
    assert csv.field_size_limit() == before
    monkeypatch.setattr(delimited, "CELL_LIMIT", 1000)
    with pytest.raises(DataError, match=r"row 2: a cell of more than"):
        Table.read(write(tmp_path, "b.csv", "a,b\n1,x\n2," + "x" * 3000 + "\n"))


def test_header_only_and_nameless_column(tmp_path: Path) -> None:
    assert len(Table.read(write(tmp_path, "a.csv", "a,b\n"))) == 0
    assert Table.read(write(tmp_path, "b.csv", ",b\n0,x\n")).columns == ["unnamed 1", "b"]


def test_jsonl(tmp_path: Path) -> None:
    table = Table.read(write(tmp_path, "a.jsonl", '\ufeff{"a": 1}\n\n{"b": [1, 2], "a": null}\n{"c": "x"}\n'))
    assert table.columns == ["a", "b", "c"]
    assert list(table.rows()) == [
        {"a": 1, "b": None, "c": None},
        {"a": None, "b": [1, 2], "c": None},
        {"a": None, "b": None, "c": "x"},
    ]


@pytest.mark.parametrize("line", [b"{oops", b"[1]", b'"\xff"', b"[" * 100_000])
def test_bad_jsonl_names_the_row(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl, row 2: "):
        Table.read(write(tmp_path, "a.jsonl", b'{"a": 1}\n\n' + line + b"\n"))


ROWS = [{"n": 1.5, "s": "x", "l": [1, 2]}, {"n": None, "s": "y", "l": []}, {"n": 3.0, "s": None, "l": None}]


def test_columnar_files(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, ipc, parquet

    arrow = pa.Table.from_pylist(ROWS)
    parquet.write_table(arrow, tmp_path / "a.parquet")
    feather.write_feather(arrow, tmp_path / "a.feather")
    with ipc.new_file(tmp_path / "a.arrow", arrow.schema) as writer:
        writer.write_table(arrow)
    with ipc.new_stream(tmp_path / "b.arrow", arrow.schema) as writer:
        writer.write_table(arrow)
    for name in ("a.parquet", "a.feather", "a.arrow", "b.arrow"):
        table = Table.read(tmp_path / name)
        assert list(table.rows()) == ROWS, name
        assert table.root == tmp_path
    assert list(Table.read(arrow).rows()) == ROWS
    for name in ("bad.parquet", "bad.arrow", "bad.feather"):
        with pytest.raises(DataError, match="bad"):
            Table.read(write(tmp_path, name, b"PAR1 nonsense"))


def test_frame() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"n": [1.5, None], "s": ["x", None], "i": pd.array([1, None], dtype="Int64")}, index=[7, 9])
    table = Table.read(frame)
    assert list(table.rows()) == [{"n": 1.5, "s": "x", "i": 1}, {"n": None, "s": None, "i": None}]
    assert table.root == Path.cwd()


def test_python_sources() -> None:
    expected = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    table = Table.read({"a": np.array([1, 2]), "b": ["x", "y"]})
    assert list(table.rows()) == expected
    assert list(Table.read(expected).rows()) == expected
    assert Table.read(table) is table
    assert Table.read(table, root="/data").root == Path("/data")
    assert list(Table.read([{"a": 1}, {"b": 2}]).rows()) == [{"a": 1, "b": None}, {"a": None, "b": 2}]
    pictures = Table.read({"p": np.zeros((3, 4, 4))}).column("p")
    assert len(pictures) == 3
    assert pictures[0].shape == (4, 4)
    assert len(Table.read([])) == 0


@pytest.mark.parametrize("source", [{"a": [1], "b": [1, 2]}, {"a": "text"}, [1, 2], 7, b"abc"])
def test_not_a_table(source: object) -> None:
    with pytest.raises(DataError):
        Table.read(source)


def test_wrong_paths(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"did you mean train\.csv"):
        Table.read(tmp_path / "trian.csv")
    with pytest.raises(DataError, match="no folder"):
        Table.read(tmp_path / "nowhere" / "train.csv")
    with pytest.raises(DataError, match="folder"):
        Table.read(tmp_path)
    with pytest.raises(DataError, match=r"\.parquet"):
        Table.read(write(tmp_path, "a.xyz", "x"))


def test_selected_rows_keep_their_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", "".join(json.dumps({"a": i}) + "\n" for i in range(6)))
    part = Table.read(path).take(np.array([5, 1, 3])).take([2, 0])
    assert part.column("a") == [3, 5]
    assert [part.number(i) for i in range(2)] == [4, 6]
    assert part.root == tmp_path
    more = part.with_column("b", ["x", "y"])
    assert more.row(1) == {"a": 5, "b": "y"}
    assert more.number(0) == 4
    assert not part.has("b")
    with pytest.raises(DataError, match="did you mean"):
        more.column("bb")
    with pytest.raises(DataError, match="length"):
        part.with_column("b", [1])
    assert len(part.take([])) == 0
