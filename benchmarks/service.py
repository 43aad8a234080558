"""A server in a process of its own, as ``sensorium serve`` starts it, and raw HTTP requests to it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import REPOSITORY

BOUNDARY = "cut-here"


class Service(NamedTuple):
    """A server that runs: its port, and its process."""

    port: int
    process: subprocess.Popen[bytes]

    def post(self, path: str, body: bytes, kind: str, *, seconds: float = 60.0) -> tuple[int, bytes]:
        """The status and the body of an answer; status 0 where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("POST", path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def forget(self) -> None:
        """Reset ``VmHWM``."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def memory(self, name: str) -> float:
        """Megabytes, of ``VmRSS`` (now) or ``VmHWM`` (the most so far); 0 once the process is gone."""
        if not Path(f"/proc/{self.process.pid}").exists():
            return 0.0
        result = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return int(result.get(name, "0").split()[0]) / 1000


@contextmanager
def serving(run: Path, *words: str, seconds: float = 60.0) -> Iterator[Service]:
    """A server of the model in ``run``, once it answers; it is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sensorium", "serve", str(run), "--port", str(port), "--device", "cpu", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the server did not start ({process.poll()})") from None
                time.sleep(0.05)
        yield Service(port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def worked(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        result = file.read().rpartition(")")[2].split()
    return (int(result[11]) + int(result[12])) / os.sysconf("SC_CLK_TCK")


def form(parts: list[tuple[str, bytes, bool]]) -> tuple[bytes, str]:
    """Parts (name, content, whether it is a file) as a body, and its content type."""
    body = b""
    for name, content, file in parts:
        named = f'; filename="{name}.bin"' if file else ""
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"


def post(
    path: str, body: bytes, kind: str = "application/json", *, host: str = "localhost", more: tuple[str, ...] = ()
) -> bytes:
    """A request as it is sent, after which the connection is closed."""
    typed = (f"Content-Type: {kind}",) if kind else ()
    head = (f"POST {path} HTTP/1.1", f"Host: {host}", *typed, f"Content-Length: {len(body)}", *more, "Connection: close")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def exchange(port: int, sent: bytes, *, seconds: float, source: str = "") -> bytes:
    """Return the response of a server to these bytes until it closes the connection, or for a number of seconds.

    Args:
        source: The client's address, of those of this machine.
    """
    result, until = b"", time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), seconds, (source, 0) if source else None) as connection:
        with suppress(OSError):  # it was refused before it had arrived
            connection.sendall(sent)
        with suppress(OSError):  # closed, or time is up
            while (left := until - time.monotonic()) > 0:
                connection.settimeout(left)
                data = connection.recv(65536)
                if not data:
                    break
                result += data
    return result


def statuses(results: bytes) -> list[int]:
    """Of all answers in what was received."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", results)]
