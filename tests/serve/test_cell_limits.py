"""Cells larger than the limits are refused by their headers, before decoding."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest

from sensorium.core.modality import Blob
from sensorium.core.registry import build
from sensorium.predictor import Predictor
from sensorium.serve.limits import Limits
from sensorium.streaming.stream_session import wav
from sensorium.testing import samples

STRICT = Limits(pixels=40 * 40, duration=0.5, tokens=12)


def picture(wide: int, high: int, kind: str = "PNG") -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (wide, high), (9, 99, 199)).save(file, kind)
    return file.getvalue()


def sound(seconds: float, kind: str = "WAV") -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(round(8000 * seconds))), 8000, format=kind)
    return file.getvalue()


TOO_LARGE = [
    ("photo", picture(41, 40), "1,640 pixels are more than the allowed 1,600"),
    ("photo", picture(400, 300, "JPEG"), "120,000 pixels are more than the allowed 1,600"),
    ("sound", sound(0.6), "0.6 seconds are more than the allowed 0.5"),
    ("sound", sound(2.0, "FLAC"), "2.0 seconds are more than the allowed 0.5"),
    ("note", "壶" * 40, "tokens are more than the allowed 12"),
    ("note", "the window, the kettle and the door " * 5, "tokens are more than the allowed 12"),
]


@pytest.fixture(scope="module")
def strict(make_client: Any) -> Any:
    return make_client(limits=STRICT)


@pytest.mark.parametrize(("column", "cell", "problem"), TOO_LARGE)
def test_too_large_cells_are_refused_before_decoding(
    strict: Any, predictor: Predictor, column: str, cell: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Any] = []
    reader = predictor.schema.columns[column].reader
    real = reader.encode
    monkeypatch.setattr(reader, "encode", lambda cell: decoded.append(cell) or real(cell))
    part = {"base64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell
    for answer in (
        strict.post("/predict", files={column: cell if isinstance(cell, bytes) else (None, cell)}),
        strict.post("/predict?bad=missing", json={"row": {column: part}}),
        strict.post("/embed", json={"rows": [{}, {column: part}]}),
    ):
        assert answer.status_code == 413, answer.text
        error = answer.json()["error"]
        assert problem in error["problem"]
        assert error["column"] == column
        assert error["row"] in (1, 2)
        assert error["fix"]
    assert decoded == []


def test_largest_allowed_cells_are_answered(strict: Any, predictor: Predictor) -> None:
    row = {"photo": picture(40, 40), "sound": sound(0.5), "note": "the kettle"}
    answer = strict.post("/predict", files={n: c if isinstance(c, bytes) else (None, c) for n, c in row.items()})
    assert answer.json() == predictor.predict([row], batch_invariant=True)[0].to_json()
    # Unreadable files are reported by the decoder.
    answer = strict.post("/predict", files={"photo": b"no picture"})
    assert answer.status_code == 422
    assert "not a picture" in answer.json()["error"]["problem"]


def test_schema_lists_the_limits(strict: Any, client: Any) -> None:
    def limits(client: Any) -> dict[str, Any]:
        return {column["name"]: column["limits"] for column in client.get("/schema").json()["columns"]}

    assert limits(strict)["photo"] == {"pixels": 1600}
    assert limits(strict)["sound"] == {"seconds": 0.5}
    assert limits(strict)["note"] == {"tokens": 12}
    assert limits(client)["photo"] == {"pixels": 64 * 2**20}
    assert limits(client)["sound"] == {"seconds": 1800}
    assert limits(client)["note"] == limits(client)["temperature"] == {}


def test_limits_above_those_of_the_modality_are_ignored(predictor: Predictor) -> None:
    bounds = predictor.schema.columns["photo"].reader.bounds
    assert Limits(pixels=2**40).below(bounds) == Limits().below(bounds) == {}
    assert Limits(pixels=9).below(bounds) == {"pixels": 9}


def video_file(seconds: float) -> bytes:
    av = pytest.importorskip("av", reason="videos need sensorium[video]")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for i in range(round(10 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i % 255, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return file.getvalue()


def test_measured_sizes_of_files() -> None:
    video = build("modalities", "video")
    assert video.measure(Blob(video_file(3.0), "a.mp4")) == {
        "seconds": pytest.approx(3.0, abs=0.11),
        "pixels": 64 * 48,
        "frames": video.frames,
    }
    audio = build("modalities", "audio")
    assert audio.measure(Blob(wav(np.zeros(4000, np.int16), 8000), "a.wav")) == {"seconds": 0.5, "samples": 4000}
    assert audio.measure(Blob(sound(1.25, "OGG"), "a.ogg"))["seconds"] == pytest.approx(1.25)
    images = build("modalities", "images")
    assert images.measure([Blob(picture(5, 4), "a"), Blob(picture(7, 6), "b")]) == {"pixels": 42}
    for kind in ("image", "images", "video", "audio"):
        cell = Blob(b"nothing of the kind", "x")
        assert not any(build("modalities", kind).measure([cell] if kind == "images" else cell).values())
    text = build("modalities", {"kind": "text", "length": 64})
    text.fit(samples.cells("text"))
    for cell in samples.cells("text"):
        assert text.measure(cell)["tokens"] >= len(text.encode(cell))
    assert json.dumps(text.measure("")) == "{}"
