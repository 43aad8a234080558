"""Hostile requests to a server process, during which another client must still be answered."""

from __future__ import annotations

import atexit
import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path

from benchmarks.bombs import flac, gif, huge_png, jpeg, png, texts, tiff, wav
from benchmarks.hostile.case import Case
from benchmarks.measure import REPOSITORY
from benchmarks.service import Service, exchange, form, post, serving, statuses

LONGEST = 1.0
"""Limit (seconds) on the 95th percentile of the other client's waiting time; no answer may take ten seconds."""
MEMORY = 1200
"""Limit on the server's memory, in MB; the model and its libraries take 350."""
WORDS = ("--max-mb", "8", "--max-unfinished", "40", "--max-streams", "4", "--timeout", "20")
_TRAIN = """
import sys, sensorium
from sensorium.data.synthetic import make
tables = make(sys.argv[1], rows=80, holes=0.0)
small = ["model.size=tiny", "training.epochs=1", "training.refit=none"]
model = sensorium.fit(tables["train"], target="event", valid=tables["valid"], overrides=small, quiet=True)
model.save(sys.argv[1] + "/run")
"""
Sent = bytes | Callable[[], bytes]


@cache
def _service() -> Service:
    """Start the server that all cases share."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-server-"))
    subprocess.run([sys.executable, "-c", _TRAIN, folder], check=True, cwd=REPOSITORY)
    return stack.enter_context(serving(Path(folder) / "run", *WORDS))


@contextmanager
def _meanwhile() -> Iterator[None]:
    """Check that another client, with an address of its own, is answered during the block."""
    service, over, waited, wrong = _service(), threading.Event(), list[float](), list[str]()
    small = post("/predict", b'{"row": {"note": "the kettle", "temperature": 21}}')

    def ask() -> None:
        while not over.is_set():
            start = time.perf_counter()
            result = exchange(service.port, small, seconds=10, source="127.0.0.9")
            waited.append(time.perf_counter() - start)
            if statuses(result) != [200]:
                wrong.append(result[:120].decode(errors="replace"))
            over.wait(0.02)

    service.forget()
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        time.sleep(0.1)
        over.set()
        thread.join()
    assert service.memory("VmRSS") > 0, "the server is gone"
    assert not wrong, f"another client was told: {wrong[0]}"
    late = sorted(waited)[int(0.95 * (len(waited) - 1))]
    assert late < LONGEST, f"another client waited for {late:.1f} s and more"
    assert service.memory("VmHWM") < MEMORY, f"the server took {service.memory('VmHWM'):.0f} MB"


def _sent(sent: Sent, expected: tuple[int, ...], _: Path) -> None:
    """Send a request on a connection of its own; all its answers must have one of the expected statuses."""
    with _meanwhile():
        result = exchange(_service().port, sent if isinstance(sent, bytes) else sent(), seconds=25)
    outcome = statuses(result)
    assert outcome, f"no answer: {result[:80]!r}"
    assert set(outcome) <= set(expected), f"answered with {outcome}: {result[-200:].decode(errors='replace')}"
    assert b"Traceback" not in result
    assert b"NaN" not in result.partition(b"\r\n\r\n")[2] or set(outcome) != {200}


def _get(path: str, *lines: str, host: str = "Host: localhost", method: str = "GET", version: str = "1.1") -> bytes:
    kept = any(line.startswith("Connection") for line in lines)
    head = [f"{method} {path} HTTP/{version}", *([host] if host else []), *lines, *([] if kept else ["Connection: close"])]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n"


def _row(cells: str) -> bytes:
    return post("/predict", b'{"row": {' + cells.encode() + b"}}")


def _files(parts: list[tuple[str, bytes, bool]], path: str = "/predict") -> bytes:
    return post(path, *form(parts))


def _same(column: str, data: bytes, times: int) -> bytes:
    """Return a request of many rows that refer to one small file."""
    rows = json.dumps([{column: {"part": "same"}}] * times).encode()
    return _files([("@rows", rows, False), ("same", data, True)])


def _multipart(body: bytes, kind: str = "multipart/form-data; boundary=b") -> bytes:
    return post("/predict", body, kind)


EVIL = "Origin: https://evil.example"
CROSS = "Sec-Fetch-Site: cross-site"
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ROW = b'{"row": {}}'
NPY = b"\x93NUMPY\x01\x00v\x00"
_NOTE = b'Content-Disposition: form-data; name="note"\r\n\r\n'
NO = (400, 404, 405, 413, 415, 421, 422)
WELL_OR_NO = (200, *NO)

ASKED: dict[str, tuple[Sent, tuple[int, ...]]] = {
    # Whom it is asked as, and from where.
    "another name (DNS rebinding), reading": (_get("/schema", host="Host: evil.example"), (421,)),
    "another name, posting": (post("/predict", ROW, host="evil.example:8000"), (421,)),
    "a name that begins with localhost": (_get("/schema", host="Host: localhost.evil.example"), (421,)),
    "a name that begins with 127.0.0.1": (_get("/metrics", host="Host: 127.0.0.1.evil.example"), (421,)),
    "this machine as one number": (_get("/schema", host="Host: 2130706433"), (421,)),
    "the address of all addresses": (_get("/schema", host="Host: 0.0.0.0:8000"), (421,)),
    "two hosts": (_get("/schema", "Host: evil.example"), (400,)),
    "twice the same host": (_get("/schema", "Host: localhost"), (400,)),
    "no host": (_get("/schema", host=""), (400,)),
    "no host, as HTTP 1.0 has it": (_get("/schema", host="", version="1.0"), (400,)),
    "a host with a user": (_get("/schema", host="Host: localhost@evil.example"), (400,)),
    "a folded host": (_get("/schema", host="Host: localhost\r\n evil.example"), (400,)),
    "an address of its own and the host of another": (_get("http://localhost/schema", host="Host: evil.example"), (421,)),
    "a page of another site": (post("/predict", ROW, more=(EVIL,)), (403,)),
    "a form of another site": (post("/predict", ROW, "text/plain", more=(EVIL, CROSS)), (403,)),
    "a page in a sandbox": (post("/predict", ROW, more=("Origin: null",)), (403,)),
    "a page of another server here": (post("/predict", ROW, more=("Origin: http://localhost:1",)), (403,)),
    "a picture tag of another site": (_get("/metrics", CROSS, "Sec-Fetch-Mode: no-cors"), (403,)),
    "a frame of another site": (_get("/", CROSS, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"), (403,)),
    "a question before asking (preflight)": (
        _get("/predict", EVIL, "Access-Control-Request-Method: POST", method="OPTIONS"),
        (403,),
    ),
    "a socket of another site": (_get("/stream", EVIL, *UPGRADE), (403,)),
    "a socket by another name": (_get("/stream", *UPGRADE, host="Host: evil.example"), (421,)),
    "a socket where there is none": (_get("/predict", *UPGRADE), (403, 404)),
    "a socket without a key": (_get("/stream", *UPGRADE[:3]), (400,)),
    # Heads, and requests within requests.
    "two ways to say how long": (
        HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        (400,),
    ),
    "two lengths": (HEAD + b"Content-Length: 11\r\nContent-Length: 0\r\n\r\n" + ROW + SMUGGLED, (400,)),
    "a length below nothing": (HEAD + b"Content-Length: -1\r\n\r\n", (400, 413)),
    "a length with a sign": (HEAD + b"Content-Length: +11\r\n\r\n" + ROW, (400, 413)),
    "a length beyond all measure": (HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n", (400, 413)),
    "a terabyte": (HEAD + b"Content-Length: 1099511627776\r\n\r\n", (413,)),
    "a coding that is almost chunked": (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400,)),
    "a blank before the colon": (HEAD + b"Content-Length : 11\r\n\r\n" + ROW, (400,)),
    "a chunk beyond all measure": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", (400,)),
    "a chunk of a negative size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", (400,)),
    "a zero byte in a header": (_get("/schema", "X: a\0b"), (400,)),
    "a head of 200 kB": (_get("/schema", "X: " + "x" * 200_000), (400,)),
    "ten thousand headers": (_get("/schema", *[f"X{i}: y" for i in range(10_000)]), (400, 431)),
    "TLS to a port without it": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600) + b"\r\n\r\n", (400,)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), (400,)),
    "hundreds at once on one connection": (
        _get("/healthz").replace(b"Connection: close\r\n", b"") * 300 + _get("/healthz"),
        (200,),
    ),
    "TRACE": (_get("/schema", method="TRACE"), (405,)),
    "CONNECT": (_get("evil.example:443", method="CONNECT"), NO),
    # Addresses.
    "a path out of the folder": (_get("/../../../../etc/passwd"), (404,)),
    "the same, spelled in numbers": (_get("/%2e%2e/%2e%2e/etc/passwd"), (404,)),
    "a model out of its folder": (_get("/models/..%2f..%2fetc/schema"), (404,)),
    "a zero byte in a path": (_get("/page.js%00.html"), (404,)),
    "a path of 60 kB": (_get("/" + "a" * 60_000), (400, 404)),
    "a line break in a query": (_get("/schema?model=a%0d%0aSet-Cookie:%20b"), (404,)),
    # JSON.
    "a hundred thousand brackets": (post("/predict", b'{"row":' + b"[" * 100_000), (400, 413)),
    "brackets that close": (post("/predict", b'{"row":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), (400, 413)),
    "three million values": (post("/predict", b'{"row": {"sensor": [' + b"1," * 3_000_000 + b"1]}}"), (413,)),
    "a number of a million digits": (_row('"temperature": ' + "9" * 1_000_000), (400, 422)),
    "a number beyond all": (_row('"temperature": 1e308, "sensor": [[1e308, -1e308, 1e308]]'), (200, 422)),
    "infinity, spelled as a number": (_row('"temperature": 1e999'), (200, 400, 422)),
    "NaN": (_row('"temperature": NaN'), (400,)),
    "a key twice": (_row('"note": "a", "note": "b"'), (400,)),
    "half a character": (_row('"note": "\\ud800"'), (422,)),
    "bytes that are no text": (post("/predict", b'{"row": {"note": "\xff\xfe"}}'), (400,)),
    "a file by its name": (_row('"photo": "/etc/passwd"'), (422,)),
    "an address to fetch": (_row('"photo": {"url": "http://169.254.169.254/"}'), (422,)),
    "more rows than allowed": (post("/predict", json.dumps({"rows": [{}] * 65}).encode()), (413,)),
    "a text of five million characters": (_row('"note": "' + "a" * 5_000_000 + '"'), (413,)),
    "texts beyond the budget": (post("/predict", json.dumps({"rows": [{"note": "é" * 100_000}] * 40}).encode()), (413,)),
    "a body beyond the limit, in chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b" " * 2**20 + b"\r\n") * 12,
        (413,),
    ),
    "a compressed body": (post("/predict", zlib.compress(ROW), more=("Content-Encoding: gzip",)), (415,)),
    "a body of another type": (post("/predict", ROW, "application/x-www-form-urlencoded"), (415,)),
    "a body of no type": (post("/predict", ROW, ""), (415,)),
    # Parts.
    "parts without a boundary": (_multipart(b"--b\r\n\r\n", "multipart/form-data"), (400,)),
    "a boundary of ten thousand marks": (_multipart(b"x", "multipart/form-data; boundary=" + "b" * 10_000), (400,)),
    "parts that never end": (_multipart(b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nx'), (400,)),
    "a part's head without an end": (_multipart(b"--b\r\n" + b"X: y\r\n" * 100_000 + b"--b--\r\n"), (400,)),
    "a boundary and five million blanks": (_multipart(b"--b\r\n" + _NOTE + b"x\r\n--b" + b" " * 5_000_000), (400,)),
    "a million lines that are nearly boundaries": (_multipart(b"--b\r\n" + _NOTE + b"\r\n--bb" * 1_000_000), (413,)),
    "parts whose heads are blanks": (
        _multipart((b"--b\r\n" + (b"X:" + b" " * 2000 + b"\r\n") * 3 + _NOTE + b"x\r\n") * 200 + b"--b--\r\n"),
        (422,),
    ),
    "a hundred thousand parts": (_multipart(b"--b\r\n\r\n\r\n" * 100_000 + b"--b--\r\n"), (413,)),
    "parts within parts": (
        _multipart(
            b'--b\r\nContent-Disposition: form-data; name="note"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n'
            b"--c--\r\n--b--\r\n"
        ),
        WELL_OR_NO,
    ),
    "a file named out of its folder": (
        _multipart(
            b'--b\r\nContent-Disposition: form-data; name="photo"; filename="../../../tmp/x.png"\r\n\r\nx\r\n--b--\r\n'
        ),
        (422,),
    ),
    "a part that is not there": (_files([("@rows", b'[{"photo": {"part": "gone"}}]', False)]), (422,)),
    # Pictures, sounds, arrays.
    "eight huge pictures in one small file": (_same("photo", png(8000, 8000), 8), (413,)),
    "sixty-four of them": (_same("photo", png(8000, 8000), 64), (413,)),
    "a picture larger than any": (_files([("photo", png(50_000, 50_000), True)]), (422,)),
    "a picture of 2³¹ by 2³¹": (_files([("photo", png(2**31 - 1, 2**31 - 1), True)]), (422,)),
    "a huge picture, whole": (lambda: _files([("photo", huge_png(8000, 8000), True)]), (200, 503)),
    "a huge grey picture of 16 bits": (lambda: _files([("photo", huge_png(8000, 8000, colour=0), True)]), (200, 503)),
    "sixty texts of a million marks in a picture": (lambda: _files([("photo", texts(), True)]), WELL_OR_NO),
    "a JPEG that says it is huge": (lambda: _files([("photo", jpeg(65_000, 65_000), True)]), (413, 422)),
    "a JPEG that says it is large": (lambda: _files([("photo", jpeg(8000, 8000), True)]), (200, 422)),
    "a GIF with a huge canvas": (lambda: _files([("photo", gif(65_000, 65_000), True)]), (422,)),
    "a TIFF that unpacks to 64 MB": (lambda: _files([("photo", tiff(8000), True)]), WELL_OR_NO),
    "a drawing that names a file": (_files([("photo", b'<svg><image href="file:///etc/passwd"/></svg>', True)]), (422,)),
    "a sound that says it is long": (_files([("sound", wav(2**30), True)]), (422,)),
    "a sound of no channels": (_files([("sound", wav(200, 0), True)]), (422,)),
    "a sound of 60,000 channels": (_files([("sound", wav(200, 60_000), True)]), (422,)),
    "half an hour of silence in a small file, 60 times": (lambda: _same("sound", flac(1790), 60), (413,)),
    "an array that holds code": (
        _files([("sensor", NPY + b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", True)]),
        (422,),
    ),
    "an array that says it is huge": (
        _files([("sensor", NPY + b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 9), }", True)]),
        (422,),
    ),
}


def _unfinished(what: bytes, _: Path) -> None:
    """Check that of a hundred connections of one address that never finish their request at least fifty are refused."""
    with _meanwhile(), ExitStack() as stack:
        port, result = _service().port, 0
        for _i in range(100):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            connection.sendall(what)
            connection.settimeout(0.05)
            with suppress(TimeoutError, ConnectionResetError):
                result += connection.recv(4096).startswith(b"HTTP/1.1 429")
        assert result >= 50, f"only {result} of 100 were turned away"


def _dawdling(_: Path) -> None:
    """Check that a request head that arrives byte by byte is cut off after about ten seconds."""
    with _meanwhile(), socket.create_connection(("127.0.0.1", _service().port), 10) as connection:
        start = time.monotonic()
        with suppress(OSError):
            connection.sendall(b"GET /")
            while time.monotonic() - start < 20:
                connection.sendall(b"a")
                time.sleep(0.4)
        assert 8 < time.monotonic() - start < 14, f"it was kept for {time.monotonic() - start:.0f} s"


def _leaving(_: Path) -> None:
    """Check that the requests of fifty clients that disconnect at once are dropped."""
    request = _same("photo", huge_png(3000, 3000), 8)
    with _meanwhile():
        for _i in range(50):
            with socket.create_connection(("127.0.0.1", _service().port), 10) as connection:
                connection.sendall(request)
        until, inside = time.monotonic() + 20, "?"
        while inside != "0.0" and time.monotonic() < until:
            result = exchange(_service().port, _get("/metrics"), seconds=5).decode()
            results = re.search(r"^sensorium_rows_inside\{.*\} (\S+)$", result, re.M)
            inside = results[1] if results else "?"
            time.sleep(0.2)
        # One row of the other client may be inside at any moment.
        assert inside in ("0.0", "1.0"), f"{inside} rows are inside still"


def _flood(_: Path) -> None:
    """Send thirty-two requests with a huge picture at once, from one address."""
    request = _files([("photo", huge_png(8000, 8000), True)])
    with _meanwhile(), ExitStack() as stack:
        for _i in range(32):
            stack.enter_context(socket.create_connection(("127.0.0.1", _service().port), 10)).sendall(request)
        time.sleep(8)


def _sockets(_: Path) -> None:
    """Check that of forty websockets of one address four stream, and that the others are told why not."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with _meanwhile(), ExitStack() as stack:
        result = []
        for _i in range(40):
            connection = stack.enter_context(connect(f"ws://127.0.0.1:{_service().port}/stream", close_timeout=0.1))
            with suppress(ConnectionClosed):
                connection.send('{"column": "sound"}')
            result.append("window_steps" in json.loads(connection.recv(10)))
        assert sum(result) == 4, f"{sum(result)} streams were open"


