"""The client's side of a live stream: where chunks come from, and who answers them, a model here or a server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from sensorium.codecs.audio import MINUTES, read_sound
from sensorium.codecs.series import read_series
from sensorium.core.errors import ConfigError, DataError, MissingExtraError
from sensorium.core.modality import Array, Blob
from sensorium.data.files.media_access import Under
from sensorium.predictor import Predictor
from sensorium.streaming.stream_session import HEADER, Session, Setup

_STEPS = 2**20


def of_file(path: Path, kind: str, rate: float | None) -> tuple[Array, float]:
    """A whole recording: samples ``[T, 1]`` int16, or readings ``[T, C]`` float32; and its rate."""
    blob = Under(path.parent).open(path.name)
    assert isinstance(blob, Blob)
    if kind == "series":
        return read_series(blob, _STEPS).astype(np.float32), rate or 1.0
    signal, found, *_ = read_sound(blob, MINUTES * 60.0)
    return np.clip(np.round(signal * 32768), -32768, 32767).astype(np.int16)[:, None], float(found)


def cut(steps: Array, size: int, rate: float | None = None) -> Iterator[Array]:
    """A recording in chunks; with a rate, each only when it would have been heard."""
    start = time.monotonic()
    for at in range(0, len(steps), size):
        chunk = steps[at : at + size]
        if rate is not None:
            time.sleep(max(start + (at + len(chunk)) / rate - time.monotonic(), 0))
        yield chunk


def of_stream(file: IO[bytes], kind: str, channels: int, size: int) -> Iterator[Array]:
    """Chunks from a pipe: 16-bit samples as they are, or a series as lines of numbers."""
    if kind == "series":
        for line in file:
            try:
                cells = [float(cell) if cell.strip() else np.nan for cell in line.decode().replace(",", " ").split()]
            except ValueError:
                raise DataError(f"not a line of numbers: {line[:40]!r}") from None
            if cells:
                yield _checked(np.array([cells], np.float32), channels)
        return
    while data := file.read(2 * size):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2")[:, None]


def of_microphone(rate: float, size: int) -> Iterator[Array]:
    """Chunks from the microphone, until Ctrl-C."""
    try:
        import sounddevice
    except (ImportError, OSError):  # OSError: the library is there, PortAudio is not
        raise MissingExtraError("a microphone", "microphone") from None
    with sounddevice.RawInputStream(samplerate=rate, channels=1, dtype="int16", blocksize=size) as stream:
        while True:
            data, _ = stream.read(size)
            yield np.frombuffer(data, "<i2")[:, None]


def here(predictor: Predictor, setup: Setup, chunks: Iterable[Array]) -> Iterator[dict[str, Any]]:
    """The answers of a model in this process, as a server gives them; the summary comes last."""
    session = Session(predictor.schema, setup)
    at = 0
    for number, chunk in enumerate(chunks):
        arrived = time.monotonic()
        found = session.push(HEADER.pack(number, at) + _bytes(chunk))
        at += len(chunk)
        for window in found:
            start = time.monotonic()
            (prediction,) = predictor.predict([session.row(window)])
            now = time.monotonic()
            yield session.told(window, prediction.to_json(), now - arrived, now - start)
    yield {"summary": session.summary()}


def there(url: str, setup: Setup, chunks: Iterable[Array], *, key: str | None = None) -> Iterator[dict[str, Any]]:
    """The answers of a server; the summary comes last. ``round_trip_ms`` is from sending a window's last chunk."""
    from threading import Thread

    try:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect
    except ImportError:
        raise MissingExtraError("a stream to a server", "serve") from None
    address = url.rstrip("/").replace("http", "ws", 1) + ("" if url.rstrip("/").endswith("/stream") else "/stream")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    failed: list[BaseException] = []
    sent: list[tuple[int, float]] = []

    def send() -> None:
        at = 0
        try:
            for number, chunk in enumerate(chunks):
                message = HEADER.pack(number, at) + _bytes(chunk)
                at += len(chunk)
                sent.append((at, time.monotonic()))
                socket.send(message)
            socket.send('{"end": true}')
        except WebSocketException:
            pass  # the other side says why
        except BaseException as error:
            failed.append(error)
            socket.close()

    try:
        with connect(address, additional_headers=headers, max_size=2**22, open_timeout=10) as socket:
            socket.send(json.dumps(vars(setup)))
            told = _said(socket.recv(30))
            sender = Thread(target=send, daemon=True)
            sender.start()
            for message in socket:
                said = _said(message)
                if "window" in said:
                    end = round(said["start"] * setup.rate) + told["window_steps"]
                    went = next((when for at, when in sent if at >= end), None)
                    if went is not None:
                        said["round_trip_ms"] = round(1000 * (time.monotonic() - went), 3)
                yield said
            sender.join(10)
    except (OSError, WebSocketException) as error:
        if not failed:
            raise ConfigError(f"{address} does not answer: {str(error)[:100]}", fix="is sensorium serve running?") from None
    if failed:
        raise failed[0]


def _said(message: str | bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(message)
    if "error" in said:
        raise DataError(f"the server says: {said['error']['problem']}", fix=said["error"].get("fix"))
    return said


def _bytes(chunk: Array) -> bytes:
    return chunk.astype("<i2" if chunk.dtype == np.int16 else "<f4").tobytes()


def _checked(chunk: Array, channels: int) -> Array:
    if chunk.shape[1] != channels:
        raise DataError(f"a line has {chunk.shape[1]} numbers, in training there were {channels} channels")
    return chunk
