"""Parts of multipart bodies that are completely in memory, parsed by python-multipart."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sensorium.serve.http_errors import CLOSE, RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_LINES, _LINE = 4, 2048
"""Maximum number of header lines of a part and of bytes in each: the parser steps through blanks in them one by one."""
# The parser logs what it then raises, which the client is told anyway.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


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

    The body is in memory already (counted as it arrived), and so are its parts: nothing is written to disk. Starlette's
    ``Request.form`` is not used, because it accepts truncated bodies and spools files to disk.

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
    line, last = b"\r\n--" + mark, b"--" + mark + b"--"
    # Searched in C first. The parser steps through boundaries and blanks in Python, so both must be few.
    if body.count(line) > most:
        raise RequestError(413, f"more than {most} parts in one request", headers=CLOSE)
    if line + b" " in body or line + b"\t" in body:
        raise _damaged("blanks follow a boundary")
    form = _Form()
    try:
        MultipartParser(mark, form.callbacks(), max_header_count=_LINES, max_header_size=_LINE).write(body)
    except FormParserError as error:
        raise _damaged(str(error)) from None
    # The parser accepts a body without an end, and anything after the end.
    if not form.ended or not body.endswith((last, last + b"\r\n")):
        raise _damaged("the request is cut short")
    return form.parts


class _Form:
    """Callbacks of the parser: collects the parts in memory."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._named: tuple[str, str | None] | None = None
        self._key = self._value = self._data = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_key,
            "on_header_value": self._on_value,
            "on_header_end": self._header,
            "on_headers_finished": self._headers,
            "on_part_data": self._on_data,
            "on_part_end": self._part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._named, self._data = None, b""

    def _on_key(self, data: bytes, start: int, end: int) -> None:
        self._key += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        if self._named is None and self._key.lower() == b"content-disposition":
            self._named = _named(self._value)
        self._key = self._value = b""

    def _headers(self) -> None:
        if self._named is None:
            raise _damaged("a part has no name")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _part(self) -> None:
        assert self._named is not None  # else its headers were refused
        self.parts.append(Part(*self._named, self._data))

    def _end(self) -> None:
        self.ended = True


def _boundary(content_type: str) -> bytes:
    mark = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(mark) <= 70:
        raise _damaged("no boundary is named")
    return mark


@lru_cache(1024)
def _named(disposition: bytes) -> tuple[str, str | None] | None:
    """The name of a part and of its file. Remembered: a client sends the same few headers again and again."""
    kind, options = parse_options_header(disposition)
    if kind != b"form-data" or b"name" not in options:
        return None
    return _text(options[b"name"]), _text(options[b"filename"]) if b"filename" in options else None


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _damaged(why: str) -> RequestError:
    return RequestError(400, f"the parts cannot be read: {why}", headers=CLOSE)
