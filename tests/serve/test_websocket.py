"""Live streams: each window is predicted as by the predictor, locally and over a WebSocket."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.core.errors import MissingExtraError
from sensorium.data.files.media_access import FILE_NAME_REFUSED
from sensorium.predictor import Predictor
from sensorium.serve.limits import Limits
from sensorium.streaming import live_client
from sensorium.streaming.stream_session import HEADER, Setup, wav

RATE = 8000
KEY = "a key of some length"


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    time = np.arange(3 * RATE) / RATE
    return (8000 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.int16)


@pytest.fixture
def recording(signal: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "recording.wav"
    path.write_bytes(wav(signal, RATE))
    return path


def send(socket: Any, signal: np.ndarray, numbers: list[int], size: int = 800) -> None:
    for number in numbers:
        at = number * size
        socket.send_bytes(HEADER.pack(number, at) + signal[at : at + size].tobytes())
    socket.send_text('{"end": true}')


def answers(socket: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    results = []
    while "summary" not in (answer := socket.receive_json()):
        assert "error" not in answer, answer
        results.append(answer)
    return results, answer["summary"]


def test_sound_stream_with_reordered_and_lost_chunks(client: Any, predictor: Predictor, signal: np.ndarray) -> None:
    """With reordered chunks and a lost one, which becomes silence, predictions equal those of the assembled sound."""
    first = {"column": "sound", "rate": RATE, "seconds": 1.0, "hop": 0.5, "keep": True, "row": {"note": "the kettle"}}
    with client.websocket_connect("/stream") as socket:
        socket.send_json(first)
        assert socket.receive_json() == {"window_steps": RATE, "hop_steps": RATE // 2, "channels": 1}
        order = [1, 0, *range(2, 14), *range(15, 30)]
        send(socket, signal, order)
        result, summary = answers(socket)
    heard = signal.copy()
    heard[14 * 800 : 15 * 800] = 0
    starts = [0, 4000, 8000, 12000, 16000]
    assert [round(answer["start"] * RATE) for answer in result] == starts
    for answer, start in zip(result, starts, strict=True):
        (want,) = predictor.predict(
            [{"note": "the kettle", "sound": wav(heard[start : start + RATE], RATE)}], batch_invariant=True
        )
        assert answer["prediction"] == want.to_json()
        assert answer["filled"] == (800 if start in (4000, 8000) else 0)
        assert answer["latency_ms"] > 0
    assert (summary["chunks"], summary["lost"], summary["answered"], summary["dropped"]) == (29, 1, 5, 0)
    assert summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert summary["real_time_factor"] > 0


def test_old_windows_are_dropped_for_a_fast_client(client: Any, signal: np.ndarray) -> None:
    with client.websocket_connect("/stream") as socket:
        socket.send_json({"column": "sound", "rate": RATE, "seconds": 0.5, "hop": 0.01, "row": {}})
        socket.receive_json()
        send(socket, signal, list(range(30)))
        result, summary = answers(socket)
    assert summary["dropped"] > 0
    assert summary["answered"] + summary["dropped"] == (3 - 0.5) / 0.01 + 1
    assert result[-1]["end"] == pytest.approx(3.0)
    assert [answer["window"] for answer in result] == sorted(answer["window"] for answer in result)


def test_series_and_image_streams(client: Any, predictor: Predictor, cells: list[dict[str, Any]]) -> None:
    steps = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    with client.websocket_connect("/stream") as socket:
        socket.send_json({"column": "sensor", "rate": 10, "seconds": 2, "hop": 2, "keep": True})
        socket.receive_json()
        for number, at in enumerate(range(0, 60, 5)):
            if number != 5:
                socket.send_bytes(HEADER.pack(number, at) + steps[at : at + 5].tobytes())
        socket.send_text('{"end": true}')
        result, summary = answers(socket)
    heard = steps.copy()
    heard[25:30] = np.nan
    for i, answer in enumerate(result):
        assert (
            answer["prediction"]
            == predictor.predict([{"sensor": heard[20 * i : 20 * i + 20]}], batch_invariant=True)[0].to_json()
        )
    assert (len(result), summary["filled"]) == (3, 5)
    photos = [row["photo"] for row in cells if "photo" in row][:2]
    with client.websocket_connect("/stream") as socket:
        socket.send_json({"column": "photo", "rate": 2, "keep": True})
        socket.receive_json()
        for number, data in ((0, photos[0]), (2, photos[1]), (1, photos[0]), (3, b"no picture")):
            socket.send_bytes(HEADER.pack(number, number) + data)
        socket.send_text('{"end": true}')
        result, summary = answers(socket)
    want = [predictor.predict([{"photo": data}], batch_invariant=True)[0].to_json() for data in photos]
    assert [answer["prediction"] for answer in result[:2]] == want
    assert "not a picture" in result[2]["prediction"]["problems"][0]["problem"]
    assert (summary["lost"], summary["late"]) == (1, 1)


def test_other_cells_change_between_chunks(client: Any, predictor: Predictor, cells: list[dict[str, Any]]) -> None:
    photo = next(row["photo"] for row in cells if "photo" in row)
    with client.websocket_connect("/stream") as socket:
        socket.send_json({"column": "photo", "keep": True, "row": {"temperature": 12.0, "note": "The tea is ready."}})
        socket.receive_json()
        for number, changed in enumerate(({}, {"temperature": 25.0}, {"note": None})):
            if changed:
                socket.send_json({"row": changed})
            socket.send_bytes(HEADER.pack(number, number) + photo)
        socket.send_text('{"end": true}')
        result, _ = answers(socket)
    rows = [{"temperature": 12.0, "note": "The tea is ready."}, {"temperature": 25.0, "note": "The tea is ready."}]
    rows.append({"temperature": 25.0})
    want = [predictor.predict([{"photo": photo, **row}], batch_invariant=True)[0].to_json() for row in rows]
    assert [answer["prediction"] for answer in result] == want


@pytest.mark.parametrize(
    ("first", "then", "problem"),
    [
        ("nonsense", None, "not JSON"),
        ("[]", None, "must be a JSON object"),
        ('{"rate": 3}', None, "has no column"),
        ('{"column": "note"}', None, "no sound, series or image column named 'note'"),
        ('{"column": "sound", "model": "x"}', None, "no model named 'x'"),
        ('{"column": "sound", "seconds": 900000}', None, "windows of"),
        ('{"column": "sound", "seconds": 1, "hop": 0}', None, "windows of"),
        ('{"column": "sound", "rate": 1e-9}', None, "out of bounds"),
        ('{"column": "sound", "row": {"photo": {"path": "/etc/passwd"}}}', None, FILE_NAME_REFUSED),
        ('{"column": "sound", "row": {"phot": 1}}', None, "did you mean photo"),
        ('{"column": "sound"}', b"short", "a chunk is"),
        ('{"column": "sound"}', HEADER.pack(0, 0) + b"odd", "not a multiple of 2 bytes"),
        ('{"column": "sensor"}', HEADER.pack(0, 0) + b"1234", "not a multiple of 12 bytes"),
        ('{"column": "sound"}', HEADER.pack(0, 2**60) + b"12", "too long"),
        ('{"column": "sound"}', '{"more": 1}', "expected a chunk"),
        ('{"column": "sound"}', '{"row": {"phot": 1}}', "did you mean photo"),
        (b"bytes first", None, "must be text"),
    ],
)
def test_invalid_messages_are_refused(client: Any, first: Any, then: Any, problem: str) -> None:
    from starlette.websockets import WebSocketDisconnect

    with client.websocket_connect("/stream") as socket:
        socket.send_bytes(first) if isinstance(first, bytes) else socket.send_text(first)
        answer = socket.receive_json()
        if then is not None:
            assert "window_steps" in answer
            socket.send_bytes(then) if isinstance(then, bytes) else socket.send_text(then)
            answer = socket.receive_json()
        assert problem in answer["error"]["problem"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1008


def test_streams_need_the_key_and_are_limited(make_client: Any, client: Any) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/stream", headers={"origin": "https://a.example"}):
        pass
    guarded = make_client(key=KEY, limits=Limits(streams=1, upload=0.3))
    first = {"column": "sound"}
    for headers, more, opens in (
        ({}, {}, False),
        ({}, {"key": "wrong"}, False),
        ({}, {"key": KEY}, True),
        ({"x-api-key": KEY, "origin": "http://localhost"}, {}, True),
    ):
        with guarded.websocket_connect("/stream", headers=headers) as socket:
            socket.send_json({**first, **more})
            assert ("window_steps" in socket.receive_json()) is opens
            if opens:
                with guarded.websocket_connect("/stream", headers=headers) as second:
                    assert second.receive_json()["error"]["status"] == 503
                assert socket.receive_json()["error"]["status"] == 408  # no message arrived in time


def test_listen_locally_and_remotely_agree(address: str, recording: Path, run_folder: Path, cli: Any) -> None:
    words = ("--file", recording, "--seconds", 1, "--hop", 0.5, "--fast", "--json", "--row", '{"note": "the kettle"}')
    code, answer, _ = cli("listen", run_folder, *words)
    assert code == 0
    local = [json.loads(line) for line in answer.splitlines()]
    code, answer, _ = cli("listen", run_folder, *words, "--url", f"http://{address}")
    assert code == 0
    remote = [json.loads(line) for line in answer.splitlines()]
    assert len(local) == len(remote) == 6
    for one, other in zip(local[:-1], remote[:-1], strict=True):
        assert one["start"] == other["start"]
        chances = other["prediction"]["targets"]["event"]["probabilities"]
        # The batches of a server are padded, local ones are not.
        assert one["prediction"]["targets"]["event"]["probabilities"] == pytest.approx(chances, abs=1e-5)
        assert other["round_trip_ms"] > 0
    assert local[-1]["summary"]["answered"] == remote[-1]["summary"]["answered"] == 5
    code, answer, _ = cli("listen", run_folder, "--file", recording, "--fast")
    assert code == 0
    assert "real-time factor" in answer.splitlines()[-1]


def test_chunks_of_a_pipe_and_a_file(tmp_path: Path, signal: np.ndarray) -> None:
    pipe = io.BytesIO(signal.tobytes() + b"\0")
    np.testing.assert_array_equal(np.concatenate(list(live_client.read_pipe(pipe, "audio", 1, 700)))[:, 0], signal)
    lines = list(live_client.read_pipe(io.BytesIO(b"1,2,3\n\n4 5 6\n"), "series", 3, 1))
    np.testing.assert_array_equal(np.concatenate(lines), [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(Exception, match="not a line of numbers"):
        list(live_client.read_pipe(io.BytesIO(b"a,b\n"), "series", 2, 1))
    with pytest.raises(Exception, match="a line has 2 numbers"):
        list(live_client.read_pipe(io.BytesIO(b"1,2\n"), "series", 3, 1))
    path = tmp_path / "a.wav"
    path.write_bytes(wav(signal, RATE))
    steps, rate = live_client.read_recording(path, "audio", None)
    assert rate == RATE
    np.testing.assert_array_equal(steps[:, 0], signal)
    np.testing.assert_array_equal(np.concatenate(list(live_client.split(steps, 999))), steps)


def test_listen_errors(run_folder: Path, cli: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match="microphone"):
        next(iter(live_client.record_microphone(8000, 10)))
    for words, problem in (
        ((), "one of --file, --stdin and --microphone"),
        (("--microphone",), "optional library"),
        (("--file", "lost.wav"), "no such file"),
        (("--microphone", "--column", "photo"), "did you mean"),
        (("--microphone", "--row", "{"), "--row is not JSON"),
        (("--stdin", "--url", "http://127.0.0.1:9"), "does not answer"),
    ):
        code, _, error = cli("listen", run_folder, *words)
        assert code == 2, words
        assert problem in error or words[-1] == "photo"


def test_errors_of_the_server_are_reported(address: str) -> None:
    with pytest.raises(Exception, match="the server refused the stream: no sound, series or image column named 'nose'"):
        list(live_client.predict_remotely(f"http://{address}", Setup("nose"), []))


def test_streams_per_address_are_limited(make_client: Any) -> None:
    client = make_client(limits=Limits(streams=16, streams_each=2))
    with client.websocket_connect("/stream") as one, client.websocket_connect("/stream") as two:
        for socket in (one, two):
            socket.send_json({"column": "sound"})
            assert "window_steps" in socket.receive_json()
        with client.websocket_connect("/stream") as third:
            answer = third.receive_json()["error"]
            assert (answer["status"], answer["problem"]) == (503, "2 streams from your address are already open")
        for socket in (one, two):
            socket.send_json({"end": True})
            assert "summary" in socket.receive_json()
    with client.websocket_connect("/stream") as socket:
        socket.send_json({"column": "sound"})
        assert "window_steps" in socket.receive_json()
