"""The server process: its signals, and clients that dawdle."""

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

from sensorium.serve.server import Prompt

SLOW = """
import sys, time
from sensorium.cli import main
from sensorium.predictor import Predictor
real = Predictor.answer
def slow(self, *given):
    time.sleep(0.5)
    return real(self, *given)
Predictor.answer = slow
sys.argv = ["sensorium", "serve", *sys.argv[1:]]
main()
"""


def test_sigterm_lets_what_is_inside_finish(run_folder: Path) -> None:
    """Requests that were sent before it are all answered; later ones find nobody; the process ends."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SLOW, str(run_folder), f"other={run_folder}", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            until = time.monotonic() + 60
            while True:
                try:
                    models = client.get("/healthz").json()["models"]
                    break
                except httpx.TransportError:
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    assert time.monotonic() < until
                    time.sleep(0.1)
            assert models == [run_folder.name, "other"]
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(client.post, "/predict", json={"row": {"note": "the kettle"}}) for _ in range(4)]
                while client.get("/metrics").text.count('sensorium_rows_inside{model="run"} 4.0') == 0:
                    time.sleep(0.01)
                process.send_signal(signal.SIGTERM)
                assert [one.result(30).status_code for one in asked] == [200] * 4
            process.wait(30)
            with pytest.raises(httpx.TransportError):
                client.get("/healthz")
        said, wrong = process.communicate()
        assert process.returncode in (0, -signal.SIGTERM)
        assert b"serving run, other on http://127.0.0.1" in said
        assert wrong == b""
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


JSON = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextmanager
def started(app: Any) -> Iterator[str]:
    """The address of a server of its own."""
    from threading import Thread

    from sensorium.serve.server import bind, listen, server

    sockets = bind("127.0.0.1", 0)
    port = listen(sockets, "127.0.0.1")
    running = server(app)
    thread = Thread(target=running.run, args=(sockets,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join(20)


def answer(address: str, *parts: bytes, pause: float = 0.0, source: str = "") -> bytes:
    """What the server sends until it closes the connection."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), 5, (source, 0) if source else None) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # closed by the server while we were still talking
        found = b""
        try:
            while data := connection.recv(65536):
                found += data
        except ConnectionResetError:
            pass
        return found


def test_dawdlers_are_closed(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prompt, "SECONDS", 0.3)
    start = time.monotonic()
    assert answer(address) == b""  # says nothing
    assert (
        answer(address, b"POST /predict HTTP/1.1\r\nHost: localhost\r\n", *[b"X-A: b\r\n"] * 40, pause=0.05) == b""
    )  # for ever
    assert time.monotonic() - start < 4
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # The second request on a connection has the same time as the first.
    said = answer(address, whole, b"GET /he", pause=0.05)
    assert said.count(b"HTTP/1.1 200") == 1


