"""What real tables do: each fault is a counted warning that names its place, or one clear error; never a traceback."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ArtifactError, SensoriumError

Cells = list[dict[str, Any]]


def small(count: int = 40, **more: Callable[[int], Any]) -> Cells:
    """Rows whose answer follows from a number and a word."""
    rows = [{"x": f"{(i * 7) % 11}.5", "colour": ("red", "blue", "green")[i % 3], "y": "ab"[i % 2]} for i in range(count)]
    return [{**row, **{name: make(i) for name, make in more.items()}} for i, row in enumerate(rows)]


@pytest.fixture
def fit(quick_fit: Any) -> Callable[..., Any]:
    def run(rows: Any, **options: Any) -> Any:
        return quick_fit(rows, **{"target": "y", "ignore": [], "overrides": ["training.epochs=1"]} | options)

    return run


def same(one: Any, other: Any) -> None:
    """Two predictions of ``y`` that differ by no more than where a row stands in its batch can do."""
    assert one.targets["y"]["probabilities"] == pytest.approx(other.targets["y"]["probabilities"], abs=1e-6)


def bomb(side: int = 30_000) -> bytes:
    """A PNG that says it has ``side`` × ``side`` pixels, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0" * 1_000_000)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# ── one bad media cell among good ones ──────────────────────────────────────────────────────────────────────────────────

