"""The index: exact search, changes, and what is damaged, foreign or missing, told in words."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sensorium as sm
from sensorium.core.errors import ArtifactError, ConfigError, DataError
from sensorium.retrieval.index_files import Contents, read_index, write_index
from sensorium.retrieval.nearest import nearest_rows
from sensorium.retrieval.row_filter import parse_filter, select_rows

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "红色": (230, 70, 230)}
QUICK = ["model.size=tiny", "training.epochs=8", "training.batch_size=16", "training.lr=0.005"]


def squares(folder: Path, name: str, rows: int, seed: int) -> Path:
    """Pictures of one colour and their captions; some rows lack this or that, one has neither, one a broken picture."""
    draw = np.random.default_rng(seed)
    (folder / f"图 {name}").mkdir(parents=True)
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "photo", "note", "price"])
        for i in range(rows):
            colour = list(COLOURS)[i % 4]
            picture = np.clip(np.array(COLOURS[colour]) + draw.normal(0, 15, (12, 12, 3)), 0, 255).astype(np.uint8)
            path = f"图 {name}/一 {i}.png"
            Image.fromarray(picture).save(folder / path)
            gaps = {5: [1], 6: [2], 7: [1, 2]}.get(i, [])
            row = [f"{name} {i}", path, f"the {colour} one", "" if i == 9 else f"{i}.5"]
            writer.writerow(["" if k in gaps else cell for k, cell in enumerate(row)])
    (folder / f"图 {name}" / "一 10.png").write_bytes(b"no picture")
    return folder / f"{name}.csv"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with a blank in its name, of a training table, a gallery and a model."""
    folder = tmp_path_factory.mktemp("a shop")
    train = squares(folder, "train", 80, 0)
    squares(folder, "gallery", 24, 1)
    columns = {"photo": "image", "note": "text"}
    options: dict[str, Any] = {"task": "retrieval", "ignore": ["sku", "price"], "columns": columns, "quiet": True}
    sm.fit(train, overrides=QUICK, out=folder / "run", **options)
    sm.fit(train, overrides=[*QUICK[:1], "training.epochs=1"], seed=3, out=folder / "other", **options)
    return folder


@pytest.fixture
def index(home: Path, tmp_path: Path) -> sm.Index:
    made, added = sm.Index.create(tmp_path / "idx", sm.load(home / "run"), home / "gallery.csv", run=home / "run", id="sku")
    assert added.rows == len(made) == 23
    assert added.skipped == [8], "a row with neither picture nor words"
    assert [problem.row for problem in added.problems] == [11], "the broken picture costs that cell only"
    return made


def contents(vectors: np.ndarray, present: np.ndarray) -> Contents:
    names = tuple("abc"[: len(vectors)])
    ids = [str(i) for i in range(vectors.shape[1])]
    return Contents("m", "", "t", names, ids, {}, 1, present, vectors.astype(np.float32))