def test_heads_that_are_none(address: str) -> None:
    assert b" 400 " in answer(address, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    assert b" 400 " in answer(address, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000)
    both = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert (
        b" 200 " not in answer(address, both, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[:15]
    )


def test_a_body_that_never_ends(make_client: Any, predictor: Any) -> None:
    """The body has a clock of its own, whatever trickles in."""

    from sensorium.serve.limits import Limits

    def trickle() -> Iterator[bytes]:
        for _ in range(20):
            time.sleep(0.03)
            yield b" "

    client = make_client(limits=Limits(upload=0.2))
    answered = client.post("/predict", content=trickle(), headers={"content-type": "application/json"})
    assert answered.status_code in (408, 400)


def test_the_command_says_what_is_wrong(cli: Any, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, problem in (
        ((run_folder, run_folder), "two models are named 'run'"),
        ((f"a/b={run_folder}",), "cannot stand in an address"),
        (("nowhere",), "no such folder"),
    ):
        code, _, error = cli("serve", *words)
        assert code == 2
        assert problem in error
    monkeypatch.setenv("SENSORIUM_API_KEY", "short")
    assert "can be guessed" in cli("serve", run_folder)[2]
    monkeypatch.setitem(sys.modules, "sensorium.serve.app", None)
    assert "optional library" in cli("serve", run_folder)[2]


def test_one_address_has_only_so_many_unfinished_requests(predictor: Any) -> None:
    """Half a head, half a body, nothing at all: beyond the limit they are turned away, and others are answered."""
    from sensorium.serve.app import create
    from sensorium.serve.limits import Limits

    with started(create({"house": predictor}, limits=Limits(unfinished=3))) as address:
        host, _, port = address.partition(":")
        halves = (b"", b"POST /predict HT", JSON + b"Content-Length: 9\r\n\r\n{")
        open_ones = [socket.create_connection((host, int(port)), 5) for _ in halves]
        try:
            for one, half in zip(open_ones, halves, strict=True):
                one.sendall(half)
            time.sleep(0.2)
            assert b"429" in answer(address)[:20]
            # From another address of the same machine, all is as ever.
            assert b" 200 " in answer(address, WHOLE, source="127.0.0.2")[:20]
            open_ones.pop().close()
            until = time.monotonic() + 5
            while b" 200 " not in answer(address, WHOLE)[:20]:
                assert time.monotonic() < until
        finally:
            for one in open_ones:
                one.close()
        # A connection that is kept, and waits for nothing, is not counted.
        kept = [socket.create_connection((host, int(port)), 5) for _ in range(3)]
        for one in kept:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
        assert b" 200 " in answer(address, WHOLE)[:20]
        for one in kept:
            one.close()


def test_two_hosts_or_none_are_refused(address: str) -> None:
    for head in (
        b"GET /schema HTTP/1.1\r\n",
        b"GET /schema HTTP/1.0\r\n",
        b"GET /schema HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
        b"GET /schema HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n",
        b"GET /schema HTTP/1.1\r\nHost: localhost, evil.example\r\n",
    ):
        assert answer(address, head + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 400"), head


def test_a_taken_port_is_told_at_once(cli: Any, run_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said, error = cli("serve", run_folder, "--port", port)
    assert code == 2
    assert "serving" not in said
    assert f"port {port} of 127.0.0.1 is taken" in error
    assert "--port" in error


def test_addresses_that_cannot_be_listened_on(cli: Any, run_folder: Path) -> None:
    for words, problem in (
        (("--host", "192.0.2.1"), "192.0.2.1 cannot be listened on"),
        (("--host", "no such host"), "no address is known"),
        (("--allow-host", "http://a"), "no name of a host"),
        (("--allow-origin", "*"), "no origin"),
    ):
        code, said, error = cli("serve", run_folder, "--port", "0", *words)
        assert (code, said) == (2, ""), words
        assert problem in error


def test_a_free_port_is_taken_for_all_addresses_of_a_host() -> None:
    from sensorium.core.errors import ConfigError
    from sensorium.serve.server import bind, listen

    sockets = bind("127.0.0.1", 0)
    try:
        port = listen(sockets, "127.0.0.1")
        assert port > 0
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is taken"):
            bind("127.0.0.1", port)
    finally:
        for one in sockets:
            one.close()


def test_one_address_fills_half_of_the_memory_at_most(predictor: Any) -> None:
    """So that what it never finishes leaves room for the requests of others."""
    from sensorium.serve.app import create
    from sensorium.serve.limits import Limits

    half = JSON + b"Content-Length: 990\r\n\r\n" + b" " * 900
    with started(create({"house": predictor}, limits=Limits(body=1000, memory=2400))) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 5) as first:
            first.sendall(half)
            time.sleep(0.2)
            said = answer(address, half)
            assert said.startswith(b"HTTP/1.1 503")
            assert b"from your address" in said
            body = b'{"row": {}}' + b" " * 900
            whole = JSON + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
            assert answer(address, whole, source="127.0.0.2").startswith(b"HTTP/1.1 200")


def test_streams_are_no_unfinished_requests(predictor: Any) -> None:
    """A socket that was opened and closed again leaves no trace in the count of its address."""
    from websockets.sync.client import connect

    from sensorium.serve.app import create
    from sensorium.serve.limits import Limits

    with started(create({"house": predictor}, limits=Limits(unfinished=2))) as address:
        for _ in range(5):
            with connect(f"ws://{address}/stream") as stream:
                stream.send('{"column": "sound"}')
                assert "window_steps" in json.loads(stream.recv(10))
        assert answer(address, WHOLE).startswith(b"HTTP/1.1 200")


def test_heads_of_many_headers_are_refused(address: str) -> None:
    many = b"".join(b"X%d: yyyyyyyyyyyy\r\n" % i for i in range(5000))
    said = answer(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + many + b"Connection: close\r\n\r\n")
    assert said[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")
