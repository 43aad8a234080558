"""A server in a process of its own, as ``sensorium serve`` starts it, and pictures that are small only as files."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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

    def memory(self, name: str) -> float:
        """Megabytes, of ``VmRSS`` (now) or ``VmHWM`` (the most so far)."""
        told = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return int(told[name].split()[0]) / 1000


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


def huge_png(wide: int, high: int, *, depth: int = 16, colour: int = 6) -> bytes:
    """A PNG of zeros, a thousandth of the size of its pixels. Colour 6: with transparency, four channels; 0: grey."""
    packed = zlib.compressobj(9)
    line = bytes(1 + wide * depth * {0: 1, 2: 3, 6: 4}[colour] // 8)
    data = b"".join(packed.compress(line) for _ in range(high)) + packed.flush()
    header = struct.pack(">IIBBBBB", wide, high, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def form(parts: list[tuple[str, bytes, bool]]) -> tuple[bytes, str]:
    """Parts (name, content, whether it is a file) as a body, and its content type."""
    body = b""
    for name, content, file in parts:
        named = f'; filename="{name}.bin"' if file else ""
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"