def test_search_is_exact(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(3, 60, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    present = draw.random((3, 60)) < 0.7
    queries, requested = vectors[:, :9], present[:, :9]
    write_index(tmp_path / "idx", contents(vectors, present))
    stored = read_index(tmp_path / "idx")
    assert np.array_equal(stored.vectors, vectors)
    allowed = draw.random(60) < 0.8
    result = nearest_rows(stored, queries, requested, allowed=allowed, top=7)
    for q in range(9):
        scores = []
        for i in range(60):
            parts = [
                max((float(queries[a, q] @ vectors[b, i]) for b in range(3) if b != a and present[b, i]), default=None)
                for a in range(3)
                if requested[a, q]
            ]
            known = [part for part in parts if part is not None]
            scores.append(np.mean(known) if known and allowed[i] else -np.inf)
        order = np.argsort(-np.array(scores), kind="stable")[:7]
        assert result.places[q].tolist() == [i if np.isfinite(scores[i]) else -1 for i in order]
        if requested[:, q].any():
            assert result.scores[q] == pytest.approx([scores[i] for i in order], abs=1e-5)
    tied = nearest_rows(
        contents(np.ones((2, 9, 1)), np.ones((2, 9), bool)), np.ones((2, 1, 1)), np.ones((2, 1), bool), top=4
    )
    assert tied.places.tolist() == [[0, 1, 2, 3]], "rows of equal scores keep the order of the index"


def test_words_find_pictures_and_pictures_words(index: sm.Index, home: Path) -> None:
    hits = index.search("the blue one", top=4)
    assert all(hit.side == "photo" for hit in hits)
    assert [hit.cells["note"] for hit in hits].count("the blue one") >= 3
    assert index.search("红色", top=1)[0].side == "photo"
    words = index.search({"photo": str(home / "图 gallery" / "一 0.png")}, top=3)
    assert {hit.side for hit in words} == {"note"}
    assert words[0].cells["note"] == "the red one"
    assert "gallery 1" not in [hit.id for hit in index.search(row="gallery 1", top=23)], "not itself"
    own = index.search("the blue one", among=["note"], top=1)[0]
    assert own.side == "note"
    assert own.score == pytest.approx(1.0, abs=1e-4)


def test_it_is_the_same_when_opened_again(index: sm.Index, home: Path) -> None:
    again = sm.Index.open(index.folder)
    assert again.search("the red one") == index.search("the red one")
    with pytest.raises(ArtifactError, match="another model"):
        sm.Index.open(index.folder, home / "other")
    assert json.loads((index.folder / "index.json").read_text(encoding="utf-8"))["rows"] == 23


def test_rows_are_added_and_removed(index: sm.Index) -> None:
    before = index.search("the green one", top=5)
    added = index.add([{"note": "the green one", "price": 3, "unknown": 1}], id=None)
    assert (added.rows, len(index)) == (1, 24)
    assert index.contents.ids[-1] == "1"
    assert index.contents.cells["photo"][-1] is None
    with pytest.raises(DataError, match="identifier that the index has, such as 'gallery 0'"):
        index.add([{"sku": "gallery 0", "note": "new"}], id="sku")
    index.add([{"sku": "gallery 0", "note": "the blue one"}], id="sku", replace=True)
    assert len(index) == 24
    assert index.contents.cells["note"][index.contents.ids.index("gallery 0")] == "the blue one"
    assert index.remove(["1", "gallery 0"]) == 2
    with pytest.raises(ConfigError, match="no row 'nobody'"):
        index.remove(["gallery 1", "nobody"])
    assert len(index) == 22
    kept = [hit for hit in before if hit.id != "gallery 0"]
    assert [hit.id for hit in index.search("the green one", top=5)][: len(kept)] == [hit.id for hit in kept]
    index.remove(list(index.contents.ids))
    with pytest.raises(DataError, match="the index is empty"):
        sm.Index.open(index.folder).search("the green one")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("price < 20", [0, 2]),
        ("price<=20 and colour = red", [0]),
        ('colour="dark and red"', [2]),
        ("colour != red", [1, 2]),
        ("price == 5.00", [0]),
        ("colour ~ RED", [0, 2]),
        ("big price > 1", [1]),
        ("颜色 = 红", [1]),
        ("price >= -1e3 AND price < 1000", [0, 1, 2]),
    ],
)
def test_filters(text: str, wanted: list[int]) -> None:
    cells: dict[str, list[Any]] = {
        "price": ["5", 30, "7.5", None],
        "colour": ["red", "blue", "dark and red", ""],
        "big price": [1, 2, None, 0],
        "颜色": [None, "红", "", "蓝"],
    }
    assert np.flatnonzero(select_rows(parse_filter(text), cells, 4)).tolist() == wanted


@pytest.mark.parametrize(
    "text", ["", "price", "price <", "price < cheap", "price < 3 and", "__import__('os')", "a = 1 or b = 2 = 3", "x" * 3000]
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="filter"):
        parse_filter(text)


def test_wrong_searches_are_told_in_words(index: sm.Index, home: Path) -> None:
    (home / "empty.png").write_bytes(b"")
    for query, inputs, predicted in (
        ({"sound": "a.wav"}, {}, "reads no column 'sound'"),
        ({"photo": str(home / "none.png")}, {}, "no such file"),
        ({"photo": str(home / "empty.png")}, {}, r"empty \(0 bytes\)\n  → copy it again"),
        ("", {}, "the query is empty"),
        ("red", {"among": ["photos"]}, "did you mean photo"),
        ("red", {"where": "prize < 3"}, "did you mean price"),
        ("red", {"where": "note < 3"}, "has no numbers"),
        ("red", {"top": 0}, "top is 0"),
        (None, {"row": "gallery 99"}, "no row 'gallery 99'"),
        (None, {}, "either a query or a row"),
    ):
        with pytest.raises(ConfigError, match=predicted):
            index.search(query, **inputs)


