"""Table formats: every format of a table reads alike; irregular files are read, reported or refused."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import lzma
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import DataError
from sensorium.data.inspection.inspect import inspect
from sensorium.data.inspection.unreadable_formats import unread
from sensorium.data.tables import compressed, text_encoding, workbook
from sensorium.data.tables.table import Table

Rows = list[dict[str, str]]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(rows: Rows, delimiter: str = ",", *, end: str = "\n", quoting: int = csv.QUOTE_MINIMAL, before: str = "") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return before + out.getvalue()


DIALECTS: dict[str, tuple[str, Callable[[Rows], bytes]]] = {
    "plain": ("a.csv", lambda rows: as_csv(rows).encode()),
    "windows": ("a.csv", lambda rows: as_csv(rows, ";", end="\r\n", before="\ufeff").encode()),
    "quoted": ("a.csv", lambda rows: as_csv(rows, quoting=csv.QUOTE_ALL).encode()),
    "pipe": ("a.txt", lambda rows: as_csv(rows, "|").encode()),
    "tab": ("a.tsv", lambda rows: as_csv(rows, "\t").encode()),
    "sep": ("a.csv", lambda rows: as_csv(rows, ";", before="sep=;\r\n").encode()),
    "utf-16": ("a.csv", lambda rows: as_csv(rows, "\t").encode("utf-16")),
    "utf-16 without a mark": ("a.csv", lambda rows: as_csv(rows).encode("utf-16-le")),
    "gz": ("a.csv.gz", lambda rows: gzip.compress(as_csv(rows).encode())),
    "bz2": ("a.csv.bz2", lambda rows: bz2.compress(as_csv(rows).encode())),
    "xz": ("a.jsonl.xz", lambda rows: lzma.compress("\n".join(map(json.dumps, rows)).encode())),
    "jsonl": ("a.jsonl", lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()),
    "json of rows": ("a.json", lambda rows: json.dumps(rows, indent=1).encode()),
    "json of columns": ("a.json", lambda rows: json.dumps({n: [row[n] for row in rows] for n in rows[0]}).encode()),
    "json lines as .json": ("a.json", lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    "json in an envelope": ("a.json", lambda rows: json.dumps({"status": "ok", "data": rows}).encode()),
}


def zipped(rows: Rows) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("folder/table.csv", as_csv(rows))
        archive.writestr("__MACOSX/._table.csv", "rubbish")
    return out.getvalue()


DIALECTS["zip"] = ("a.zip", zipped)


def pandas_json(orient: str) -> Callable[[Rows], bytes]:
    def made(rows: Rows) -> bytes:
        import pandas as pd

        return str(pd.DataFrame(rows).to_json(orient=orient)).encode()

    return made


DIALECTS |= {f"pandas {o}": ("a.json", pandas_json(o)) for o in ("records", "columns", "index", "split", "table")}

# Nothing that a format could not tell apart from something else: no blanks at ends, no line breaks or empty text.
words = st.text(st.sampled_from("abcXYZ,;|\"' .äß猫0123456789-"), max_size=9)
tables = st.lists(st.builds(lambda a, b: {"name": f"x{a}", "note": f"y{b}"}, words, words), min_size=2, max_size=6)


LIBRARIES = ("pandas", "polars", "lazy", "arrow", "parquet", "feather", "xlsx", "dataset", "columns")


def plain(table: Table) -> Rows:
    return [{n: c for n, c in row.items() if n != "index"} for row in table.rows()]


@settings(max_examples=15, deadline=None)
@given(rows=tables)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_format_reads_alike(tmp_path_factory: pytest.TempPathFactory, dialect: str, rows: Rows) -> None:
    if dialect.startswith("pandas"):
        pytest.importorskip("pandas")
    name, make = DIALECTS[dialect]
    assert plain(Table.read(write(tmp_path_factory.mktemp("t"), name, make(rows)))) == rows


@settings(max_examples=15, deadline=None)
@given(rows=tables)
@pytest.mark.parametrize(
    "library", ["pandas", "polars", "lazy", "arrow", "parquet", "feather", "xlsx", "dataset", "columns"]
)
def test_frames_of_every_library_read_alike(tmp_path_factory: pytest.TempPathFactory, library: str, rows: Rows) -> None:
    source: Any = {name: [row[name] for row in rows] for name in rows[0]}
    if library == "pandas":
        source = pytest.importorskip("pandas").DataFrame(rows)
    elif library in ("polars", "lazy"):
        source = pytest.importorskip("polars").DataFrame(rows)
        source = source.lazy() if library == "lazy" else source
    elif library == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
            book.active.append(row)
        source = tmp_path_factory.mktemp("t") / "a.xlsx"
        book.save(source)
    elif library != "columns":
        arrow = pytest.importorskip("pyarrow").Table.from_pylist(rows)
        source = tmp_path_factory.mktemp("t") / f"a.{library}"
        if library == "parquet":
            pytest.importorskip("pyarrow.parquet").write_table(arrow, source)
        elif library == "feather":
            pytest.importorskip("pyarrow.feather").write_feather(arrow, source)
        else:
            source = Dataset(arrow) if library == "dataset" else arrow
    assert list(Table.read(source).rows()) == rows


class Dataset:
    """What is asked of a ``datasets.Dataset``, over an Arrow table."""

    def __init__(self, table: Any, features: dict[str, Any] | None = None) -> None:
        self.table, self.features, self.column_names = table, features or {}, table.column_names

    def with_format(self, name: str) -> _Whole:
        return {"arrow": _Whole(self.table)}[name]


class _Whole:
    def __init__(self, table: Any) -> None:
        self.table = table

    def __getitem__(self, index: slice) -> Any:
        assert index == slice(None)
        return self.table


def test_hugging_face_dataset_with_classes_and_pictures() -> None:
    pa = pytest.importorskip("pyarrow")
    pictures = [{"bytes": b"abc", "path": None}, {"bytes": None, "path": "b.png"}]
    classes = SimpleNamespace(names=["cat", "dog"], int2str=lambda i: ["cat", "dog"][i])
    table = Table.read(Dataset(pa.table({"photo": pictures, "label": [1, 0]}), {"label": classes}))
    assert table.column("label") == ["dog", "cat"]
    assert table.column("photo") == pictures
    with pytest.raises(DataError, match=r"parts of a data set.*\n.*data\['train'\]"):
        Table.read({"train": Dataset(pa.table({"a": [1]})), "test": Dataset(pa.table({"a": [1]}))})


def test_columns_of_other_libraries() -> None:
    import torch

    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    source = {
        "pandas": pd.Series([1, 2], index=[5, 7]),
        "polars": pl.Series([1, 2]),
        "arrow": pa.chunked_array([[1], [2]]),
        "torch": torch.tensor([1, 2]),
        "numpy": np.array([1, 2]),
        "plain": (1, 2),
    }
    assert list(Table.read(source).rows()) == [dict.fromkeys(source, 1), dict.fromkeys(source, 2)]


def test_polars_nan_is_missing() -> None:
    pl = pytest.importorskip("polars")
    assert Table.read(pl.DataFrame({"a": [1.0, float("nan"), None]})).column("a") == [1.0, None, None]


# --- text -----------------------------------------------------------------------------------------------------------


def test_western_text_is_read_with_a_note(tmp_path: Path) -> None:
    text = "name,place\n" + "Müller,Straße “x” 5 €\nRené,café\n" * 20
    table = Table.read(write(tmp_path, "a.csv", text.encode("cp1252")))
    assert table.row(0) == {"name": "Müller", "place": "Straße “x” 5 €"}
    assert "Windows-1252" in table.notes[0]
    assert not Table.read(write(tmp_path, "b.csv", text)).notes
    lines = '{"name": "Müller"}\n{"name": "é"}\n'
    assert Table.read(write(tmp_path, "a.jsonl", lines.encode("latin-1"))).column("name") == ["Müller", "é"]
    warnings = inspect({"a": table}, check_media=False).warnings
    assert any("Windows-1252" in line for line in warnings)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "猫很可爱"),
        ("shift_jis", "カタカナ"),
        ("cp1251", "привет"),
        ("koi8-r", "привет"),
        ("cp1253", "γειά"),
        ("big5", "貓"),
    ],
)
def test_other_encodings_are_not_read_as_western(tmp_path: Path, encoding: str, text: str) -> None:
    with pytest.raises(DataError, match=r"row 1, column 'b': not UTF-8"):
        Table.read(write(tmp_path, "a.csv", f"a,b\n1,{text}\n2,{text}\n".encode(encoding)))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_undecodable_byte_names_its_column(tmp_path: Path, delimiter: str) -> None:
    rows = [b"size", b"label", b"note"], [b"1", b"a", "straße".encode()], [b"2", b"b", b"stra\xdfe"]
    content = b"\n".join(delimiter.encode().join(row) for row in rows)
    with pytest.raises(DataError, match=r"row 2, column 'note': not UTF-8"):
        Table.read(write(tmp_path, "a.csv", content))


def test_empty_line_in_a_single_column_is_a_row(tmp_path: Path) -> None:
    table = Table.read(write(tmp_path, "a.csv", "text\ngood fine day\n\nbad awful night\n\ngood fine day\n"))
    assert table.column("text") == ["good fine day", "", "bad awful night", "", "good fine day"]
    assert len(Table.read(write(tmp_path, "b.csv", "a,b\n1,2\n\n3,4\n\n"))) == 2


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_sep_line_sets_the_delimiter(tmp_path: Path, line: str) -> None:
    for end in ("\n", "\r\n"):
        table = Table.read(write(tmp_path, "a.csv", end.join([line, "size, cm;label", "1,5;a", ""])))
        assert list(table.rows()) == [{"size, cm": "1,5", "label": "a"}]
    with pytest.raises(DataError, match=r"row 1: 1 cell"):
        Table.read(write(tmp_path, "c.csv", f"{line}\nsize;label\n1\n"))


@pytest.mark.parametrize("delimiter", ["^", "~", "\x01", "\x1f"])
def test_database_delimiters(tmp_path: Path, delimiter: str) -> None:
    content = f"a{delimiter}b\n1{delimiter}x, y\n2{delimiter}z\n"
    assert Table.read(write(tmp_path, "a.csv", content)).column("b") == ["x, y", "z"]


def test_lone_surrogates_are_replaced_with_a_note(tmp_path: Path) -> None:
    table = Table.read(
        write(tmp_path, "a.jsonl", '{"t": "hot \\ud83d sun", "l": ["\\udc00"]}\n{"t": "\\ud83d\\ude00", "l": []}\n')
    )
    assert table.column("t") == ["hot � sun", "😀"]
    assert table.column("l") == [["�"], []]
    assert "2 cells hold halves of characters" in table.notes[0]
    assert "row 1, column 't'" in table.notes[0]
    for source in ([{"a\ud800": "x\ud83d"}], {"a\ud800": ["x\ud83d"]}):
        table = Table.read(source)
        assert table.column("a�") == ["x�"]
        json.dumps(list(table.rows()), ensure_ascii=False).encode()
    pair = "\ud83d" + "\ude00"
    assert Table.read([{"a": pair}]).column("a") == ["😀"]
    with pytest.raises(DataError, match=r"row 1, column 'b'"):
        Table.read(write(tmp_path, "a.csv", b"a,b\n1,x\xed\xa0\xbdy\n"))


def test_binary_content_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "zeros.csv").open("wb") as file:
        file.truncate(300 * 2**20)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"zeros\.csv: line 1 holds zero bytes"):
        Table.read(tmp_path / "zeros.csv")
    with pytest.raises(DataError, match=r"zero bytes"):
        Table.read((tmp_path / "zeros.csv").rename(tmp_path / "zeros.jsonl"))
    assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    tracemalloc.stop()
    monkeypatch.setattr(text_encoding, "LINE_LIMIT", 3 * 2**20)
    for name in ("long.csv", "long.jsonl", "long.json"):
        with pytest.raises(DataError, match=r"line 2 has more than 3 million"):
            Table.read(write(tmp_path, name, b"{}\n" + b"x" * (5 * 2**20)))
    # A line longer than the pieces in which it is read comes whole.
    assert Table.read(write(tmp_path, "fits.csv", "a,b\r\n" + "x" * (2**20 + 3) + ",1\r\n")).column("b") == ["1"]


# --- compression ----------------------------------------------------------------------------------------------------


def test_expanded_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "SMALL", 2**20)
    content = b"a,b\n" + b"1,2\n" * 2**20
    for name, pack in (("a.csv.gz", gzip.compress), ("a.csv.bz2", bz2.compress), ("a.csv.xz", lzma.compress)):
        with pytest.raises(DataError, match="expands to far more"):
            Table.read(write(tmp_path, name, pack(content)))
        damaged = bytearray(pack(b"a,b\n1,2\n"))
        for cut in (damaged[:-9], damaged[:3], b"nonsense"):
            with pytest.raises(DataError, match=name):
                Table.read(write(tmp_path, name, bytes(cut)))
    with pytest.raises(DataError, match="already compressed"):
        Table.read(write(tmp_path, "a.parquet.gz", gzip.compress(b"PAR1")))


def test_zip_file_must_hold_one_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"2 files.*\n.*a\.csv, b\.csv"):
        Table.read(tmp_path / "two.zip")
    with pytest.raises(DataError, match="cannot be expanded"):
        Table.read(write(tmp_path, "bad.zip", b"PK\3\4 nonsense"))


# --- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("7", "JSON int"),
        ("[1, 2]", "row 1"),
        ('{"a": [1], "b": [1, 2]}', "a 1, b 2"),
        ('[{"a": 1}', "not JSON"),
        ("[" * 100_000, "nested|not JSON"),
        ("", "not JSON"),
        ('{"columns": ["a", "b"], "data": [[1]]}', "2 cells"),
    ],
)
def test_json_documents_that_are_not_tables(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json.*({expected})"):
        Table.read(write(tmp_path, "a.json", content))


# --- workbooks ------------------------------------------------------------------------------------------------------


def test_a_workbook(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "empty"
    sheet, other = book.create_sheet("data"), book.create_sheet("more")
    other.append(["x"])
    for row in (
        [],
        ["n", "when", "ok", "bad"],
        [1, dt.datetime(2024, 5, 6), True, "#DIV/0!"],
        [],
        [2.5, None, False, "x"],
        [],
    ):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    table = Table.read(tmp_path / "a.xlsx")
    assert list(table.rows()) == [
        {"n": 1, "when": dt.datetime(2024, 5, 6), "ok": True, "bad": None},
        {"n": None, "when": None, "ok": None, "bad": None},
        {"n": 2.5, "when": None, "ok": False, "bad": "x"},
    ]
    assert "1 cell holds an error" in table.notes[0]
    assert "'data' is read, and not 'more'" in table.notes[1]


def test_bad_workbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.save(tmp_path / "empty.xlsx")
    with pytest.raises(DataError, match="every sheet is empty"):
        Table.read(tmp_path / "empty.xlsx")
    for row in (["a"], [1], [2, 3]):
        book.active.append(row)
    book.save(tmp_path / "wide.xlsx")
    with pytest.raises(DataError, match=r"row 2: a cell lies beyond the 1 named columns"):
        Table.read(tmp_path / "wide.xlsx")
    data = (tmp_path / "wide.xlsx").read_bytes()
    for bad in (b"nonsense", data[: len(data) // 2], b"PK\3\4"):
        with pytest.raises(DataError, match=r"bad\.xlsx"):
            Table.read(write(tmp_path, "bad.xlsx", bad))
    with pytest.raises(DataError, match=r"spreadsheet and save"):
        Table.read(write(tmp_path, "old.xls", b"\xd0\xcf\x11\xe0"))
    monkeypatch.setattr(workbook, "CELLS", 3)
    with pytest.raises(DataError, match="more than 3 cells"):
        Table.read(tmp_path / "wide.xlsx")
    monkeypatch.setattr(workbook, "SMALL", 10)
    monkeypatch.setattr(workbook, "RATIO", 1)
    with pytest.raises(DataError, match="expands"):
        Table.read(tmp_path / "wide.xlsx")


# --- columns of Arrow -----------------------------------------------------------------------------------------------


def test_unrepresentable_arrow_value_is_a_missing_cell(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    days = pa.array([19000, 11000 * 365 + 2700, 19002], pa.int32()).cast(pa.date32())
    parquet.write_table(pa.table({"d": days, "x": [1, 2, 3]}), tmp_path / "a.parquet")
    table = Table.read(tmp_path / "a.parquet")
    assert table.column("d") == [dt.date(2022, 1, 8), None, dt.date(2022, 1, 10)]
    assert "row 2, column 'd'" in table.notes[0]
    zoned = pa.array([0, 10**6, None], pa.timestamp("us", "Mars/Base"))
    table = Table.read(pa.table({"d": zoned}))
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert table.column("d") == [epoch, epoch + dt.timedelta(seconds=1), None]
    assert "'Mars/Base' is not known" in table.notes[0]
    nested = pa.array([[11000 * 365 + 2700], [1]], pa.list_(pa.int32())).cast(pa.list_(pa.date32()))
    assert Table.read(pa.table({"l": nested})).column("l") == [None, [dt.date(1970, 1, 2)]]


def test_pandas_index_is_not_a_column(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[5, 9, 7])
    frame.to_parquet(tmp_path / "a.parquet")
    frame.rename_axis("id").to_parquet(tmp_path / "named.parquet")
    assert Table.read(tmp_path / "a.parquet").columns == ["a"]
    assert Table.read(tmp_path / "named.parquet").columns == ["a", "id"]


# --- standard input and folders -------------------------------------------------------------------------------------


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> Table:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))
    return Table.read("-")


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    kinds = [as_csv(rows).encode(), as_csv(rows, ";").encode("utf-16"), json.dumps(rows).encode()]
    kinds += ["\n".join(map(json.dumps, rows)).encode(), (tmp_path / "a.parquet").read_bytes()]
    kinds += [gzip.compress(as_csv(rows).encode()), bz2.compress(json.dumps(rows).encode())]
    for data in kinds:
        table = piped(monkeypatch, data)
        assert list(table.rows()) == rows
        assert table.source == "<stdin>"
        assert table.root == Path.cwd()
    with pytest.raises(DataError, match=r"^<stdin>, row 2: 1 cell"):
        piped(monkeypatch, b"a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="empty"):
        piped(monkeypatch, b"")
    assert "<stdin> is not UTF-8" in piped(monkeypatch, "a,b\n1,é\n2,ü\n".encode("latin-1")).notes[0]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(), isatty=lambda: True))
    with pytest.raises(DataError, match="pipe a table"):
        Table.read("-")


def test_folder_of_classes(tmp_path: Path) -> None:
    for name in (
        "dog/b.png",
        "dog/deep/a.JPG",
        "cat/c.png",
        "cat/notes.txt",
        "cat/.hidden.png",
        ".cache/x.png",
        "empty/x.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = Table.read(tmp_path)
    assert table.column("file") == ["cat/c.png", "dog/b.png", "dog/deep/a.JPG"]
    assert table.column("label") == ["cat", "dog", "dog"]
    assert (table.root, table.target) == (tmp_path, "label")
    assert table.take([1]).target == "label"
    assert "no media in empty" in table.notes[0]
    assert Table.read(tmp_path / "dog" / "deep").columns == ["file"]
    (tmp_path / "loose.wav").write_bytes(b"x")
    assert "1 files lie outside" in Table.read(tmp_path).notes[1]
    for part in ("train", "test"):
        (tmp_path / "set" / part / "cat").mkdir(parents=True)
        (tmp_path / "set" / part / "cat" / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"parts of a data set \(test, train\)"):
        Table.read(tmp_path / "set")


def test_folder_classes_are_the_default_target(tmp_path: Path) -> None:
    from sensorium.core.recipe import Recipe
    from sensorium.training.column_declaration import declare

    for i in range(6):
        path = tmp_path / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    table = declare(Table.read(tmp_path), Recipe(), [], {})
    assert [c.name for c in table.schema.targets] == ["label"]
    assert table.reasons["file"][:2] == ("input", "image")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([f"IMG_{i}.heic" for i in range(20)], "20 of 20 cells name .heic files"),
        ([f"reports/doc {i}.TXT" for i in range(20)], "name .txt files"),
        ([f"[0.{i} 1.5 ... 0.25 3.]" for i in range(20)], "cannot be read back"),
        ([f"https://example.com/{i}.png" for i in range(20)], "20 of 20 cells are URLs"),
        ([f"https://example.com/{i}" for i in range(20)], "20 of 20 cells are URLs"),
    ],
)
def test_unsupported_file_names_are_reported(cells: list[str], expected: str) -> None:
    table = Table.read({"x": cells, "y": ["a", "b"] * 10})
    warnings = inspect({"t": table}, target="y", check_media=False).warnings
    assert sum("'x'" in line for line in warnings) == 1, warnings
    assert expected in "".join(warnings)


def test_words_and_supported_files_are_not_reported() -> None:
    assert unread(["see the report.txt for more", "a plain sentence.", "no", "version 1.2"]) is None
    assert unread(["a.png", "b.wav", "c.csv"]) is None
    assert unread([]) is None


def test_different_urls_are_different_rows() -> None:
    table = Table.read({"photo": [f"https://example.com/{i}.png" for i in range(4)], "y": ["a", "a", "b", "b"]})
    warnings = inspect({"t": table}, target="y", columns={"photo": "image"}).warnings
    assert not any("repeat" in line or "say the same" in line for line in warnings)
