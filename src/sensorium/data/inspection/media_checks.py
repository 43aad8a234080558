"""Every media cell of a column opened and decoded once: which cannot be used, and which are the same content."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import CellError
from sensorium.core.modality import Modality, is_blank
from sensorium.core.schema import Opener, Problem, content
from sensorium.data.files.media_access import weight_of
from sensorium.data.store.content_digest import digest
from sensorium.data.tables.table import Table

FITTED_ON = 16
FITTED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Decoded:
    """What opening a media column found.

    Args:
        problems: The cells that cannot be used.
        digests: For each row a digest of the content; None where the cell is missing or cannot be used.
    """

    problems: list[Problem]
    digests: list[bytes | None]


def reader(table: Table, column: str, spec: dict[str, Any], media: Opener) -> Modality:
    """A modality fitted on the first few cells of a column that can be used."""

    def usable() -> Iterable[Any]:
        for i, cell in enumerate(table.column(column)):
            if is_blank(cell):
                continue
            try:
                trial: Modality = registry.build("modalities", spec)
                given = content(trial, cell, media, table.number(i), column)
                trial.fit([given])
                trial.encode(given)
            except CellError:
                continue  # It is told of when its turn comes to be decoded.
            yield given

    sample: list[Any] = []
    size = 0
    for given in islice(usable(), FITTED_ON):
        sample.append(given)
        size += weight_of(given)
        if size > FITTED_BYTES:
            break
    modality: Modality = registry.build("modalities", spec)
    modality.fit(sample)
    return modality


def decode(
    table: Table, column: str, modality: Modality, media: Opener, *, progress: Callable[[int], None] | None = None
) -> Decoded:
    """Opens and encodes every cell in threads; a file named by several rows is read once."""
    cells = table.column(column)
    first: dict[Any, int] = {}
    same: list[int | None] = []
    for i, cell in enumerate(cells):
        same.append(None if is_blank(cell) else first.setdefault(cell, i) if isinstance(cell, str) else i)
    found: dict[int, bytes | CellError] = {}

    def one(i: int) -> tuple[int, bytes | CellError]:
        try:
            given = content(modality, cells[i], media, table.number(i), column)
            modality.encode(given)
            return i, digest(given)
        except CellError as error:
            return i, error

    todo = [i for i, source in enumerate(same) if source == i]
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        for done, (i, result) in enumerate(pool.map(one, todo), 1):
            found[i] = result
            if progress is not None:
                progress(done)
    problems: list[Problem] = []
    digests: list[bytes | None] = []
    for i, source in enumerate(same):
        seen = None if source is None else found[source]
        if isinstance(seen, CellError):
            cell = cells[i]
            file = seen.file or (cell if isinstance(cell, str) and modality.media else None)
            problems.append(Problem(table.number(i), column, None if file is None else str(file), seen.problem))
        digests.append(seen if isinstance(seen, bytes) else None)
    return Decoded(problems, digests)
