"""Multipart parser: agreement with Starlette, damaged bodies and limits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser

from sensorium.serve.http_errors import RequestError
from sensorium.serve.multipart import Part, parts

KIND = "multipart/form-data; boundary=mark"


async def by_starlette(kind: str, body: bytes) -> list[tuple[str, str | None, bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    form = await MultiPartParser(Headers({"content-type": kind}), stream()).parse()  # type: ignore[arg-type]
    results: list[tuple[str, str | None, bytes]] = []
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            results.append((name, part.filename, await part.read()))
        else:
            results.append((name, None, part.encode()))
    await form.close()
    return results


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.one_of(st.none(), NAMES), st.binary(max_size=80)), min_size=1, max_size=5),
)
def test_parser_agrees_with_starlette(fields: list[tuple[str, str | None, bytes]]) -> None:
    files: list[Any] = [(name, (file, data if file else data.hex())) for name, file, data in fields]
    request = httpx.Request("POST", "http://a", files=files)
    body, kind = request.read(), request.headers["content-type"]
    assert [tuple(part) for part in parts(body, kind, 10)] == asyncio.run(by_starlette(kind, body))


def test_spellings_of_names() -> None:
    def named(head: str) -> Part:
        (part,) = parts(f"--mark\r\n{head}\r\n\r\nx\r\n--mark--".encode(), KIND, 5)
        return part

    assert named('Content-Disposition: form-data; name="照片"; filename="窗 户.png"') == ("照片", "窗 户.png", b"x")
    assert named("content-disposition:form-data;name=a") == ("a", None, b"x")
    assert named('Content-Type: image/png\r\nCONTENT-DISPOSITION: form-data; filename=""; name="a;b"') == ("a;b", "", b"x")


def test_data_are_unchanged() -> None:
    data = b"\r\n--mar k\r\n\r\n--\r\n-mark\r\n\0\xff\r\n"
    body = b'--mark\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n' + data + b"\r\n--mark--\r\n"
    assert parts(body, 'multipart/form-data; charset=utf-8; boundary="mark"', 1) == [Part("a", "f", data)]
    assert parts(b"--mark--\r\n", KIND, 1) == []


HEAD = b'--mark\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--mark",
        b"--mar",
        b"rubbish\r\n--mark--",
        HEAD,
        HEAD + b"x",
        HEAD + b"x\r\n--mark",
        HEAD + b"x\r\n--mark\r\n",
        HEAD + b"x\r\n--mark-\r\n",
        HEAD + b"x\r\n--mark--more",
        b"--mark\r\n\r\n\r\nx\r\n--mark--",
        b"--mark\r\nx\r\n--mark--",
        b'--mark\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--mark--',
        b"--mark\r\nContent-Disposition: form-data\r\n\r\nx\r\n--mark--",
        b"--mark\r\nX: " + b"x" * 5000 + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--mark--',
        b'--marker\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--marker--',
        b"--mark\r\n" + 5 * b"X: y\r\n" + b'Content-Disposition: form-data; name="a"\r\n\r\nx\r\n--mark--',
        b"--mark \r\n" + HEAD[8:] + b"x\r\n--mark--",
        HEAD + b"x\r\n--mark \r\n" + HEAD[8:] + b"x\r\n--mark--",
        HEAD + b"x\r\n--mark\t\r\n" + HEAD[8:] + b"x\r\n--mark--",
        HEAD + b"x\r\n--mark--\r\nmore",
        HEAD + b"x--mark--",
    ],
)
def test_damaged_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="the parts cannot be read") as refused:
        parts(body, KIND, 5)
    assert refused.value.status == 400


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", f"a/b; boundary={'x' * 71}"])
def test_boundary_is_required(kind: str) -> None:
    with pytest.raises(RequestError, match="no boundary is named"):
        parts(HEAD + b"x\r\n--mark--", kind, 5)


def test_nothing_is_logged_or_printed() -> None:
    """In a process without handlers for logs: what a client sends would stand in the server's output."""
    code = "from sensorium.serve.multipart import parts; parts(b'rubbish', 'a/b; boundary=mark', 1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("sensorium.serve.http_errors.RequestError: the parts cannot be read")
    assert "\nExpected boundary character" not in f"\n{done.stderr}"


def test_what_only_looks_like_a_boundary_counts() -> None:
    """The parser goes through each of them step by step: a body may be full of them."""
    with pytest.raises(RequestError, match="more than 2 parts"):
        parts(HEAD + 3 * b"\r\n--marker" + b"\r\n--mark--", KIND, 2)
    assert parts(HEAD + b"\r\n--marker\r\n--mark--", KIND, 2) == [Part("a", None, b"\r\n--marker")]


def test_number_of_parts_is_limited() -> None:
    with pytest.raises(RequestError, match="more than 2 parts") as refused:
        parts(3 * (HEAD + b"x\r\n") + b"--mark--", KIND, 2)
    assert refused.value.status == 413
    assert len(parts(2 * (HEAD + b"x\r\n") + b"--mark--", KIND, 2)) == 2
