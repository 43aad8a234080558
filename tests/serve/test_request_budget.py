"""Budgets of a request: too large requests are refused by their headers, before anything is decoded."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sensorium.predictor import Predictor
from sensorium.serve.limits import Limits
from sensorium.serve.model_service import ModelService
from sensorium.serve.request_budget import CHEAP_BYTES, RequestBudget
from sensorium.streaming.stream_session import wav

TIGHT = Limits(request_pixels=5000, request_samples=20_000, request_tokens=60)


def png(wide: int, high: int, *, complete: bool = True) -> bytes:
    """A grey image; with ``complete=False`` only its header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = chunk(b"IDAT", zlib.compress(bytes((1 + wide) * high))) if complete else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 0))
        + pixels
        + chunk(b"IEND", b"")
    )


def several(client: Any, column: str, data: bytes, times: int, path: str = "/predict") -> Any:
    rows = json.dumps([{column: {"part": "same"}}] * times)
    return client.post(path, files={"@rows": (None, rows), "same": ("same.bin", data)})


@pytest.fixture(scope="module")
def tight(make_client: Any) -> Any:
    return make_client(limits=TIGHT)


@pytest.mark.parametrize("path", ["/predict", "/predict?bad=missing", "/explain", "/embed"])
def test_request_over_budget_is_refused_before_decoding(
    tight: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    decoded: list[Any] = []
    for column in ("photo", "sound", "note"):
        reader = predictor.schema.columns[column].reader
        monkeypatch.setattr(reader, "encode", lambda cell, real=reader.encode: decoded.append(cell) or real(cell))
    words = "the window, the kettle and the door " * 3
    for answer, name, requested, allowed in (
        (several(tight, "photo", png(50, 40), 3, path), "pixels", 6000, 5000),
        (several(tight, "sound", wav(np.zeros(8000, np.int16), 8000), 3, path), "samples", 24_000, 20_000),
        (tight.post(path, json={"rows": [{"note": words}] * 4}), "tokens", None, 60),
    ):
        assert answer.status_code == 413, answer.text
        error = answer.json()["error"]
        assert (error["budget"], error["allowed"]) == (name, allowed)
        assert error["asked"] == requested or (requested is None and error["asked"] > allowed)
        assert f"{allowed:,} that one request may have" in error["problem"]
        assert f"--max-request-{name}" in error["fix"]
    assert decoded == []


def test_budgets_do_not_change_allowed_requests(tight: Any, predictor: Predictor) -> None:
    data = png(50, 40)
    want = [one.to_json() for one in predictor.predict([{"photo": data}] * 2, batch_invariant=True)]
    assert several(tight, "photo", data, 2).json()["predictions"] == want
    assert tight.post("/predict", json={"rows": [{"note": "the kettle"}] * 4}).status_code == 200
    limits = tight.get("/schema").json()["limits"]
    assert (limits["request_pixels"], limits["request_samples"], limits["request_tokens"]) == (5000, 20_000, 60)
    # A cell that the modality refuses by its header does not count towards the budget.
    assert several(tight, "photo", png(50_000, 50_000, complete=False), 2).status_code == 422


def test_default_budget_refuses_eight_large_images(client: Any) -> None:
    answer = several(client, "photo", png(8000, 8000, complete=False), 8)
    assert (answer.status_code, answer.json()["error"]["asked"]) == (413, 512_000_000)


def test_cheap_headers_and_decoding_cost(predictor: Predictor) -> None:
    from sensorium.data.files.media_access import UPLOADS_ONLY

    budget = RequestBudget(predictor.schema, Limits(), UPLOADS_ONLY)
    assert budget.is_cheap([{"photo": png(9, 9), "note": "a"}, {}])
    assert not budget.is_cheap([{"photo": png(9, 9) + bytes(CHEAP_BYTES)}])
    assert not budget.is_cheap([{"photo": b"\0\0\0\x18ftypmp42"}])  # a video: its size may need decoding
    assert not budget.is_cheap([{"sound": b"ID3" + bytes(70_000)}])
    cost = budget.measure([{"photo": png(100, 50), "sound": wav(np.zeros(300, np.int16), 8000), "note": "four"}])
    assert (cost.decoded, cost.characters) == (5300, 4)
    assert cost.light
    assert not cost.huge
    assert budget.measure([{"photo": png(5000, 5000, complete=False)}]).huge


class Gate:
    """Blocks the decoding of images above a size until it is opened."""

    def __init__(self, reader: Any, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        self.open, self.started = threading.Event(), 0
        real = reader.encode

        def encode(cell: Any) -> Any:
            if len(cell.data) > size:
                self.started += 1
                assert self.open.wait(30)
            return real(cell)

        monkeypatch.setattr(reader, "encode", encode)


def noise(side: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("side", [1000, 4200])  # large, and huge
def test_small_requests_are_answered_while_large_images_are_decoded(
    make_client: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    client = make_client()
    gate = Gate(predictor.schema.columns["photo"].reader, monkeypatch, 300_000)
    large, small = noise(side), noise(40)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(client.post, "/predict", files={"photo": ("a.png", large)}) for _ in range(4)]
        while not gate.started:
            time.sleep(0.01)
        for _ in range(5):
            assert client.post("/predict", files={"photo": ("a.png", small)}).status_code == 200
            assert client.post("/embed", files={"photo": ("a.png", small)}).status_code == 200
        assert not any(one.done() for one in waiting)
        gate.open.set()
        want = predictor.predict([{"photo": large}], batch_invariant=True)[0].to_json()
        assert [one.result(60).json() for one in waiting] == [want] * 4


async def _cancel_after(service: ModelService, rows: list[dict[str, Any]], started: Any) -> None:
    request = asyncio.create_task(service.predict(rows))
    while not started():
        await asyncio.sleep(0.01)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


def test_decoding_stops_after_cancellation(make_client: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    service: ModelService = make_client().app.state.services["house"]
    gate = Gate(predictor.schema.columns["photo"].reader, monkeypatch, 300_000)
    large = noise(1000)
    asyncio.run(_cancel_after(service, [{"photo": large}] * 6, lambda: gate.started))
    gate.open.set()
    service._large.submit(lambda: None).result(10)
    time.sleep(0.1)
    assert gate.started <= 2  # of six: only those already started are finished
    assert service.batcher.load == 0


def test_client_disconnect_cancels_the_request(address: str, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    import httpx

    gate = Gate(predictor.schema.columns["photo"].reader, monkeypatch, 300_000)
    body = json.dumps({"rows": [{"photo": {"base64": base64.b64encode(noise(1000)).decode()}}] * 6}).encode()
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while not gate.started:
            time.sleep(0.01)
    with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
        until = time.monotonic() + 10
        while (text := client.get("/metrics").text) and 'route="/predict",status="499"' not in text:
            assert time.monotonic() < until, text
            time.sleep(0.05)
        assert 'sensorium_rows_inside{model="house"} 0.0' in text
    gate.open.set()
    assert gate.started <= 2
