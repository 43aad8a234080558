"""Decoding of every media cell of a column: unusable cells, and digests that identify equal content."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sensorium.core import registry
from sensorium.core.cell_content import Opener, content, named_file
from sensorium.core.cpu_cores import process_cores
from sensorium.core.errors import CellError
from sensorium.core.modality import Modality, is_blank
from sensorium.core.problem import Problem, add_problem
from sensorium.data.files.media_access import weight_of
from sensorium.data.store.content_digest import digest
from sensorium.data.tables.table import Table

FITTED_ON = 16
FITTED_BYTES = 256 * 2**20
"""A modality is fitted on the first ``FITTED_ON`` usable cells, or fewer once they take ``FITTED_BYTES``."""


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a media column.

    Args:
        problems: Cells that cannot be used.
        digests: The content digest of each row; None where the cell is missing or unusable.
    """

    problems: list[Problem]
    digests: list[bytes | None]


def reader(table: Table, column: str, spec: dict[str, Any], media: Opener) -> Modality:
    """Return a modality fitted on the first usable cells of a column.

    Args:
        table: The table.
        column: The column.
        spec: Its kind and options.
        media: Opens the cells.
    """

    def usable() -> Iterable[Any]:
        for i, cell in enumerate(table.column(column)):
            if is_blank(cell):
                continue
            try:
                trial: Modality = registry.build("modalities", spec)
                value = content(trial, cell, media, table.number(i), column)
                trial.fit([value])
                trial.encode(value)
            except CellError:
                continue  # reported when the cell is decoded
            yield value

    sample: list[Any] = []
    size = 0
    for value in islice(usable(), FITTED_ON):
        sample.append(value)
        size += weight_of(value)
        if size > FITTED_BYTES:
            break
    modality: Modality = registry.build("modalities", spec)
    modality.fit(sample)
    return modality


def decode(
    table: Table, column: str, modality: Modality, media: Opener, *, progress: Callable[[int], None] | None = None
) -> Decoded:
    """Open and encode every cell in threads; a file named by several rows is read once.

    Args:
        table: The table.
        column: The column.
        modality: The fitted modality that encodes the cells.
        media: Opens the cells.
        progress: Receives the number of cells done.
    """
    cells = table.column(column)
    first: dict[Any, int] = {}
    source_row: list[int | None] = []
    for i, cell in enumerate(cells):
        source_row.append(None if is_blank(cell) else first.setdefault(cell, i) if isinstance(cell, str) else i)
    results: dict[int, bytes | CellError] = {}

    def decode_row(i: int) -> tuple[int, bytes | CellError]:
        try:
            value = content(modality, cells[i], media, table.number(i), column)
            modality.encode(value)
            return i, digest(value)
        except CellError as error:
            return i, error

    distinct = [i for i, source in enumerate(source_row) if source == i]
    with ThreadPoolExecutor(min(8, process_cores() + 1)) as pool:
        for done, (i, result) in enumerate(pool.map(decode_row, distinct), 1):
            results[i] = result
            if progress is not None:
                progress(done)
    problems: list[Problem] = []
    digests: list[bytes | None] = []
    for i, source in enumerate(source_row):
        outcome = None if source is None else results[source]
        if isinstance(outcome, CellError):
            cell = cells[i]
            file = outcome.file or (named_file(modality, cell) if isinstance(cell, str) else None)
            add_problem(problems, table.number(i), column, file, outcome.problem, fix=outcome.fix)
        digests.append(outcome if isinstance(outcome, bytes) else None)
    return Decoded(problems, digests)
