"""How large the cells of a request say they are, by their headers: what is too much is refused before it is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sensorium.codecs.video import container
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob, is_blank
from sensorium.core.schema import Column, Opener, Record, Schema, content
from sensorium.serve.http_errors import RefusedError
from sensorium.serve.limits import Limits

BUDGETS = {"pixels": "pictures", "samples": "sounds", "tokens": "texts"}
"""What a request may have so much of, and what has it."""
QUICK = 2**20
"""Bytes of the files of a request whose headers are read where the request is: no longer than a fraction of a second."""
_PLAIN = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
"""How files begin whose headers are found at once."""
_PACKED = (b"zTXt", b"iTXt", b"iCCP")
"""Parts of a PNG beside its pixels, each of which may unpack to a million characters."""
_SMALL = 2**16
_LIGHT, _WORDS = 2**19, 50_000
_HUGE = 16 * 2**20
_MARKS = 8  # tokens of a text besides its words: where it begins and ends


class Weight(NamedTuple):
    """What a request asks to have decoded.

    Args:
        decoded: Pixels of pictures and frames, and samples of sounds.
        characters: Of its texts.
        bytes: Of its files.
    """

    decoded: float = 0.0
    characters: int = 0
    bytes: int = 0

    @property
    def light(self) -> bool:
        """Whether it is done in some milliseconds."""
        return self.decoded <= _LIGHT and self.characters <= _WORDS and self.bytes <= QUICK

    @property
    def huge(self) -> bool:
        """Whether it takes so much memory and time that one after the other is decoded."""
        return self.decoded > _HUGE


class Scales:
    """Weighs the requests to one model, and refuses those that are too heavy.

    Args:
        media: Opens media cells.
    """

    def __init__(self, schema: Schema, limits: Limits, media: Opener) -> None:
        self.limits, self.media = limits, media
        self._measured = [column for column in schema.read if column.reader.bounds]
        self._most = {column.name: limits.below(column.reader.bounds) for column in self._measured}

    def quick(self, rows: Sequence[Record]) -> bool:
        """Whether all headers are read in no time: few bytes, and no video, of which frames are decoded to know it."""
        found = 0
        for part in _parts(rows):
            size = _size(part)
            found += size
            data = _data(part)
            if found > QUICK or (size > _SMALL and not data.startswith(_PLAIN)) or container(data):
                return False
            if data.startswith(b"\x89PNG") and sum(data.count(name) for name in _PACKED) > 2:
                return False
        return True

    def weigh(self, rows: Sequence[Record]) -> Weight:
        """Raises ``RefusedError`` for a cell or a request that is larger than the limits."""
        asked = dict.fromkeys(BUDGETS, 0.0)
        texts: list[tuple[Column, Any]] = []
        known: dict[tuple[str, int], dict[str, float]] = {}
        for number, row in enumerate(rows, 1):
            for column in self._measured:
                cell = row.get(column.source)
                if is_blank(cell):
                    continue
                if "tokens" in column.reader.bounds:
                    texts.append((column, cell))
                    if not self._most[column.name]:
                        continue
                key = column.name, id(cell)  # rows may refer to the same part of a request again and again
                told = known.get(key)
                if told is None:
                    told = known[key] = self._told(column, cell, number)
                self._allow(column, told, number)
                if any(told.get(name, 0) > most for name, most in column.reader.bounds.items()):
                    continue  # its modality refuses it unread
                asked["pixels"] += told.get("all pixels", told.get("pixels", 0)) * told.get("frames", 1)
                asked["samples"] += told.get("samples", 0)
        asked["tokens"] = self._tokens(texts)
        for name, found in asked.items():
            if found > (most := getattr(self.limits, f"request_{name}")):
                raise _too_much(name, found, most)
        sizes = [(isinstance(part, str), _size(part)) for part in _parts(rows)]
        return Weight(
            asked["pixels"] + asked["samples"],
            sum(size for text, size in sizes if text),
            sum(size for text, size in sizes if not text),
        )

    def _told(self, column: Column, cell: Any, number: int) -> dict[str, float]:
        reader = column.reader
        try:
            given = content(reader, cell, self.media, number, column.name)
            told = reader.measure(given)
            if isinstance(given, list) and "pixels" in told:
                told = {**told, "all pixels": sum(reader.measure([part]).get("pixels", 0) for part in given)}
        except CellError:
            return {}  # the one who decodes it meets the same, and says so
        return told

    def _allow(self, column: Column, told: Mapping[str, float], number: int) -> None:
        for name, most in self._most[column.name].items():
            if (found := told.get(name, 0)) > most:
                problem = f"{round(found, 3):,} {name} are more than the {round(most, 3):,} allowed"
                raise RefusedError(413, problem, row=number, column=column.source, fix="send a smaller or shorter one")

    def _tokens(self, texts: Sequence[tuple[Column, Any]]) -> float:
        """Of all texts. Few have more tokens than bytes: most requests are within the budget unread."""
        most = self.limits.request_tokens
        bound = sum(len(str(cell).encode(errors="replace")) + _MARKS for _, cell in texts)
        if bound <= most:
            return bound
        found = 0.0
        for column, cell in texts:
            found += column.reader.measure(cell).get("tokens", 0)
            if found > most:  # enough is known; what follows would cost as much again
                break
        return found


def _parts(rows: Sequence[Record]) -> Iterator[Any]:
    """Every text and file of a request."""
    for row in rows:
        for cell in row.values():
            for part in cell if isinstance(cell, list) else (cell,):
                if isinstance(part, (str, bytes, Blob)):
                    yield part


def _data(part: Any) -> bytes:
    return part.data if isinstance(part, Blob) else part if isinstance(part, bytes) else b""


def _size(part: Any) -> int:
    return len(part) if isinstance(part, str) else len(_data(part))


def _too_much(name: str, found: float, most: int) -> RefusedError:
    problem = (
        f"the {BUDGETS[name]} of this request have {found:,.0f} {name}, more than the {most:,} that one request may have"
    )
    fix = f"send fewer rows at a time, or smaller ones; whoever runs the server can raise it: --max-request-{name}"
    refused = RefusedError(413, problem, fix=fix)
    refused.said |= {"budget": name, "asked": round(found), "allowed": most}
    return refused
