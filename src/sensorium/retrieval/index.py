"""An index of rows in the common space of a model, and exact search in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sensorium.artifact import Artifact
from sensorium.core.cell_content import Opener
from sensorium.core.errors import ArtifactError, ConfigError, DataError, listed, nearest
from sensorium.core.layout import Ids
from sensorium.core.schema import Record
from sensorium.data.files.atomic_write import readable_disk_errors
from sensorium.data.store.file_lock import FileLock
from sensorium.data.tables.table import Table
from sensorium.predictor import Predictor
from sensorium.retrieval.gallery import Added, Progress, common_space, query_columns, with_rows, without_rows
from sensorium.retrieval.hit import Hit
from sensorium.retrieval.index_files import REPAIR, Contents, holds_index, read_index, write_index
from sensorium.retrieval.nearest import nearest_rows
from sensorium.retrieval.row_filter import parse_filter, select_rows

MOST = 10_000
"""Maximum number of rows that a search returns."""
LOCK = ".lock"


class Index:
    """Rows of a gallery as vectors in the common space of a model, searched exactly.

    Use ``Index.create`` or ``Index.open``.

    Args:
        folder: The folder of the index.
        contents: What it holds.
        predictor: The model it was made with.
    """

    def __init__(self, folder: Path, contents: Contents, predictor: Predictor) -> None:
        self.folder, self.predictor = folder, predictor
        self._set(contents)

    def _set(self, contents: Contents) -> None:
        self.contents = contents
        self._place = {identifier: i for i, identifier in enumerate(contents.ids)}

    # ── making and opening ─────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def create(
        cls,
        folder: str | Path,
        model: Any,
        rows: Any,
        *,
        run: str | Path | None = None,
        task: str | None = None,
        id: str | None = None,
        show: Sequence[str] | None = None,
        media: str | Path | None = None,
        batch_size: int = 64,
        overwrite: bool = False,
        approximate: bool = False,
        step: Progress | None = None,
    ) -> tuple[Self, Added]:
        """Index the rows of a gallery; return the index and what became of the rows.

        Args:
            folder: The folder of the index, written atomically.
            model: A trained model: what ``fit`` and ``load`` return, or a ``Predictor``.
            rows: The gallery: a path, a frame, a list of dicts or a dict of columns.
            run: The folder of the model, kept so that the command line finds it.
            task: The task whose space is used; None: the only one that has one.
            id: A column that identifies rows; None: they are numbered.
            show: The columns to keep for results and filters; None: all.
            media: Folder of relative media paths; by default the table's, else the working folder.
            batch_size: Rows in each pass through the model.
            overwrite: Whether an existing index is replaced.
            approximate: Whether search visits only the nearest cells once there are many rows (``coarse_cells.LEAST``).
            step: Called with the number of rows done and their total.

        Raises:
            ConfigError: The model has no common space, or the folder holds something else.
            DataError: The gallery is empty, no row has any side, or identifiers are missing or repeated.
        """
        folder, predictor = Path(folder), _predictor(model)
        if folder.exists() and not folder.is_dir():
            raise ConfigError("is a file, not a folder", file=folder, fix="name another with --out")
        if holds_index(folder) and not overwrite:
            raise ConfigError(
                "holds an index", file=folder, fix="add to it with --add, replace it with --overwrite, or name another"
            )
        if folder.is_dir() and not holds_index(folder) and any(path.name != LOCK for path in folder.iterdir()):
            raise ConfigError("is not empty and holds no index", file=folder, fix="name another with --out")
        name, sides = common_space(predictor, task)
        table = Table.read(rows, root=media)
        columns = table.columns if show is None else list(show)
        for column in [*columns, *([] if id is None else [id])]:
            table.column(column)  # raises an error that lists the columns
        width = predictor.sides_of([{}], name)[0].shape[2]
        empty = Contents(
            model=predictor.artifact.digest,
            run="" if run is None else os.path.relpath(run, folder),
            task=name,
            sides=tuple(sides),
            ids=[],
            cells={column: [] for column in columns},
            following=1,
            present=np.zeros((len(sides), 0), dtype=bool),
            vectors=np.zeros((len(sides), 0, width), dtype=np.float32),
            approximate=approximate,
        )
        index = cls(folder, empty, predictor)
        where = os.path.relpath(table.root or Path.cwd(), folder)
        contents, added = with_rows(empty, predictor, table, id=id, batch_size=batch_size, folder=where, step=step)
        with readable_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with index._lock():
                write_index(folder, contents)
        index._set(read_index(folder))
        return index, added

    @classmethod
    def open(cls, folder: str | Path, model: Any = None, *, device: str = "auto", media: Opener | None = None) -> Self:
        """Open the index in ``folder``, verifying every byte.

        Args:
            folder: The folder of the index.
            model: The model that it was made with, or its folder; None: where it was when the index was made.
            device: Where a model that is loaded from a folder runs.
            media: What media cells of queries may open, for a model that is loaded from a folder; see ``Predictor``.

        Raises:
            ArtifactError: The index is damaged, or the model is another or cannot be found.
        """
        folder = Path(folder)
        contents = read_index(folder)
        if model is None:
            run = folder / contents.run
            if not contents.run or not run.is_dir():
                raise ArtifactError(
                    f"the model it was made with is not at {run}" if contents.run else "names no model",
                    file=folder,
                    fix="name its folder: --model RUN",
                )
            model = run
        if isinstance(model, (str, os.PathLike)):
            model = Predictor(Artifact.load(Path(model)), device=device, media=media)
        predictor = _predictor(model)
        if predictor.artifact.digest != contents.model:
            raise ArtifactError(
                "was made with another model, whose vectors are not comparable",
                file=folder,
                fix=f"name that model with --model, or {REPAIR}",
            )
        if tuple(common_space(predictor, contents.task)[1]) != contents.sides:
            raise ArtifactError("has other sides than its model", file=folder, fix="make the index again")
        return cls(folder, contents, predictor)

    def __len__(self) -> int:
        return len(self.contents.ids)

    @property
    def sides(self) -> tuple[str, ...]:
        """The names of the sides."""
        return self.contents.sides

    @property
    def columns(self) -> list[str]:
        """The columns that results show and filters name."""
        return list(self.contents.cells)

    # ── changing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        rows: Any,
        *,
        id: str | None = None,
        media: str | Path | None = None,
        batch_size: int = 64,
        replace: bool = False,
        step: Progress | None = None,
    ) -> Added:
        """Add rows; return what became of them.

        Args:
            rows: As for ``create``. Columns that the index does not show are left out; those that are absent are empty.
            id: A column that identifies rows; None: they are numbered on.
            media: Folder of relative media paths; by default the table's, else the working folder.
            batch_size: Rows in each pass through the model.
            replace: Whether rows replace those of the same identifier, which is an error otherwise.
            step: Called with the number of rows done and their total.
        """
        table = Table.read(rows, root=media)
        with self._lock():
            self._set(self._current())
            contents, added = with_rows(
                self.contents,
                self.predictor,
                table,
                id=id,
                batch_size=batch_size,
                replacing=replace,
                folder=os.path.relpath(table.root or Path.cwd(), self.folder),
                step=step,
            )
            write_index(self.folder, contents)
            self._set(read_index(self.folder))
        return added

    def remove(self, ids: Iterable[Any]) -> int:
        """Remove the rows with these ``ids``; return their number.

        Raises:
            ConfigError: An identifier is not in the index; nothing is removed then.
        """
        wanted = [str(one) for one in ids]
        with self._lock():
            self._set(self._current())
            for one in wanted:
                self.place_of(one)
            contents = without_rows(self.contents, wanted)
            write_index(self.folder, contents)
            self._set(read_index(self.folder))
        return len(set(wanted))

    def _current(self) -> Contents:
        """The contents on disk, which another process may have changed."""
        contents = read_index(self.folder)
        if contents.model != self.contents.model:
            raise ArtifactError("was replaced by the index of another model", file=self.folder, fix="open it again")
        return contents

    def _lock(self) -> FileLock:
        lock = FileLock(self.folder / LOCK, lambda: None)
        lock.acquire()
        return lock

    # ── searching ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def search(
        self,
        query: str | Record | None = None,
        *,
        row: Any = None,
        among: Sequence[str] | None = None,
        where: str | None = None,
        top: int = 10,
        exact: bool = False,
        media: Opener | None = None,
    ) -> list[Hit]:
        """Return the rows that are most similar to the query, the most similar first.

        Args:
            query: Words, or cells by column: ``{"photo": "q.png"}``.
            row: In place of a query, the identifier of a row of the index; the row itself is not returned.
            among: The sides that are compared with the query. None: all except those of the query; its own where the
                index has no other.
            where: A filter on the shown columns: ``price < 20 and colour = red``.
            top: Maximum number of rows.
            exact: Whether every row is compared, in an approximate index too.
            media: Opens media cells of the query; by default files of this machine.

        Raises:
            ConfigError: The query has nothing that the model reads, or a name or the filter is wrong.
            DataError: The index is empty.
        """
        if (query is None) == (row is None):
            raise ConfigError(
                "a search needs either a query or a row of the index", fix="give words, --COLUMN FILE or --row ID"
            )
        if row is not None:
            place = self.place_of(str(row))
            vectors = np.array(self.contents.vectors[:, place])
            return self.search_vectors(
                vectors, self.contents.present[:, place], among=among, where=where, top=top, exact=exact, without=place
            )
        assert query is not None
        record = {self.text_column(): query} if isinstance(query, str) else dict(query)
        self.check_columns(record)
        (encoded,) = self.predictor.side_vectors([record], self.contents.task, media=media)
        if not bool(encoded.present.any()):
            why = "; ".join(str(problem) for problem in encoded.problems)
            fix = next((problem.fix for problem in encoded.problems if problem.fix), None)
            raise ConfigError(
                why or "the query is empty", fix=fix or f"give a column that the model reads: {listed(self.query_columns)}"
            )
        return self.search_vectors(
            encoded.vectors.numpy(), encoded.present.numpy(), among=among, where=where, top=top, exact=exact
        )

    def search_vectors(
        self,
        vectors: NDArray[np.float32],
        present: NDArray[np.bool_],
        *,
        among: Sequence[str] | None = None,
        where: str | None = None,
        top: int = 10,
        exact: bool = False,
        without: int | None = None,
    ) -> list[Hit]:
        """As ``search``, for a query that is already in the common space.

        Args:
            vectors: Unit vectors of the query's sides ``[S, E]``.
            present: Which of them it has ``[S]``.
            among: See ``search``.
            where: See ``search``.
            top: Maximum number of rows.
            exact: See ``search``.
            without: The place of a row that is not returned.
        """
        if len(self) == 0:
            raise DataError(
                "the index is empty", file=self.folder, fix="add rows: sensorium index RUN TABLE --out INDEX --add"
            )
        if not 1 <= top <= MOST:
            raise ConfigError(f"top is {top}", fix=f"1 to {MOST:,}")
        allowed = np.ones(len(self), dtype=bool)
        if where is not None:
            allowed &= select_rows(parse_filter(where), self.contents.cells, len(self))
        if without is not None:
            allowed[without] = False
        query = vectors[:, None], present[:, None]
        nearest = nearest_rows(self.contents, *query, among=self._compared(among), allowed=allowed, top=top, exact=exact)
        return [
            Hit(
                self.contents.ids[place],
                float(score),
                self.sides[side],
                {column: cells[place] for column, cells in self.contents.cells.items()},
            )
            for place, score, side in zip(*(part[0].tolist() for part in nearest), strict=True)
            if place >= 0
        ]

    def _compared(self, among: Sequence[str] | None) -> list[int] | None:
        for name in among or ():
            if name not in self.sides:
                raise ConfigError(f"the index has no side {name!r}{nearest(name, self.sides)}")
        return None if not among else [self.sides.index(name) for name in among]

    def place_of(self, identifier: str) -> int:
        """Return the place of the row ``identifier``. Raises ``ConfigError`` if there is none."""
        if identifier not in self._place:
            fix = f"the last one is {self.contents.ids[-1]!r}" if self.contents.ids else "it is empty"
            raise ConfigError(f"no row {identifier!r} in the index", file=self.folder, fix=fix)
        return self._place[identifier]

    # ── queries ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def examples(self) -> list[str]:
        """Arguments of a search that this index can answer."""
        try:
            self.text_column()
        except ConfigError:
            return ["--row", self.contents.ids[0]]
        return ["a few words"]

    def text_column(self) -> str:
        """The column that plain words are a cell of.

        Raises:
            ConfigError: The model reads no text, or several columns of it.
        """
        composition = self.predictor.model.tasks[self.contents.task].sides
        streams = [stream for parts in composition.values() for stream in parts]
        texts = [stream for stream in streams if isinstance(self.predictor.schema.layout(stream), Ids)]
        if len(texts) == 1:
            return self.predictor.schema.streams[texts[0]][0].source
        if texts:
            raise ConfigError(f"words may be {' or '.join(texts)}", fix=f'name the column: --{texts[0]} "..."')
        fix = f"give another query: --{self.query_columns[0]} VALUE"
        raise ConfigError("the model of the index reads no text", fix=fix)

    @property
    def query_columns(self) -> list[str]:
        """The columns that a query may give cells of."""
        return query_columns(self.predictor, self.contents.task)

    def check_columns(self, record: Mapping[str, Any]) -> None:
        """Raise ``ConfigError`` if the query ``record`` has a column that the sides are not read from."""
        for column in record:
            if column not in (known := self.query_columns):
                raise ConfigError(f"the model of the index reads no column {column!r}{nearest(column, known)}")


def _predictor(model: Any) -> Predictor:
    return model if isinstance(model, Predictor) else model.predictor
