"""Client of a live stream: sources of chunks, and prediction by a local model or a server."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from sensorium.codecs.audio import MINUTES, read_sound
from sensorium.codecs.series import read_series
from sensorium.core.errors import ConfigError, DataError, MissingExtraError
from sensorium.core.modality import Array, Blob
from sensorium.data.files.media_access import LocalFiles
from sensorium.predictor import Predictor
from sensorium.streaming.joined_windows import Moment
from sensorium.streaming.live_labels import along
from sensorium.streaming.stream_session import HEADER, Session, Setup

_STEPS = 2**20
Chunk = tuple[str, Array | bytes] | tuple[str, int, Array | bytes]
"""A chunk of one of several columns: the column, perhaps the step of the stream at which it begins (else where the one
before it ends), and its steps or the bytes of an image file."""


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


def interleaved(recordings: Mapping[str, tuple[Array, float]], seconds: float, *, paced: bool) -> Iterator[Chunk]:
    """Split several recordings that begin together into chunks of ``seconds``, in order of time.

    Args:
        recordings: By column, its steps and its rate in Hz.
        seconds: Length of a chunk.
        paced: Whether they are yielded in real time.
    """
    begin = time.monotonic()
    longest = max(len(steps) / rate for steps, rate in recordings.values())
    for i in range(math.ceil(longest / seconds - 1e-9)):
        if paced:
            time.sleep(max(begin + (i + 1) * seconds - time.monotonic(), 0))
        for name, (steps, rate) in recordings.items():
            part = steps[round(i * seconds * rate) : round((i + 1) * seconds * rate)]
            if len(part):
                yield name, part


def messages(setup: Setup, chunks: Iterable[Array | Chunk]) -> Iterator[tuple[bytes, float]]:
    """Yield each of ``chunks`` as a message of the stream ``setup``, and where it ends in seconds of the stream."""
    rates, at = setup.rates, dict.fromkeys(setup.rates, 0)
    number = dict.fromkeys(rates, 0)
    order = {name: bytes([i]) if setup.columns is not None else b"" for i, name in enumerate(rates)}
    for chunk in chunks:
        name, steps = (chunk[0], chunk[-1]) if isinstance(chunk, tuple) else (setup.column, chunk)
        if isinstance(chunk, tuple) and len(chunk) == 3:
            at[name] = chunk[1]
        body = steps if isinstance(steps, bytes) else _bytes(steps)
        message = order[name] + HEADER.pack(number[name], at[name]) + body
        number[name] += 1
        at[name] += 1 if isinstance(steps, bytes) else len(steps)
        yield message, at[name] / rates[name]


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


def predict_locally(predictor: Predictor, setup: Setup, chunks: Iterable[Array | Chunk]) -> Iterator[dict[str, Any]]:
    """Predict a stream in this process.

    Args:
        predictor: The model.
        setup: The settings of the stream.
        chunks: The chunks, ``[T, C]`` each; of several columns as for ``messages``.

    Yields:
        Answers in the format of the server; the summary is the last one.
    """
    session = Session(predictor.schema, setup, along(predictor.model, setup.rates))

    def answered(moments: Iterable[Moment], arrived: float) -> Iterator[dict[str, Any]]:
        for moment in moments:
            start = time.monotonic()
            (prediction,) = predictor.predict([session.row(moment)])
            now = time.monotonic()
            yield session.answer(moment, prediction.to_json(), now - arrived, now - start)

    for message, _ in messages(setup, chunks):
        arrived = time.monotonic()
        yield from answered(session.push(message), arrived)
    yield from answered(session.end(), time.monotonic())
    yield {"summary": session.summary()}


def predict_remotely(
    url: str, setup: Setup, chunks: Iterable[Array | Chunk], *, key: str | None = None
) -> Iterator[dict[str, Any]]:
    """Predict a stream on a server.

    Args:
        url: The address of the server.
        setup: The settings of the stream.
        chunks: The chunks, ``[T, C]`` each; of several columns as for ``messages``.
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
    sent: list[tuple[float, float]] = []

    def send() -> None:
        try:
            for message, end in messages(setup, chunks):
                sent.append((end, time.monotonic()))
                socket.send(message)
            socket.send('{"end": true}')
        except WebSocketException:
            pass  # the server sends the reason
        except BaseException as error:
            failed.append(error)
            socket.close()

    try:
        with connect(address, additional_headers=headers, max_size=2**22, open_timeout=10) as socket:
            settings = {
                name: value for name, value in vars(setup).items() if value is not None and (value or name != "column")
            }
            socket.send(json.dumps(settings))
            _parse(socket.recv(30))
            sender = Thread(target=send, daemon=True)
            sender.start()
            for message in socket:
                answer = _parse(message)
                if "window" in answer:
                    sent_at = next((when for end, when in sent if end >= answer["end"] - 1e-9), None)
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