@pytest.mark.parametrize("name", ["rows.json", "sides.u8", "vectors.f32"])
def test_a_damaged_index_is_refused(index: sm.Index, name: str) -> None:
    path = index.folder / name
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(ArtifactError, match="SHA-256"):
        sm.Index.open(index.folder)
    path.write_bytes(whole[:-1])
    with pytest.raises(ArtifactError, match="is damaged"):
        sm.Index.open(index.folder)
    path.unlink()
    with pytest.raises(ArtifactError, match=name):
        sm.Index.open(index.folder)


def test_a_false_manifest_is_refused(index: sm.Index) -> None:
    path = index.folder / "index.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for change, predicted in (
        ({"format": 99}, "newer"),
        ({"rows": 22}, "is damaged"),
        ({"width": -1}, "not a number"),
        ({"sides": []}, "sides"),
        ({"files": {"../x": {}}}, "it must name"),
        ({"task": "nothing"}, "no task 'nothing'"),
    ):
        path.write_text(json.dumps({**document, **change}), encoding="utf-8")
        with pytest.raises((ArtifactError, ConfigError), match=predicted):
            sm.Index.open(index.folder)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not an index"):
        sm.Index.open(index.folder)
    path.unlink()
    with pytest.raises(ArtifactError, match="no finished index"):
        sm.Index.open(index.folder)


def test_galleries_that_cannot_be_indexed(home: Path, tmp_path: Path) -> None:
    model = sm.load(home / "run")
    (tmp_path / "empty.csv").write_text("photo,note\n")
    rows = [{"note": "red", "sku": "a"}, {"note": "red", "sku": "a"}, {"note": "blue", "sku": ""}]
    for gallery, inputs, predicted in (
        (tmp_path / "empty.csv", {}, "no rows"),
        ([{"sound": "a.wav"}], {}, "no row has a usable"),
        (rows[:2], {"id": "sku"}, "identifier 'a' of row 1"),
        (rows[1:], {"id": "sku"}, "has no identifier"),
        (rows, {"show": ["title"]}, "no column named 'title'"),
    ):
        with pytest.raises(DataError, match=predicted):
            sm.Index.create(tmp_path / "idx", model, gallery, **inputs)
    assert not (tmp_path / "idx").exists()
    sm.Index.create(tmp_path / "idx", model, rows)
    with pytest.raises(ConfigError, match="holds an index"):
        sm.Index.create(tmp_path / "idx", model, rows)
    with pytest.raises(ConfigError, match="holds no index"):
        sm.Index.create(tmp_path, model, rows)
    with pytest.raises(ArtifactError, match="names no model"):
        sm.Index.open(tmp_path / "idx")


def test_a_model_without_a_common_space_is_refused(home: Path, tmp_path: Path) -> None:
    model = sm.fit(home / "train.csv", target="price", ignore=["sku", "photo"], overrides=QUICK[:2], quiet=True)
    with pytest.raises(ConfigError, match="no common space"):
        sm.Index.create(tmp_path / "idx", model, home / "gallery.csv")


def test_on_the_command_line(home: Path, tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "my idx"
    code, stdout, wrong = cli(
        "index", home / "run", home / "gallery.csv", "--out", out, "--id", "sku", "--show", "note,price"
    )
    assert code == 0, wrong
    assert "1 row without any of photo, note not indexed: 8" in wrong
    code, stdout, wrong = cli("search", out, "the", "blue one", "--filter", "price < 20", "--top", "3")
    assert code == 0, wrong
    assert "the blue one" in stdout
    code, stdout, wrong = cli("search", out, "--photo", home / "图 gallery" / "一 2.png", "--json", "--top", "2")
    assert code == 0, wrong
    assert [hit["side"] for hit in json.loads(stdout)["hits"]] == ["note", "note"]
    code, stdout, wrong = cli("search", out, "--row", "gallery 3", "--filter", "price > 900")
    assert (code, stdout.strip()) == (0, "no row satisfies the filter")
    code, _, wrong = cli("search", out, "--sound", "a.wav")
    assert code == 2
    assert "no column 'sound'" in wrong
    code, _, wrong = cli("index", home / "run", "--out", out, "--remove", "gallery 3")
    assert code == 0, wrong
    assert "22 rows left" in wrong
    code, _, wrong = cli("index", home / "run", home / "gallery.csv", "--out", out, "--id", "sku", "--add", "--replace")
    assert code == 0, wrong
    assert len(sm.Index.open(out)) == 23
    code, _, wrong = cli("search", tmp_path / "none", "red")
    assert code == 2
    assert "no such index" in wrong
