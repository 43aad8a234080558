"""The server process: its signals, and clients that dawdle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sensorium.serve.running import Prompt

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


def answer(address: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """What the server sends until it closes the connection."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
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
    from collections.abc import Iterator

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
