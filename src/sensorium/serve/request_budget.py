"""Size checks before decoding: requests whose file headers announce too much data are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sensorium.codecs.video import container
from sensorium.core.cell_content import Opener, content
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob, is_blank
from sensorium.core.schema import Column, Record, Schema
from sensorium.serve.http_errors import RequestError
from sensorium.serve.limits import Limits

BUDGETS = {"pixels": "images", "samples": "sounds", "tokens": "texts"}
"""The units of the budgets of a request, and the cells they apply to."""
CHEAP_BYTES = 2**20
"""Bytes of files up to which headers are read on the event loop: it takes a fraction of a second at most."""
_FAST_HEADERS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
"""First bytes of the formats whose headers are at a fixed place."""
_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
"""PNG chunks of metadata, each of which may decompress to a million characters."""
_SMALL = 2**16
_LIGHT, _LIGHT_CHARACTERS = 2**19, 50_000
_HUGE = 16 * 2**20
_EXTRA_TOKENS = 8  # special tokens at the beginning and the end of a text


class DecodingCost(NamedTuple):
    """The amount of data that a request decodes to.

    Args:
        decoded: Pixels of images and frames plus samples of sounds.
        characters: Characters of texts.
        bytes: Bytes of files.
    """

    decoded: float = 0.0
    characters: int = 0
    bytes: int = 0

    @property
    def light(self) -> bool:
        """Whether decoding takes only some milliseconds."""
        return self.decoded <= _LIGHT and self.characters <= _LIGHT_CHARACTERS and self.bytes <= CHEAP_BYTES

    @property
    def huge(self) -> bool:
        """Whether decoding needs so much memory that only one request is decoded at a time."""
        return self.decoded > _HUGE


class RequestBudget:
    """Measures requests to one model and refuses those that exceed the limits.

    Args:
        schema: The columns of the model.
        limits: Limits on cells and on requests.
        media: Opens media cells.
    """

    def __init__(self, schema: Schema, limits: Limits, media: Opener) -> None:
        self.limits, self.media = limits, media
        self._measured = [column for column in schema.read if column.reader.bounds]
        self._most = {column.name: limits.below(column.reader.bounds) for column in self._measured}

    def is_cheap(self, rows: Sequence[Record]) -> bool:
        """Return whether reading the headers of ``rows`` is fast: few bytes, and no video, whose size needs decoding."""
        total = 0
        for part in _parts(rows):
            size = _size(part)
            total += size
            data = _data(part)
            if total > CHEAP_BYTES or (size > _SMALL and not data.startswith(_FAST_HEADERS)) or container(data):
                return False
            if data.startswith(b"\x89PNG") and sum(data.count(name) for name in _COMPRESSED) > 2:
                return False
        return True

    def measure(self, rows: Sequence[Record]) -> DecodingCost:
        """Measure ``rows`` by their headers. Raises ``RequestError`` if a cell or the request exceeds the limits."""
        totals = dict.fromkeys(BUDGETS, 0.0)
        texts: list[tuple[Column, Any]] = []
        measured: dict[tuple[str, int], dict[str, float]] = {}
        for number, row in enumerate(rows, 1):
            for column in self._measured:
                cell = row.get(column.source)
                if is_blank(cell):
                    continue
                if "tokens" in column.reader.bounds:
                    texts.append((column, cell))
                    if not self._most[column.name]:
                        continue
                key = column.name, id(cell)  # several rows may refer to the same part of a request
                sizes = measured.get(key)
                if sizes is None:
                    sizes = measured[key] = self._measure(column, cell, number)
                self._check(column, sizes, number)
                if any(sizes.get(name, 0) > most for name, most in column.reader.bounds.items()):
                    continue  # the modality refuses it before decoding
                totals["pixels"] += sizes.get("all pixels", sizes.get("pixels", 0)) * sizes.get("frames", 1)
                totals["samples"] += sizes.get("samples", 0)
        totals["tokens"] = self._tokens(texts)
        for name, size in totals.items():
            if size > (most := getattr(self.limits, f"request_{name}")):
                raise _over_budget(name, size, most)
        parts = [(isinstance(part, str), _size(part)) for part in _parts(rows)]
        return DecodingCost(
            totals["pixels"] + totals["samples"],
            sum(size for text, size in parts if text),
            sum(size for text, size in parts if not text),
        )

    def _measure(self, column: Column, cell: Any, number: int) -> dict[str, float]:
        reader = column.reader
        try:
            value = content(reader, cell, self.media, number, column.name)
            sizes = reader.measure(value)
            if isinstance(value, list) and "pixels" in sizes:
                sizes = {**sizes, "all pixels": sum(reader.measure([part]).get("pixels", 0) for part in value)}
        except CellError:
            return {}  # decoding raises the same error and reports it
        return sizes

    def _check(self, column: Column, sizes: Mapping[str, float], number: int) -> None:
        for name, most in self._most[column.name].items():
            if (size := sizes.get(name, 0)) > most:
                problem = f"{round(size, 3):,} {name} are more than the allowed {round(most, 3):,}"
                raise RequestError(
                    413, problem, row=number, column=column.source, fix="send a smaller or shorter file or text"
                )

    def _tokens(self, texts: Sequence[tuple[Column, Any]]) -> float:
        """Count the tokens of all texts; not exactly if their bytes, an upper bound, are within the budget."""
        most = self.limits.request_tokens
        bound = sum(len(str(cell).encode(errors="replace")) + _EXTRA_TOKENS for _, cell in texts)
        if bound <= most:
            return bound
        size = 0.0
        for column, cell in texts:
            size += column.reader.measure(cell).get("tokens", 0)
            if size > most:  # over budget: the exact number is not needed
                break
        return size


def _parts(rows: Sequence[Record]) -> Iterator[Any]:
    """Iterate over every text and file of a request."""
    for row in rows:
        for cell in row.values():
            for part in cell if isinstance(cell, list) else (cell,):
                if isinstance(part, (str, bytes, Blob)):
                    yield part


def _data(part: Any) -> bytes:
    return part.data if isinstance(part, Blob) else part if isinstance(part, bytes) else b""


def _size(part: Any) -> int:
    return len(part) if isinstance(part, str) else len(_data(part))


def _over_budget(name: str, size: float, most: int) -> RequestError:
    problem = (
        f"the {BUDGETS[name]} of this request have {size:,.0f} {name}, more than the {most:,} that one request may have"
    )
    fix = f"send fewer or smaller rows per request; the operator can raise the limit: --max-request-{name}"
    error = RequestError(413, problem, fix=fix)
    error.details |= {"budget": name, "asked": round(size), "allowed": most}
    return error
