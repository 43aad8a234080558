"""Refused requests: the status, the column, the reason and the cost."""

from __future__ import annotations

import base64
import io
import json
import logging
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from sensorium.core.errors import ConfigError
from sensorium.data.files.media_access import FILE_NAME_REFUSED
from sensorium.predictor import Predictor
from sensorium.serve.limits import Limits

SMALL = Limits(body=200_000, file=100_000, text=500, values=2000, rows=4, parts=8)
KEY = "a key of some length"


@pytest.fixture(scope="module")
def small(make_client: Any) -> Any:
    return make_client(limits=SMALL)


def refused(answer: Any, status: int, problem: str, column: str | None = None) -> dict[str, Any]:
    """Check that an answer is the expected error, and return it."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["status"] == status
    assert problem in error["problem"], error
    if column is not None:
        assert error["column"] == column
    assert "Traceback" not in answer.text
    return error


# ── cells ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "cell",
    [
        "/etc/passwd",
        "photo.png",
        "../run/manifest.json",
        "http://a.example/b.png",
        "file:///etc/passwd",
        "a\0b",
        "．．/ｅtc",
    ],
)
@pytest.mark.parametrize("column", ["photo", "sound", "sensor"])
def test_cells_cannot_name_files(small: Any, column: str, cell: str) -> None:
    refused(small.post("/predict", json={"row": {column: cell}}), 422, FILE_NAME_REFUSED, column)
    refused(small.post("/predict", files={column: (None, cell)}), 422, FILE_NAME_REFUSED, column)


@pytest.mark.parametrize("cell", [{"path": "/etc/passwd"}, {"bytes": 10**12, "path": "x"}, {"url": "http://a.example"}])
def test_mappings_cannot_name_files(small: Any, cell: Any) -> None:
    refused(small.post("/predict", json={"row": {"photo": cell}}), 422, FILE_NAME_REFUSED, "photo")
    text = json.dumps(cell)  # the same as text
    assert small.post("/predict", json={"row": {"photo": text}}).status_code == 422


def test_text_may_look_like_a_path(small: Any) -> None:
    assert small.post("/predict", json={"row": {"note": "/etc/passwd"}}).status_code == 200


def test_unreadable_cells_are_errors_or_missing(small: Any, predictor: Predictor) -> None:
    row = {"photo": {"base64": base64.b64encode(b"no picture").decode()}, "temperature": 21, "when": "soon"}
    error = refused(small.post("/predict", json={"rows": [{}, row]}), 422, "'soon' is not a date")
    assert (error["row"], error["column"]) == (2, "when")
    assert [cell["column"] for cell in error["cells"]] == ["when", "photo"]
    answer = small.post("/predict?bad=missing", json={"row": row}).json()
    assert "photo" in answer["missing"]
    assert answer["targets"] == predictor.predict([{"temperature": 21, "when": "soon"}], batch_invariant=True)[0].targets
    refused(small.post("/predict?bad=good", json={"row": row}), 422, "bad must be refuse or missing")


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def long_wav() -> bytes:
    size = 2 * 100_000_000
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVE" + form + b"data" + struct.pack("<I", size) + b"\0" * 200


def climbing(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("../../escaped.png", b"x")
    else:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../../escaped.png"))
    return file.getvalue()


HOSTILE = {
    "picture bomb": ("photo", bomb(), "more pixels than"),
    "hundred million samples": ("sound", long_wav(), "cut short"),
    "zip": ("photo", climbing("zip"), "not a picture"),
    "tar": ("photo", climbing("tar"), "not a picture"),
    "svg": ("photo", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "SVG"),
    "html": ("photo", b"<!doctype html><script>alert(1)</script>", "web page"),
    "entities": ("photo", b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>', "SVG"),
    "empty": ("photo", b"", "empty"),
    "cut picture": ("photo", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "picture"),
    "object array": ("sensor", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "NPY"),
    "huge array": (
        "sensor",
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 9), }\n",
        "",
    ),
    "deep series": ("sensor", b"[" * 1500, ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_little_memory(small: Any, name: str) -> None:
    column, data, problem = HOSTILE[name]
    tracemalloc.start()
    try:
        answer = small.post("/predict", files={column: ("../../evil\r\n.png", data)})
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    refused(answer, 422, problem, column)
    assert most < 50_000_000


@pytest.mark.parametrize(
    "row",
    [
        {"note": "\ud800"},
        {"note": "half \udfff a character"},
        {"sensor": "\ud83d"},
        {"\ud800": 1},
        {"note": {"text": "x"}},
        {"room": [["x"]]},
        {"photo": {"base64": "not base64!"}},
        {"photo": {"base64": 3}},
        {"photo": 17},
        {"sensor": [[1, 2], [3]]},
        {"sensor": [[1e400, 2, 3]]},
        {"sensor": ["x"]},
        {"temperature": "warm"},
        {"sensor": [[10**400, 1, 1]]},
        {"photo": "data:image/png;base64,x"},
        {"photo": "data:,x"},
        {"note": "data:\ud800"},
        {"phtoo": "x"},
        {"photo": {"part": "x"}},
    ],
)
def test_invalid_cells_are_refused(small: Any, row: dict[str, Any]) -> None:
    answer = small.post("/predict", content=json.dumps({"row": row}), headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["problem"]


@pytest.mark.parametrize(
    "text", ["‮evil", "e\u0301" * 200, "\U0001f469‍\U0001f467" * 50, "ﷺ" * 400, "a\0b", "１２３", "\x1b[31m"]
)
def test_unusual_texts_are_accepted(small: Any, text: str) -> None:
    assert small.post("/predict", json={"row": {"note": text}}).status_code == 200


def test_huge_numbers(small: Any) -> None:
    for column in ("temperature", "when", "room", "note"):
        answer = small.post("/predict", json={"row": {column: 10**400}})
        assert answer.status_code in (200, 422), answer.text


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_invalid_bodies_are_refused(small: Any) -> None:
    def post(content: Any, kind: str = "application/json", **headers: str) -> Any:
        return small.post("/predict", content=content, headers={"content-type": kind, **headers})

    refused(post(b"{"), 400, "not JSON")
    refused(post(b"\xff\xfe{}"), 400, "not JSON")
    refused(post(b'{"row": {"temperature": NaN}}'), 400, "NaN is not JSON")
    refused(post(b'{"row":' + b"[" * 1900 + b"]" * 1900 + b"}"), 400, "nested too deeply")
    assert post(b'{"row": {"sensor": ' + b"[" * 900 + b"]" * 900 + b"}}").status_code == 422
    refused(post(b'{"row": {"temperature": ' + b"9" * 10_000 + b"}}"), 400, "not JSON")
    refused(post(b"[]"), 422, "either row or rows")
    refused(post(b'{"row": {}, "rows": []}'), 422, "either row or rows")
    refused(post(b'{"rows": {}}'), 422, "rows must be a list")
    refused(post(b'{"row": 3}'), 422, "a row must be an object")
    refused(post(json.dumps({"rows": [{}] * 5})), 413, "5 rows in one request")
    refused(post(b'{"rows": [' + b"{}," * 3000 + b"{}]}"), 413, "more than 2000 values")
    refused(post(b"x", "text/plain"), 415, "the content type text/plain is not supported")
    refused(post(b"x", ""), 415, "no Content-Type")
    refused(post(b"x", **{"content-encoding": "gzip"}), 415, "compressed")
    refused(post(b"x", "multipart/form-data"), 400, "the parts cannot be read")
    refused(post(b"--a\r\nrubbish", "multipart/form-data; boundary=a"), 400, "the parts cannot be read")
    refused(post(json.dumps({"row": {"note": "x" * 501}})), 413, "501 characters", "note")
    refused(post(json.dumps({"row": {"note": "data:" + "x" * 501}})), 413, "506 characters", "note")
    refused(small.post("/predict", files={"photo": b"x" * 100_001}), 413, "a file of", "photo")
    refused(small.post("/predict", files=[("photo", b"x"), ("photo", b"y")]), 422, "2 parts for one cell", "photo")
    refused(small.post("/predict", files={f"p{i}": b"x" for i in range(9)}), 413, "more than 8 parts")
    refused(small.post("/predict", files={"note": ("n.txt", b"\xff\xfe")}), 422, "not text in UTF-8", "note")
    refused(small.get("/predict"), 405, "Method")
    refused(small.get("/nowhere"), 404, "Not Found")


def test_body_size_is_limited_while_reading(small: Any) -> None:
    """A body with a length is refused before reading, others once they exceed the limit."""
    count = 0

    def endless() -> Iterator[bytes]:
        nonlocal count
        for _ in range(100):
            count += 1
            yield b" " * 10_000

    refused(small.post("/predict", content=endless(), headers={"content-type": "application/json"}), 413, "larger than")
    answer = small.post("/predict", content=b" " * 200_001, headers={"content-type": "application/json"})
    refused(answer, 413, "larger than")
    assert answer.headers["connection"] == "close"
    wrong = small.post("/predict", content=b"{}", headers={"content-length": "-1", "content-type": "application/json"})
    refused(wrong, 413, "larger than")
    assert "sensorium_held_bytes 0.0" in small.get("/metrics").text


def test_full_queue_and_full_memory(make_client: Any) -> None:
    client = make_client(limits=Limits(queue=1))
    with client.app.state.services["house"].batcher.admit(1):
        answer = client.post("/predict", json={"row": {}})
        refused(answer, 503, "1 rows are in progress")
        assert answer.headers["retry-after"] == "1"
    assert client.post("/predict", json={"row": {}}).status_code == 200
    full = make_client(limits=Limits(memory=10))
    refused(full.post("/predict", json={"row": {"note": "longer than ten"}}), 503, "fill the memory")


def test_timeout(make_client: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    client = make_client(limits=Limits(seconds=0.1))
    real = predictor.answer
    monkeypatch.setattr(predictor, "answer", lambda *args: (time.sleep(0.3), real(*args))[1])
    refused(client.post("/predict", json={"row": {}}), 503, "no answer within 0.1 seconds")


def test_internal_errors_do_not_reveal_cells(
    make_client: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client()

    def broken(*_: Any) -> Any:
        raise RuntimeError("the secret cell")

    monkeypatch.setattr(predictor, "answer", broken)
    with caplog.at_level(logging.DEBUG):
        refused(client.post("/predict", json={"row": {"note": "the secret cell"}}), 500, "internal server error")
        client.post("/predict", json={"row": {"photo": "the secret cell"}})
    assert "RuntimeError at" in caplog.text
    assert "secret" not in caplog.text.replace("raise RuntimeError", "")


def test_api_key(make_client: Any) -> None:
    client = make_client(key=KEY)
    for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer " + KEY[:-1]}, {"authorization": "Basic " + KEY}):
        answer = client.post("/predict", json={"row": {}}, headers=headers)
        refused(answer, 401, "an API key is required")
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}):
        assert client.post("/predict", json={"row": {}}, headers=headers).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/").status_code == 200
    for path in ("/schema", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 401
    with pytest.raises(ConfigError, match="is too short"):
        make_client(key="short")


def test_limits_and_model_names_are_validated(make_client: Any, predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="the limit rows is 0"):
        Limits(rows=0)
    with pytest.raises(ConfigError, match="cannot be part of a URL"):
        make_client({"a/b": predictor})
    from sensorium.serve.app import create

    with pytest.raises(ConfigError, match="no model to serve"):
        create({})


def test_duplicate_json_keys_are_refused(small: Any) -> None:
    for body in (
        b'{"row": {}, "row": {"note": "b"}}',
        b'{"row": {"note": "a", "note": "b"}}',
        b'{"row": {"sensor": [{"a": 1, "a": 2}]}}',
    ):
        answer = small.post("/predict", content=body, headers={"content-type": "application/json"})
        refused(answer, 400, "occurs twice in one object")
