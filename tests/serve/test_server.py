"""The server process: signals, slow clients and addresses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sensorium.serve.server import TimedHttpProtocol

SLOW = """
import sys, time
from sensorium.cli import main
from sensorium.predictor import Predictor
real = Predictor.answer
def slow(self, *args):
    time.sleep(0.5)
    return real(self, *args)
Predictor.answer = slow
sys.argv = ["sensorium", "serve", *sys.argv[1:]]
main()
"""


def test_sigterm_finishes_requests_in_progress(run_folder: Path) -> None:
    """Requests sent before SIGTERM are answered, later ones get no connection, and the process ends."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SLOW, str(run_folder), f"other={run_folder}", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    models = client.get("/healthz").json()["models"]
                    break
                except httpx.TransportError:
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            assert models == [run_folder.name, "other"]
            with ThreadPoolExecutor(4) as pool:
                futures = [pool.submit(client.post, "/predict", json={"row": {"note": "the kettle"}}) for _ in range(4)]
                while client.get("/metrics").text.count('sensorium_rows_inside{model="run"} 4.0') == 0:
                    time.sleep(0.01)
                process.send_signal(signal.SIGTERM)
                assert [future.result(30).status_code for future in futures] == [200] * 4
            process.wait(30)
            with pytest.raises(httpx.TransportError):
                client.get("/healthz")
        output, wrong = process.communicate()
        assert process.returncode in (0, -signal.SIGTERM)
        assert b"serving run, other on http://127.0.0.1" in output
        assert wrong == b""
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