FAULTS: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "cut picture": ("photo", lambda data: data[: len(data) // 2], "damaged or cut short"),
    "garbage picture": ("photo", lambda data: b"this is no picture", "not a picture"),
    "sound for a picture": ("photo", lambda data: b"RIFF\x24\0\0\0WAVEfmt ", "not a picture"),
    "empty picture": ("photo", lambda data: b"", "empty"),
    "lost picture": ("photo", lambda data: None, "no such file"),
    "bomb": ("photo", lambda data: bomb(), "more pixels than the 64 million allowed"),
    "cut sound": ("sound", lambda data: data[:30], ""),
    "half a sound": ("sound", lambda data: data[: len(data) // 2 + 1], "cut short|truncated|damaged"),
    "garbage sound": ("sound", lambda data: b"\x00\xff" * 400, ""),
    "empty sound": ("sound", lambda data: b"", "empty"),
    "empty series": ("sensor", lambda data: b"", "empty"),
    "words in a series": ("sensor", lambda data: b"x,y,z\none,two,three\n", ""),
    "binary series": ("sensor", lambda data: b"\x93NUMPY\x01\x00garbage", ""),
}


def spoil(table: Path, name: str, part: str, read_csv: Any) -> tuple[int, str, str]:
    """Spoils one cell of a table; which row, column and file."""
    column, how, _ = FAULTS[name]
    rows = read_csv(table / f"{part}.csv")
    row = next(i for i, row in enumerate(rows) if i > 1 and row[column])
    path = table / rows[row][column]
    data = how(path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    return row + 1, column, rows[row][column]


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_cell_when_predicting_is_a_missing_stream(trained: Any, table: Path, name: str, read_csv: Any) -> None:
    before = trained.predict(table / "test.csv")
    row, column, file = spoil(table, name, "test", read_csv)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    after = trained.predict(table / "test.csv")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000, "kilobytes"
    assert column in after[row - 1].missing
    (problem,) = [problem for prediction in after for problem in prediction.problems]
    assert (problem.row, problem.column, problem.file) == (row, column, file)
    assert np.any([word in problem.problem for word in FAULTS[name][2].split("|")]), problem
    for i, (one, other) in enumerate(zip(before, after, strict=True), 1):
        assert i == row or one.missing == other.missing
    # Exactly as if the cell had been left blank, not in any other way.
    rows = read_csv(table / "test.csv")
    rows[row - 1][column] = ""
    assert [p.targets for p in after] == [p.targets for p in trained.predict(rows, media=table)]


def test_bad_cells_when_training_are_counted_and_told(
    quick_fit: Any, table: Path, read_csv: Any, write_csv: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_csv(table / "train.csv")
    result = []
    for i, (name, (column, how, _)) in enumerate(FAULTS.items()):
        at = [k for k, row in enumerate(rows) if row[column]][i + 1]
        path = table / rows[at][column]
        data = how(path.read_bytes())
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        result.append((at + 1, column, rows[at][column], name))
    model = quick_fit(table / "train.csv", valid=table / "valid.csv")
    stderr = capsys.readouterr().err
    for column in ("photo", "sound", "sensor"):
        count = sum(where == column for _, where, _, _ in result)
        assert f"column '{column}': {count} cells could not be used and count as missing" in stderr
        shown = [f"row {row}, column '{column}': {file}" for row, where, file, _ in result if where == column]
        assert sum(place in stderr for place in shown) == min(3, count)
    assert len(model.history) == 2


def test_the_same_faults_are_told_when_evaluating(cli: Any, run_folder: Path, table: Path, read_csv: Any) -> None:
    row, column, file = spoil(table, "cut picture", "test", read_csv)
    code, _, stderr = cli("evaluate", run_folder, table / "test.csv", "--quiet")
    assert code == 0
    assert f"row {row}, column '{column}': {file}" in stderr


def test_a_bomb_costs_no_memory_when_training(fit: Any, tmp_path: Path) -> None:
    from PIL import Image

    for i in range(20):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(bomb())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = fit(small(20, photo=lambda i: f"{i}.png"), media=tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000, "kilobytes"
    assert "photo" in model.model.streams


def test_all_cells_of_a_media_column_unusable(fit: Any, tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(SensoriumError, match=r"row \d+, column 'photo': no cell can be used as image") as caught:
        fit(small(20, photo=lambda i: f"{i}.png"), media=tmp_path)
    assert "--ignore photo" in str(caught.value)


def test_a_wrong_media_folder(cli: Any, scenes: Path, tmp_path: Path) -> None:
    code, _, stderr = cli(
        "fit",
        scenes / "train.csv",
        "--target",
        "event",
        "--media",
        tmp_path,
        "--out",
        tmp_path / "run",
        "training.epochs=1",
    )
    assert code == 2
    assert "--media" in stderr
    assert "column 'photo'" in stderr
    assert not (tmp_path / "run" / "manifest.json").exists()


# ── numbers, words, labels ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", ["NaN", "N/A", "", "null", "nan", float("nan"), None, "#N/A"])
def test_blanks_among_numbers_are_missing(fit: Any, cell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = small(40)
    rows[5]["x"] = rows[6]["x"] = cell
    model = fit(rows)
    assert model.schema.columns["x"].spec["kind"] == "number"
    assert "could not be used" not in capsys.readouterr().err
    blank, absent = model.predict([{"x": cell, "colour": "red"}, {"colour": "red"}])
    same(blank, absent)
    assert blank.problems == []


@pytest.mark.parametrize("cell", ["twelve", "inf", "-Infinity", "1e999", "12 apples"])
def test_no_number_in_a_column_of_numbers(fit: Any, cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = small(60)
    rows[7]["x"] = cell
    model = fit(rows, valid=small(8))
    assert model.schema.columns["x"].spec["kind"] == "number"
    stderr = capsys.readouterr().err
    assert "column 'x': 1 cell could not be used and counts as missing" in stderr
    assert "row 8, column 'x'" in stderr
    bad, absent = model.predict([{"x": cell, "colour": "red"}, {"colour": "red"}])
    same(bad, absent)
    assert [(p.row, p.column) for p in bad.problems] == [(1, "x")]


@pytest.mark.parametrize("cell", ["1e30", "-1e300", "9" * 60])
def test_huge_numbers_do_no_harm(fit: Any, cell: str) -> None:
    rows = small(40)
    rows[7]["x"] = cell
    model = fit(rows)
    for prediction in model.predict(rows):
        assert np.isfinite(list(prediction.targets["y"]["probabilities"].values())).all()


@pytest.mark.parametrize("cell", ["inf", "oops"])
def test_a_mistyped_number_to_predict_is_told_not_made_a_class(
    fit: Any, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = small(60, price=lambda i: f"{i}.25")
    rows[9]["price"] = cell
    model = fit(rows, target="price", ignore=["y"], valid=small(8, price=lambda i: i + 0.5))
    assert model.recipe.model.tasks["price"]["kind"] == "regression"
    assert "row 10, column 'price'" in capsys.readouterr().err


def test_a_label_never_seen_is_told_and_not_scored(fit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from sensorium.reporting.console import Console

    model = fit(small(40))
    rows = small(10)
    rows[2]["y"] = "c"
    evaluation = model.evaluate(rows, console=Console(quiet=True))
    stderr = capsys.readouterr().err
    assert "row 3, column 'y'" in stderr
    assert "'c' was not seen in training" in stderr
    assert evaluation.targets["y"].rows == 9


def test_only_labels_never_seen(fit: Any) -> None:
    model = fit(small(40))
    rows = small(6, y=lambda i: "never")
    with pytest.raises(SensoriumError, match=r"no row could be scored.*'never' was not seen in training"):
        model.evaluate(rows)
    with pytest.raises(SensoriumError, match="no row has a target"):
        fit(small(40), valid=rows)


@pytest.mark.parametrize(("label", "kind"), [("a", "category"), ("1", "category"), ("1.5", "number"), (2.5, "number")])
def test_one_answer_only(fit: Any, label: Any, kind: str) -> None:
    with pytest.raises(SensoriumError, match=r"column 'y': the target is .* in every row"):
        fit(small(40, y=lambda i: label))


def test_one_class_written_in_two_ways(fit: Any) -> None:
    with pytest.raises(SensoriumError, match=r"column 'y': the target is .* in every row"):
        fit(small(40, y=lambda i: ("1", "1.0")[i % 2]))


def test_blank_labels_teach_nothing(fit: Any) -> None:
    rows = small(40)
    for i in range(0, 40, 4):
        rows[i]["y"] = ("", "N/A", None, float("nan"))[i // 4 % 4]
    model = fit(rows)
    assert model.model.tasks["y"].classes == ["a", "b"]
    assert model.artifact.report["rows"] + model.artifact.report["valid"]["rows"] == 30


def test_no_label_at_all(fit: Any) -> None:
    with pytest.raises(SensoriumError, match="column 'y': the target is empty in every row"):
        fit(small(10, y=lambda i: ""))


def test_a_class_with_a_single_row(fit: Any) -> None:
    rows = small(40)
    rows[11]["y"] = "rare"
    model = fit(rows)
    assert model.model.tasks["y"].classes == ["a", "b", "rare"]


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_column_named_twice(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y,x\n1,a,2\n2,b,3\n", encoding="utf-8")
    code, _, stderr = cli("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "run")
    assert code == 2
    assert "t.csv: columns named twice: x" in stderr


def test_a_text_of_ten_megabytes(fit: Any, tmp_path: Path, trained: Any) -> None:
    words = "the kettle sings in the kitchen "
    long = words * (10_000_000 // len(words))
    rows = small(24, note=lambda i: f"{words} number {i} {'good' if i % 2 else 'bad'} and more of it")
    rows[3]["note"] = long
    rows[4]["note"] = "x" * 10_000_000
    model = fit(rows)
    assert model.schema.columns["note"].spec["kind"] == "text"
    (prediction,) = model.predict([{"note": long}])
    assert np.isfinite(list(prediction.targets["y"]["probabilities"].values())).all()
    assert trained.predict([{"note": "x" * 10_000_000}])[0].problems == []


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows(fit: Any, count: int) -> None:
    with pytest.raises(SensoriumError, match=r"no rows|nothing to learn|too few"):
        fit(small(count) if count else {"x": [], "y": []})


def test_a_header_alone(cli: Any, tmp_path: Path) -> None:
    for text, message in (("x,y\n", "has no rows"), ("", "is empty"), ("\n\n", "is empty")):
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
        code, _, stderr = cli("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "run")
        assert code == 2
        assert message in stderr


def test_three_rows(fit: Any) -> None:
    model = fit(small(3))
    assert len(model.predict(small(3))) == 3


def test_evaluating_nothing(trained: Any, fit: Any) -> None:
    empty = {"event": [], "photo": []}
    with pytest.raises(SensoriumError, match="holds no rows"):
        trained.evaluate(empty)
    with pytest.raises(SensoriumError, match="holds no target column: event"):
        trained.evaluate([{"note": "no answer here"}])


def test_a_misspelt_target(cli: Any, scenes: Path, tmp_path: Path) -> None:
    for words, message in (
        (["--target", "evnt"], "no column named 'evnt'; did you mean event?"),
        (["--target", "event", "--ignore", "cots"], "no column named 'cots'; did you mean cost?"),
        (["--target", "event", "--group", "rom"], "no column named 'rom'; did you mean room?"),
        (["--target", "event", "--as", "foto=image"], "no column named 'foto'; did you mean photo?"),
        (["--target", "event", "--as", "photo=imag"], "no modalities named 'imag'; did you mean image"),
        (["--target", "event", "--as", "photo"], "--as column=kind"),
        (["--target", "photo"], "as photos have: they are no masks"),
        ([], "no target column is named"),
        (["--target", "event", "--time-limit", "soon"], "is not a duration"),
        (["--target", "event", "--valid", "vaild.csv"], "no such file"),
        (["--target", "event", "training.epoch=3"], "training.epoch: no such key; did you mean epochs?"),
        (["--target", "event", "training.epochs=0"], "training.epochs"),
        (["--target", "event", "training.lr=inf"], "training.lr"),
        (["--target", "event", "trainig.epochs=3"], "trainig: no such key; did you mean training?"),
        (["--target", "event", "model.fusion=gatd"], "no fusions named 'gatd'; did you mean gated?"),
        (["--target", "event", "model.encoders.foto=convnet"], "no stream named 'foto'; did you mean photo?"),
        (["--target", "event", "model.tasks.evnt=classification"], "no column named 'evnt'; did you mean event?"),
        (["--target", "event", "model.encoders.photo.kind=convnet", "model.encoders.photo.deph=2"], "did you mean depth?"),
        (["--target", "event", "model.encoders.photo=bag_of_words"], "encoder 'bag_of_words' cannot read stream 'photo'"),
        (["--target", "event", "model.encoders.photo=transformer"], "stream 'photo': encoder 'transformer'"),
        (["--target", "event", "training.accelerator=abacus"], "training.accelerator"),
        (["--target", "event", "--recipe", "nothing.yaml"], "cannot be read"),
    ):
        code, _, stderr = cli("fit", scenes / "train.csv", *words, "--out", tmp_path / "run", "--quiet")
        assert code == 2, (words, stderr)
        assert message in stderr, (words, stderr)
        assert len(stderr.strip().splitlines()) <= 4, stderr
        assert not (tmp_path / "run" / "manifest.json").exists()


NAMES = [
    "table",
    "items",
    "a.b",
    "to",
    "type",
    "a/b",
    "train",
    "forward",
    "名 字",
    " 照片",
    "of_x",
    "keys",
    "_",
    "parameters",
    "%2E",
]


def test_columns_of_any_name(fit: Any, tmp_path: Path) -> None:
    """Each name once for a stream of its own (words), once for the target, once for a cell of the table."""
    rows = [
        {
            **{f"{name}": f"{('good', 'bad')[i % 2]} day number {i * 17 % 23} with {name} and words" for name in NAMES},
            "x": i % 5 + 0.5,
            "y": "ab"[i % 2],
        }
        for i in range(24)
    ]
    model = fit(rows, out=tmp_path / "run", overrides=["training.epochs=1", "model.dim=8"])
    stripped = {name.strip() for name in NAMES} | set(NAMES)
    assert set(model.model.streams) - {"table_"} <= stripped
    assert len(model.model.streams) == len(NAMES) + 1
    again = sm.load(tmp_path / "run")
    assert [p.targets for p in again.predict(rows[:3])] == [p.targets for p in model.predict(rows[:3])]


@pytest.mark.parametrize("name", NAMES)
def test_targets_of_any_name(fit: Any, tmp_path: Path, name: str) -> None:
    rows = [{"x": row["x"], name: row["y"]} for row in small(20)]
    fit(rows, target=name, out=tmp_path / "run")
    assert list(sm.load(tmp_path / "run").predict([{"x": 1}])[0].targets) == [name]


@pytest.mark.parametrize("kind", ["image", "audio", "series", "text", "number", "category", "datetime", "tags"])
def test_every_row_lacks_a_modality(fit: Any, kind: str) -> None:
    """Said to be there, and nowhere to be seen: the model is trained on the rest, or says what is wrong."""
    model = fit(small(24, extra=lambda i: ""), columns={"extra": kind})
    for prediction in model.predict(small(3)):
        assert np.isfinite(list(prediction.targets["y"]["probabilities"].values())).all()


def test_an_empty_column_is_left_out(fit: Any) -> None:
    model = fit(small(24, extra=lambda i: None))
    assert model.schema.columns["extra"].role == "ignore"


def test_a_stream_that_only_validation_has(fit: Any, scenes: Path, read_csv: Any) -> None:
    source = read_csv(scenes / "train.csv")
    available = [row for row in source if row["photo"] and row["sound"] and row["sensor"]][:10]
    blank = {"photo": "", "sound": "", "sensor": "", "note": ""}
    train = [{**row, **blank} for row in source[:30]]
    kinds = {"photo": "image", "sound": "audio", "sensor": "series", "note": "text"}
    model = fit(train, target="event", ignore=["cost", "tags"], valid=available, columns=kinds, media=scenes)
    for prediction in model.predict(available, media=scenes):
        assert np.isfinite(list(prediction.targets["event"]["probabilities"].values())).all()


def test_cells_of_the_wrong_type(trained: Any) -> None:
    odd: list[Any] = [
        b"\x00\xff",
        [1, 2, 3],
        {"a": 1},
        3.5,
        True,
        "\0",
        "a\ud800b",
        np.array([1.0]),
        object(),
        10**400,
        "x" * 5000,
    ]
    rows = [dict.fromkeys(("when", "room", "photo", "note", "sound", "sensor", "temperature"), cell) for cell in odd]
    for row, prediction in zip(rows, trained.predict(rows), strict=True):
        assert np.isfinite(list(prediction.targets["event"]["probabilities"].values())).all(), row
        assert prediction.problems, row
        json.dumps(prediction.to_json())


def test_a_diverging_training_says_so(fit: Any) -> None:
    with pytest.raises(SensoriumError, match="training diverged") as caught:
        fit(small(40), overrides=["training.epochs=3", "training.lr=1e30", "training.clip=1e30"])
    assert "training.lr" in str(caught.value)


def test_unwritable_places(cli: Any, run_folder: Path, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for words in (
        ["predict", run_folder, scenes / "test.csv", "--out", tmp_path / "file" / "p.csv"],
        ["predict", run_folder, scenes / "test.csv", "--out", tmp_path / "p.xlsx"],
        ["evaluate", run_folder, scenes / "test.csv", "--json", tmp_path / "file" / "e.json"],
        ["fit", scenes / "train.csv", "--target", "event", "--out", tmp_path / "file", "training.epochs=1"],
        ["trace", run_folder, scenes / "test.csv", "--row", 1000],
    ):
        code, _, stderr = cli(*words)
        assert code == 2, (words, stderr)
        assert "error: " in stderr


# ── the saved model ─────────────────────────────────────────────────────────────────────────────────────────────────────


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def resign(folder: Path, name: str, data: bytes) -> None:
    """Replaces a file and vouches for it in the manifest."""
    import hashlib

    (folder / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(folder, lambda m: m["files"].update({name: entry}))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


FORGERIES: dict[str, tuple[Callable[[Path], Any], str]] = {
    **{
        f"flipped byte in {name}": ((lambda f, name=name: flip(f / name)), "SHA-256 differs")
        for name in ("model.safetensors", "schema.json", "recipe.yaml", "report.json")
    },
    "extra file": (lambda f: edit(f, lambda m: m["files"].update({"x.py": {"sha256": "", "bytes": 0}})), "must name"),
    "path traversal": (
        lambda f: edit(f, lambda m: m["files"].update({"../recipe.yaml": m["files"].pop("recipe.yaml")})),
        "must name",
    ),
    "newer format": (lambda f: edit(f, lambda m: m.update(format=99)), "newer than this library"),
    "odd format": (lambda f: edit(f, lambda m: m.update(format=float("inf"))), "not a manifest"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no finished model"),
    "manifest is a list": (lambda f: (f / "manifest.json").write_text("[]"), "not a manifest"),
    "manifest is binary": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe\x00"), "not a manifest"),
    "manifest is deep": (lambda f: (f / "manifest.json").write_text("[" * 100_000), "not a manifest"),
    "missing file": (lambda f: (f / "schema.json").unlink(), "cannot be read"),
    "truncated weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
        "its size differs",
    ),
    "link": (
        lambda f: ((f / "report.json").rename(f / "other"), (f / "report.json").symlink_to(f / "other")),
        "is not the file that was saved",
    ),
    "vouched: no tensors": (
        lambda f: resign(f, "model.safetensors", b"\x08\0\0\0\0\0\0\0{}      "),
        "is inconsistent",
    ),
    "vouched: cut tensors": (
        lambda f: resign(f, "model.safetensors", (f / "model.safetensors").read_bytes()[:-100]),
        "is inconsistent",
    ),
    "vouched: recipe with code": (
        lambda f: resign(f, "recipe.yaml", b"!!python/object/apply:os.system ['false']"),
        "is inconsistent",
    ),
    "vouched: recipe of another model": (lambda f: resign(f, "recipe.yaml", b"model: {size: tiny}"), "not resolved"),
    "vouched: schema without columns": (lambda f: resign(f, "schema.json", b"{}"), "the schema is inconsistent"),
    "vouched: schema of rubbish": (lambda f: resign(f, "schema.json", b'{"columns": ["x"]}'), "the schema is inconsistent"),
    "vouched: schema with a foreign path": (
        lambda f: resign(
            f, "schema.json", b'{"columns": [{"name": "x", "role": "input", "spec": {"kind": "os.path"}, "state": {}}]}'
        ),
        "no modalities named",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_model_that_is_not_what_was_saved_is_refused(run_folder: Path, tmp_path: Path, name: str) -> None:
    forge, message = FORGERIES[name]
    shutil.copytree(run_folder, tmp_path / "run")
    sm.load(tmp_path / "run")
    forge(tmp_path / "run")
    with pytest.raises(ArtifactError, match=message):
        sm.load(tmp_path / "run")


def test_weights_are_no_pickle(run_folder: Path) -> None:
    data = (run_folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header.keys() - {"__metadata__"} == set(sm.load(run_folder).model.state_dict())
    assert torch.get_default_dtype() == torch.float32
