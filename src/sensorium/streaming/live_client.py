"""Client of a live stream: sources of chunks, and prediction by a local model or a server."""

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
from sensorium.data.files.media_access import LocalFiles
from sensorium.predictor import Predictor
from sensorium.streaming.live_labels import along
from sensorium.streaming.stream_session import HEADER, Session, Setup

_STEPS = 2**20


def read_recording(path: Path, kind: str, rate: float | None) -> tuple[Array, float]:
    """Read a recording.

    Args:
        path: The file.
        kind: ``audio`` or ``series``.
        rate: The sampling rate of a series in Hz; None: 1.

    Returns:
        Samples ``[T, 1]`` int16 of a sound, or ``[T, C]`` float32 of a series, and the sampling rate in Hz.
    """
    blob = LocalFiles(path.parent).open(path.name)
    assert isinstance(blob, Blob)
    if kind == "series":
        return read_series(blob, _STEPS).astype(np.float32), rate or 1.0
    signal, sampling_rate, *_ = read_sound(blob, MINUTES * 60.0)
    return np.clip(np.round(signal * 32768), -32768, 32767).astype(np.int16)[:, None], float(sampling_rate)


def split(steps: Array, size: int, rate: float | None = None) -> Iterator[Array]:
    """Split a recording ``steps`` into chunks of ``size`` steps; with a ``rate`` in Hz, yield them in real time."""
    start = time.monotonic()
    for at in range(0, len(steps), size):
        chunk = steps[at : at + size]
        if rate is not None:
            time.sleep(max(start + (at + len(chunk)) / rate - time.monotonic(), 0))
        yield chunk


def read_pipe(file: IO[bytes], kind: str, channels: int, size: int) -> Iterator[Array]:
    """Read chunks from a pipe.

    Args:
        file: The pipe: 16-bit samples, or lines of numbers for a series.
        kind: ``audio`` or ``series``.
        channels: Number of channels of a series.
        size: Samples per chunk of a sound; each line of a series is a chunk.

    Raises:
        DataError: A line is not a line of ``channels`` numbers.
    """
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


def record_microphone(rate: float, size: int) -> Iterator[Array]:
    """Record chunks of ``size`` samples from the microphone at ``rate`` Hz, until Ctrl-C."""
    try:
        import sounddevice
    except (ImportError, OSError):  # OSError: the package is installed, but not PortAudio
        raise MissingExtraError("a microphone", "microphone") from None
    with sounddevice.RawInputStream(samplerate=rate, channels=1, dtype="int16", blocksize=size) as stream:
        while True:
            data, _ = stream.read(size)
            yield np.frombuffer(data, "<i2")[:, None]


def predict_locally(predictor: Predictor, setup: Setup, chunks: Iterable[Array]) -> Iterator[dict[str, Any]]:
    """Predict a stream in this process.

    Args:
        predictor: The model.
        setup: The settings of the stream.
        chunks: The chunks, ``[T, C]`` each.

    Yields:
        Answers in the format of the server; the summary is the last one.
    """
    session = Session(predictor.schema, setup, along(predictor.model, setup.column))
    at = 0
    for number, chunk in enumerate(chunks):
        arrived = time.monotonic()
        windows = session.push(HEADER.pack(number, at) + _bytes(chunk))
        at += len(chunk)
        for window in windows:
            start = time.monotonic()
            (prediction,) = predictor.predict([session.row(window)])
            now = time.monotonic()
            yield session.answer(window, prediction.to_json(), now - arrived, now - start)
    yield {"summary": session.summary()}


def predict_remotely(
    url: str, setup: Setup, chunks: Iterable[Array], *, key: str | None = None
) -> Iterator[dict[str, Any]]:
    """Predict a stream on a server.

    Args:
        url: The address of the server.
        setup: The settings of the stream.
        chunks: The chunks, ``[T, C]`` each.
        key: The API key of the server, if it needs one.

    Yields:
        The answers, with ``round_trip_ms`` since the last chunk of the window was sent; the summary is the last one.

    Raises:
        ConfigError: The server does not respond.
        DataError: The server refused the stream.
    """
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
            pass  # the server sends the reason
        except BaseException as error:
            failed.append(error)
            socket.close()

    try:
        with connect(address, additional_headers=headers, max_size=2**22, open_timeout=10) as socket:
            socket.send(json.dumps(vars(setup)))
            window = _parse(socket.recv(30))
            sender = Thread(target=send, daemon=True)
            sender.start()
            for message in socket:
                answer = _parse(message)
                if "window" in answer:
                    end = round(answer["start"] * setup.rate) + window["window_steps"]
                    sent_at = next((when for at, when in sent if at >= end), None)
                    if sent_at is not None:
                        answer["round_trip_ms"] = round(1000 * (time.monotonic() - sent_at), 3)
                yield answer
            sender.join(10)
    except (OSError, WebSocketException) as error:
        if not failed:
            raise ConfigError(
                f"{address} does not answer: {str(error)[:100]}", fix="check that `sensorium serve` is running there"
            ) from None
    if failed:
        raise failed[0]


def _parse(message: str | bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(message)
    if "error" in answer:
        raise DataError(f"the server refused the stream: {answer['error']['problem']}", fix=answer["error"].get("fix"))
    return answer


def _bytes(chunk: Array) -> bytes:
    return chunk.astype("<i2" if chunk.dtype == np.int16 else "<f4").tobytes()


def _checked(chunk: Array, channels: int) -> Array:
    if chunk.shape[1] != channels:
        raise DataError(f"a line has {chunk.shape[1]} numbers, but the model was trained on {channels} channels")
    return chunk