JSON = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
COMPLETE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextmanager
def started(app: Any) -> Iterator[str]:
    """Run a separate server and return its address."""
    from threading import Thread

    from sensorium.serve.server import bind, create_server, listen

    sockets = bind("127.0.0.1", 0)
    port = listen(sockets, "127.0.0.1")
    running = create_server(app)
    thread = Thread(target=running.run, args=(sockets,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join(20)


def answer(address: str, *parts: bytes, pause: float = 0.0, source: str = "") -> bytes:
    """Return what the server sends until it closes the connection."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), 5, (source, 0) if source else None) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # the server closed the connection while we were sending
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received


def test_slow_clients_are_disconnected(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedHttpProtocol, "SECONDS", 0.3)
    start = time.monotonic()
    assert answer(address) == b""  # sends nothing
    assert (
        answer(address, b"POST /predict HTTP/1.1\r\nHost: localhost\r\n", *[b"X-A: b\r\n"] * 40, pause=0.05) == b""
    )  # endless head
    assert time.monotonic() - start < 4
    complete = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # The second request on a connection has the same time as the first.
    output = answer(address, complete, b"GET /he", pause=0.05)
    assert output.count(b"HTTP/1.1 200") == 1


def test_invalid_request_heads(address: str) -> None:
    assert b" 400 " in answer(address, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    assert b" 400 " in answer(address, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000)
    both = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert (
        b" 200 " not in answer(address, both, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[:15]
    )


def test_body_must_arrive_in_time(make_client: Any, predictor: Any) -> None:
    """The time limit of the body does not restart with each byte."""

    from sensorium.serve.limits import Limits

    def trickle() -> Iterator[bytes]:
        for _ in range(20):
            time.sleep(0.03)
            yield b" "

    client = make_client(limits=Limits(upload=0.2))
    answered = client.post("/predict", content=trickle(), headers={"content-type": "application/json"})
    assert answered.status_code in (408, 400)


def test_command_errors(cli: Any, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, problem in (
        ((run_folder, run_folder), "two models are named 'run'"),
        ((f"a/b={run_folder}",), "cannot be part of a URL"),
        (("nowhere",), "no such folder"),
    ):
        code, _, error = cli("serve", *words)
        assert code == 2
        assert problem in error
    monkeypatch.setenv("SENSORIUM_API_KEY", "short")
    assert "is too short" in cli("serve", run_folder)[2]
    monkeypatch.setitem(sys.modules, "sensorium.serve.app", None)
    assert "optional library" in cli("serve", run_folder)[2]


def test_unfinished_requests_per_address_are_limited(predictor: Any) -> None:
    """Unfinished requests over the limit get status 429; other addresses are served."""
    from sensorium.serve.app import create
    from sensorium.serve.limits import Limits

    with started(create({"house": predictor}, limits=Limits(unfinished=3))) as address:
        host, _, port = address.partition(":")
        halves = (b"", b"POST /predict HT", JSON + b"Content-Length: 9\r\n\r\n{")
        connections = [socket.create_connection((host, int(port)), 5) for _ in halves]
        try:
            for one, half in zip(connections, halves, strict=True):
                one.sendall(half)
            time.sleep(0.2)
            assert b"429" in answer(address)[:20]
            # Another address of the same machine is served.
            assert b" 200 " in answer(address, COMPLETE, source="127.0.0.2")[:20]
            connections.pop().close()
            deadline = time.monotonic() + 5
            while b" 200 " not in answer(address, COMPLETE)[:20]:
                assert time.monotonic() < deadline
        finally:
            for one in connections:
                one.close()
        # Idle kept connections do not count.
        kept = [socket.create_connection((host, int(port)), 5) for _ in range(3)]
        for one in kept:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
        assert b" 200 " in answer(address, COMPLETE)[:20]
        for one in kept:
            one.close()


def test_requests_need_exactly_one_host_header(address: str) -> None:
    for head in (
        b"GET /schema HTTP/1.1\r\n",
        b"GET /schema HTTP/1.0\r\n",
        b"GET /schema HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
        b"GET /schema HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n",
        b"GET /schema HTTP/1.1\r\nHost: localhost, evil.example\r\n",
    ):
        assert answer(address, head + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 400"), head


def test_port_in_use_is_reported_before_loading(cli: Any, run_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, output, error = cli("serve", run_folder, "--port", port)
    assert code == 2
    assert "serving" not in output
    assert f"port {port} of 127.0.0.1 is in use" in error
    assert "--port" in error


def test_invalid_addresses(cli: Any, run_folder: Path) -> None:
    for words, problem in (
        (("--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
        (("--host", "no such host"), "has no address"),
        (("--allow-host", "http://a"), "not a host name"),
        (("--allow-origin", "*"), "not an origin"),
    ):
        code, output, error = cli("serve", run_folder, "--port", "0", *words)
        assert (code, output) == (2, ""), words
        assert problem in error


def test_port_zero_binds_a_free_port() -> None:
    from sensorium.core.errors import ConfigError
    from sensorium.serve.server import bind, listen

    sockets = bind("127.0.0.1", 0)
    try:
        port = listen(sockets, "127.0.0.1")
        assert port > 0
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is in use"):
            bind("127.0.0.1", port)
    finally:
        for one in sockets:
            one.close()


def test_one_address_can_use_half_of_the_memory(predictor: Any) -> None:
    """Its unfinished requests leave memory for other clients."""
    from sensorium.serve.app import create
    from sensorium.serve.limits import Limits

    half = JSON + b"Content-Length: 990\r\n\r\n" + b" " * 900
    with started(create({"house": predictor}, limits=Limits(body=1000, memory=2400))) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 5) as first:
            first.sendall(half)
            time.sleep(0.2)
            output = answer(address, half)
            assert output.startswith(b"HTTP/1.1 503")
            assert b"from your address" in output
            body = b'{"row": {}}' + b" " * 900
            complete = JSON + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
            assert answer(address, complete, source="127.0.0.2").startswith(b"HTTP/1.1 200")


def test_streams_do_not_count_as_unfinished_requests(predictor: Any) -> None:
    """Opening and closing a stream leaves the count of its address unchanged."""
    from websockets.sync.client import connect

    from sensorium.serve.app import create
    from sensorium.serve.limits import Limits

    with started(create({"house": predictor}, limits=Limits(unfinished=2))) as address:
        for _ in range(5):
            with connect(f"ws://{address}/stream") as stream:
                stream.send('{"column": "sound"}')
                assert "window_steps" in json.loads(stream.recv(10))
        assert answer(address, COMPLETE).startswith(b"HTTP/1.1 200")


def test_too_many_headers_are_refused(address: str) -> None:
    many = b"".join(b"X%d: yyyyyyyyyyyy\r\n" % i for i in range(5000))
    output = answer(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + many + b"Connection: close\r\n\r\n")
    assert output[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")
