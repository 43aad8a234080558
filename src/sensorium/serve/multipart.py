"""Parser of multipart bodies that are completely in memory."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from python_multipart.multipart import parse_options_header

from sensorium.serve.http_errors import CLOSE, RequestError

_HEAD = 4096
"""Maximum bytes of the headers of a part."""


class Part(NamedTuple):
    """One part of a multipart body.

    Args:
        name: The name of the field.
        file: The file name; None for a plain field.
        data: The content.
    """

    name: str
    file: str | None
    data: bytes


def parts(body: bytes, content_type: str, most: int) -> list[Part]:
    """Split a multipart body at its boundaries.

    Source: RFC 7578, https://datatracker.ietf.org/doc/html/rfc7578, and RFC 2046, section 5.1.1.

    Args:
        body: The complete body.
        content_type: The header ``Content-Type``, which names the boundary.
        most: Maximum number of parts.

    Returns:
        The parts in order.

    Raises:
        RequestError: The body is damaged, truncated or has too many parts.
    """
    mark = _boundary(content_type)
    if not body.startswith(b"--" + mark):
        raise _damaged("they do not begin with the boundary")
    if body.count(b"\r\n--" + mark) > most:
        raise RequestError(413, f"more than {most} parts in one request", headers=CLOSE)
    first, *pieces = body.split(b"\r\n--" + mark)
    pieces.insert(0, first[2 + len(mark) :])
    if pieces.pop().rstrip() != b"--":
        raise _damaged("the request is cut short")
    return [_part(piece) for piece in pieces]


def _boundary(content_type: str) -> bytes:
    mark = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(mark) <= 70:
        raise _damaged("no boundary is named")
    return mark


def _part(piece: bytes) -> Part:
    head, mark, data = piece.partition(b"\r\n\r\n")
    # A boundary may be followed by blanks before the end of the line.
    head = head.lstrip(b" \t")
    if not mark or not head.startswith(b"\r\n") or len(head) > _HEAD:
        raise _damaged("a part has no header, or one that never ends")
    name, file = _named(head)
    return Part(name, file, data)


@lru_cache(1024)
def _named(head: bytes) -> tuple[str, str | None]:
    """Return the names of a part and of its file. Cached, since clients repeat the same few headers."""
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            kind, told = parse_options_header(value)
            if kind == b"form-data" and b"name" in told:
                return _text(told[b"name"]), _text(told[b"filename"]) if b"filename" in told else None
    raise _damaged("a part has no name")


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _damaged(why: str) -> RequestError:
    return RequestError(400, f"the parts cannot be read: {why}", headers=CLOSE)
