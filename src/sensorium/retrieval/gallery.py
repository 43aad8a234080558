"""The rows of a gallery as the contents of an index."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, DataError, listed, nearest
from sensorium.core.modality import is_blank
from sensorium.core.plurals import counted
from sensorium.core.scalars import plain
from sensorium.core.schema import Problem
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.tables.table import Table
from sensorium.predictor import Predictor
from sensorium.retrieval.index_files import Contents

Progress = Callable[[int, int], None]
"""Called with the number of rows done and their total."""
LARGEST = 1 << 53
"""Whole numbers from here on are shown as text: JSON readers would round them."""


@dataclass
class Added:
    """What became of the rows of a gallery.

    Args:
        rows: The number of rows that were indexed.
        skipped: Numbers of the rows that have none of the sides, so that nothing could find them.
        problems: Cells that could not be used.
    """

    rows: int = 0
    skipped: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def with_rows(
    contents: Contents,
    predictor: Predictor,
    table: Table,
    *,
    id: str | None = None,
    batch_size: int = 64,
    replacing: bool = False,
    folder: str | None = None,
    step: Progress | None = None,
) -> tuple[Contents, Added]:
    """Return ``contents`` and the rows of ``table``, and what became of these.

    Args:
        contents: An index.
        predictor: Its model.
        table: The rows to add.
        id: The column that identifies rows; None: they are numbered on.
        batch_size: Rows in each pass through the model.
        replacing: Whether rows replace those of the same identifier, which is an error otherwise.
        folder: The folder that media of the rows are relative to, relative to the index; None: not known.
        step: Reports progress.

    Raises:
        DataError: There are no rows, none has any side, or identifiers are missing or repeated.
    """
    if len(table) == 0:
        raise DataError("the gallery has no rows", file=table.source, fix="name a table with rows")
    names, following = _identifiers(table, id, contents)
    opener = LocalFiles(table.root or Path.cwd(), anywhere=True)
    added, vectors, present, kept = Added(), [], [], []
    encoded = predictor.side_vectors(table.rows(), contents.task, batch_size=batch_size, media=opener)
    for i, one in enumerate(encoded):
        added.problems.extend(problem for problem in one.problems if problem.missing)
        if bool(one.present.any()):
            vectors.append(one.vectors.numpy())
            present.append(one.present.numpy())
            kept.append(i)
        else:
            added.skipped.append(table.number(i))
        if step is not None:
            step(i + 1, len(table))
    if not kept:
        raise DataError(
            f"no row has a usable {' or '.join(contents.sides)}",
            file=table.source,
            fix=f"it has {listed(table.columns)}; the model reads {listed(query_columns(predictor, contents.task))}",
        )
    ids = [names[i] for i in kept]
    known = set(ids).intersection(contents.ids)
    if known and not replacing:
        example = next(one for one in ids if one in known)
        problem = f"{counted(len(known), 'row')} with an identifier that the index has, such as {example[:60]!r}"
        raise DataError(problem, file=table.source, fix="--replace replaces them")
    contents = without_rows(contents, known) if known else contents
    added.rows = len(ids)
    cells = {
        column: [*old, *(_cell(table.column(column)[i]) if table.has(column) else None for i in kept)]
        for column, old in contents.cells.items()
    }
    folders, folder_of = contents.folders, contents.folder_of
    if folder is not None and (folders or not contents.ids):
        folders = folders if folder in folders else (*folders, folder)
        folder_of = [*folder_of, *[folders.index(folder)] * len(ids)]
    elif folders:  # rows without a folder cannot be distinguished from others: no media are shown
        folders, folder_of = (), []
    extended = replace(
        contents,
        folders=folders,
        folder_of=folder_of,
        ids=[*contents.ids, *ids],
        cells=cells,
        following=following,
        present=np.concatenate([contents.present, np.stack(present, axis=1)], axis=1),
        vectors=np.concatenate([contents.vectors, np.stack(vectors, axis=1)], axis=1),
    )
    return extended, added


def without_rows(contents: Contents, ids: Collection[str]) -> Contents:
    """Return ``contents`` without the rows of ``ids``."""
    gone = set(ids)
    keep = [i for i, one in enumerate(contents.ids) if one not in gone]
    return replace(
        contents,
        ids=[contents.ids[i] for i in keep],
        cells={column: [cells[i] for i in keep] for column, cells in contents.cells.items()},
        folder_of=[contents.folder_of[i] for i in keep] if contents.folder_of else [],
        present=contents.present[:, keep],
        vectors=contents.vectors[:, keep],
    )


def query_columns(predictor: Predictor, task: str) -> list[str]:
    """Return the columns that the sides of ``task`` of the model in ``predictor`` are read from: those of which a query
    may give cells."""
    composition = predictor.model.tasks[task].sides
    streams = [stream for parts in composition.values() for stream in parts]
    return [column.source for stream in streams for column in predictor.schema.streams[stream]]


def common_space(predictor: Predictor, task: str | None) -> tuple[str, list[str]]:
    """Return the name of the ``task`` of the model in ``predictor`` that has a common space, and its sides.

    Raises:
        ConfigError: There is none, or several and ``task`` is None.
    """
    spaces = {name: list(task.sides) for name, task in predictor.model.tasks.items() if task.sides}
    if not spaces:
        fix = "train one: sensorium fit TABLE --task retrieval --between photo,caption"
        raise ConfigError("the model has no common space to search in", fix=fix)
    if task is None and len(spaces) > 1:
        raise ConfigError(f"the model has several common spaces: {', '.join(spaces)}", fix=f"--task {next(iter(spaces))}")
    name = next(iter(spaces)) if task is None else task
    if name not in spaces:
        raise ConfigError(f"no task {name!r} with a common space{nearest(name, spaces)}")
    return name, spaces[name]


def _identifiers(table: Table, id: str | None, contents: Contents) -> tuple[list[str], int]:
    """The identifier of each row of a table, and the number to go on from."""
    if id is None:
        known = set(contents.ids)
        numbers = list(islice((n for n in count(contents.following) if str(n) not in known), len(table)))
        return [str(n) for n in numbers], numbers[-1] + 1
    names: list[str] = []
    seen: dict[str, int] = {}
    for i, cell in enumerate(table.column(id)):
        number = table.number(i)
        if is_blank(cell):
            fix = "fill the cell, or leave out --id"
            raise DataError("has no identifier", file=table.source, row=number, column=id, fix=fix)
        name = str(plain(cell)).strip()
        if name in seen:
            problem = f"has the identifier {name[:60]!r} of row {seen[name]}"
            raise DataError(problem, file=table.source, row=number, column=id, fix="identifiers must differ")
        seen[name] = number
        names.append(name)
    return names, contents.following


def _cell(cell: Any) -> str | int | float | bool | None:
    """A cell as results show it: plain data, a short description of anything else."""
    if is_blank(cell):
        return None
    value = plain(cell)
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float)) and abs(value) < LARGEST:
        return value
    return f"<{len(value):,} bytes>" if isinstance(value, bytes) else str(value)[:200]