def _said(messages: tuple[str | bytes, ...], _: Path) -> None:
    """Check that invalid messages to a stream are answered with an error, or that the stream is closed."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with _meanwhile(), connect(f"ws://127.0.0.1:{_service().port}/stream", max_size=None, close_timeout=0.1) as connection:
        try:
            for message in messages:
                connection.send(message)
            for _i in range(20):
                document = json.loads(connection.recv(10))
                assert document.get("error", {}).get("status") != 500, document
                if "error" in document:
                    return
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == 1011:
                raise AssertionError(f"an error of the server's own: {closed}") from None
            return
    raise AssertionError(f"it was accepted as a stream: {document}")


SOUND = '{"column": "sound", "rate": 8000, "seconds": 0.5}'
STREAMS: dict[str, tuple[str | bytes, ...]] = {
    "a stream that begins with bytes": (b"\0" * 100,),
    "a stream that begins with brackets": ("[" * 5000,),
    "a message of 5 MB": ('{"column": "sound", "row": {"note": "' + "a" * 5_000_000 + '"}}',),
    "a window of a million seconds": ('{"column": "sound", "seconds": 999999}',),
    "a rate of NaN": ('{"column": "sound", "rate": NaN}',),
    "a chunk that starts beyond all": (SOUND, struct.pack("<IQ", 0, 2**63) + bytes(100)),
    "chunks that overlap": (SOUND, struct.pack("<IQ", 0, 0) + bytes(100), struct.pack("<IQ", 1, 3) + bytes(100)),
    "half a sample": (SOUND, struct.pack("<IQ", 0, 0) + bytes(99)),
    "a chunk without samples": (SOUND, struct.pack("<IQ", 0, 0)),
    "a huge picture as a frame": ('{"column": "photo"}', struct.pack("<IQ", 0, 0) + png(50_000, 50_000), "no more"),
}


def cases() -> list[Case]:
    """Return all cases; starts the server that they share."""
    _service()
    heads = [Case(name, partial(_sent, sent, expected), seconds=60) for name, (sent, expected) in ASKED.items()]
    halves = {
        "connections that say nothing": b"",
        "heads that never end": b"POST /predict HTTP/1.1\r\nHost: localhost\r\n",
        "bodies that never end": HEAD + b'Content-Length: 100000\r\n\r\n{"row"',
    }
    return [
        *heads,
        *(Case(f"a hundred {name}", partial(_unfinished, half), seconds=60) for name, half in halves.items()),
        Case("a head that comes mark by mark", _dawdling, seconds=40),
        Case("fifty clients that ask and leave", _leaving, seconds=60),
        Case("thirty-two huge pictures at once", _flood, seconds=60),
        Case("forty sockets of one address", _sockets, seconds=60),
        *(Case(name, partial(_said, messages), seconds=40) for name, messages in STREAMS.items()),
    ]
