"""Searching an index over HTTP: hits as in Python, media of rows, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")

import sensorium as sm
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.retrieval.shown_media import browser_type

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index, a model beside it, and a file that no row may show."""
    folder = tmp_path_factory.mktemp("shop")
    table, rows = folder / "goods", []
    table.mkdir()
    for i in range(24):
        colour = list(COLOURS)[i % 3]
        Image.fromarray(np.full((8, 8, 3), COLOURS[colour], np.uint8)).save(table / f"{i}.png")
        rows.append({"photo": f"{i}.png", "note": f"the {colour} one", "price": i})
    rows[5]["photo"] = "../secret.png"
    shutil.copy(table / "0.png", folder / "secret.png")
    (table / "6.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    model = sm.fit(
        rows,
        task="retrieval",
        columns={"photo": "image", "note": "text"},
        ignore=["price"],
        media=table,
        overrides=["model.size=tiny", "training.epochs=3"],
        out=folder / "run",
        quiet=True,
    )
    sm.Index.create(folder / "idx", model, rows, run=folder / "run", media=table)
    return folder


@pytest.fixture(scope="module")
def index(shop: Path) -> sm.Index:
    return sm.Index.open(shop / "idx", device="cpu", media=UPLOADS_ONLY)


@pytest.fixture(scope="module")
def client(make_client: Any, index: sm.Index) -> Any:
    return make_client({"shop": index.predictor}, indexes={"shop": index})


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_hits_are_those_of_python(client: Any, index: sm.Index, shop: Path) -> None:
    expected = index.search("the blue one", where="price < 20", top=4)
    answer = client.post("/search?top=4&filter=price<20", json={"row": {"note": "the blue one"}})
    assert ids(answer) == [hit.id for hit in expected]
    first = answer.json()["hits"][0]
    assert first["score"] == pytest.approx(expected[0].score, abs=1e-6)
    assert first["cells"]["price"] == expected[0].cells["price"]
    picture = (shop / "goods" / "1.png").read_bytes()
    by_photo = client.post("/models/shop/search?among=note&top=2", files={"photo": ("q.png", picture)})
    assert ids(by_photo) == [hit.id for hit in index.search({"photo": picture}, among=["note"], top=2)]
    like = client.post("/search?row=3&top=3", json={"row": {}})
    assert ids(like) == [hit.id for hit in index.search(row="3", top=3)]
    several = client.post("/search?top=1", json={"rows": [{"note": "the red one"}, {"note": "the blue one"}]}).json()
    assert [len(one["hits"]) for one in several["answers"]] == [1, 1]


def test_media_of_rows_are_shown_without_their_file_names(client: Any, shop: Path) -> None:
    (hit,) = client.post("/search?row=2&top=1&filter=price=0", json={"row": {}}).json()["hits"]
    address = hit["cells"]["photo"]["media"]
    assert "png" not in address
    shown = client.get(address)
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.content == (shop / "goods" / "0.png").read_bytes()
    for row, column in (("6", "photo"), ("7", "photo"), ("99", "photo"), ("1", "note"), ("1", "../run"), ("", "")):
        refused = client.get("/models/shop/media", params={"row": row, "column": column})
        assert refused.status_code == 404, (row, column)
        assert str(shop) not in refused.text
        assert "secret" not in refused.text


@pytest.mark.parametrize(
    ("address", "body", "problem"),
    [
        ("/search?top=0", {"row": {"note": "x"}}, "top must be"),
        ("/search?top=9999", {"row": {"note": "x"}}, "top must be"),
        ("/search?filter=price", {"row": {"note": "x"}}, "filter"),
        ("/search?filter=colour=red", {"row": {"note": "x"}}, "no column 'colour'"),
        ("/search?among=sound", {"row": {"note": "x"}}, "no side 'sound'"),
        ("/search?row=3", {"row": {"note": "x"}}, "either a query or a row"),
        ("/search?row=99", {"row": {}}, "no row '99'"),
        ("/search", {"row": {}}, "the query is empty"),
        ("/search", {"row": {"photo": "goods/0.png"}}, "a file may not be named here"),
        ("/search", {"row": {"sound": "x"}}, "no column 'sound'"),
    ],
)
def test_invalid_searches_are_refused_with_a_message(client: Any, address: str, body: Any, problem: str) -> None:
    answer = client.post(address, json=body)
    assert answer.status_code == 422
    assert problem in answer.json()["error"]["problem"]


def test_the_schema_describes_the_index(client: Any, make_client: Any, index: sm.Index) -> None:
    described = client.get("/schema").json()["search"]
    assert described["rows"] == 24
    assert (described["words"], described["media"]) == ("note", ["photo"])
    assert "/search" in client.get("/openapi.json").json()["paths"]
    plain = make_client({"shop": index.predictor})
    assert "search" not in plain.get("/schema").json()
    assert plain.post("/search", json={"row": {}}).status_code == 404
    locked = make_client({"shop": index.predictor}, indexes={"shop": index}, key="0123456789abcdef")
    assert locked.post("/search", json={"row": {}}).status_code == 401
    assert locked.get("/models/shop/media?row=1&column=photo").status_code == 401
    assert locked.get("/search.js").status_code == 200


def test_only_formats_without_scripts_are_shown() -> None:
    assert browser_type(b"RIFF....WAVEfmt ") == "audio/wav"
    assert browser_type(b"\0\0\0\x18ftypmp42") == "video/mp4"
    assert browser_type(b"<html><script>") is None
    assert browser_type(b"%PDF-1.7") is None
    assert browser_type(b"") is None
