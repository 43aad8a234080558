"""Quoting of column names on the command line, and of printed commands.

One rule holds for every option that takes names: a name is written as it is, or as a JSON string in double quotes. Quotes
are needed if the option would split the name (a comma in a list, ``=`` before a kind, a dot in the path of an override),
and around a name that itself begins with a double quote.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import NamedTuple


class Piece(NamedTuple):
    """A part of a text, without its quotes if it had any."""

    text: str
    quoted: bool


def pieces(text: str, mark: str = ",") -> list[Piece]:
    """``text`` such as ``id, "a,b"`` split at every ``mark`` outside quotes, stripped; empty pieces are dropped."""
    parts = []
    at = 0
    while at <= len(text):
        piece, at = _next(text, at, mark)
        at += 1
        if piece.text or piece.quoted:
            parts.append(piece)
    return parts


def names(text: str | None) -> list[str]:
    """The names in ``text`` such as ``id, "a,b"``."""
    return [piece.text for piece in pieces(text or "")]


def name(text: str) -> str:
    """The single name in ``text``: the contents of its quotes, or the text itself."""
    quoted = _quoted(text, 0)
    return text if quoted is None or text[quoted[1] :].strip() else quoted[0]


def pair(text: str) -> tuple[str, str | None]:
    """``text`` such as ``"a=b"=number`` as ``a=b`` and ``number``; the second is None without an ``=`` outside quotes."""
    quoted = _quoted(text, 0)
    if quoted is not None and text[quoted[1] :].lstrip().startswith("="):
        return quoted[0], text[quoted[1] :].lstrip()[1:]
    if quoted is not None and not text[quoted[1] :].strip():
        return quoted[0], None
    first, equals, value = text.partition("=")
    return first, value if equals else None


def path(text: str) -> tuple[list[str], str | None]:
    """``text`` such as ``columns."a.b".kind=number`` as ``[columns, a.b, kind]`` and ``number``; None without an ``=``."""
    keys = []
    at = 0
    while True:
        piece, at = _next(text, at, ".=", strip=False)
        keys.append(piece.text)
        if at >= len(text):
            return keys, None
        at += 1
        if text[at - 1] == "=":
            return keys, text[at:]


def written(text: str, marks: str = ",=.") -> str:
    """The name ``text`` as written in an option that is split at ``marks``: quoted where necessary."""
    plain = text and text == text.strip() and not text.startswith('"') and not set(marks) & set(text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def option(flag: str, text: str) -> str:
    """The option ``flag`` with the value ``text``, quoted for the shell: ``--target 'my label'``."""
    return f"{flag}={shlex.quote(text)}" if text.startswith("-") else f"{flag} {shlex.quote(text)}"


def target(column: str) -> str:
    """``--target COLUMN`` with the quoted name ``column``."""
    return option("--target", written(column, ""))


def ignoring(columns: Iterable[str]) -> str:
    """``--ignore a,b`` with quoted ``columns``."""
    return option("--ignore", ",".join(written(column, ",") for column in columns))


def as_kind(column: str, kind: str) -> str:
    """``--as column=kind`` for pasting."""
    return option("--as", f"{written(column, '=')}={kind}")


def assigned(keys: Iterable[str], value: str) -> str:
    """``columns.photo.on=mask`` from ``keys`` and ``value``, quoted."""
    return shlex.quote(f"{'.'.join(written(key, '.=') for key in keys)}={value}")


def command(*words: object) -> str:
    """A complete command line from ``words``."""
    return shlex.join(map(str, words))


def _next(text: str, at: int, marks: str, *, strip: bool = True) -> tuple[Piece, int]:
    """Return the piece that begins at a position, and the position of the mark after it, or of the end."""
    quoted = _quoted(text, at)
    if quoted is not None:
        after = quoted[1]
        while after < len(text) and text[after].isspace():
            after += 1
        if after == len(text) or text[after] in marks:
            return Piece(quoted[0], True), after
    end = min((text.find(mark, at) for mark in marks if text.find(mark, at) >= 0), default=len(text))
    piece = text[at:end]
    return Piece(piece.strip() if strip else piece, False), end


def _quoted(text: str, at: int) -> tuple[str, int] | None:
    """Return the JSON string that begins at a position (after blanks), and its end; None if there is none."""
    while at < len(text) and text[at].isspace():
        at += 1
    if not text.startswith('"', at):
        return None
    try:
        content, end = json.JSONDecoder(strict=False).raw_decode(text, at)
    except ValueError:
        return None
    return str(content), end
