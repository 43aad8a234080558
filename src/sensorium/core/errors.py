"""Errors that state what is wrong, where, and how to correct it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class SensoriumError(Exception):
    """Base of the errors that the user can correct.

    Args:
        problem: What is wrong, in one sentence.
        file: The file it was found in.
        row: The data row, counted from 1 (a table's header is not a row).
        column: The column's name.
        fix: What to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.file, self.row, self.column, self.fix = problem, file, row, column, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        places = [
            f"{self.file}" if self.file is not None else "",
            f"row {self.row}" if self.row is not None else "",
            f"column {self.column!r}" if self.column is not None else "",
        ]
        where = ", ".join(place for place in places if place)
        text = f"{where}: {self.problem}" if where else self.problem
        return f"{text}\n  → {self.fix}" if self.fix else text


class ConfigError(SensoriumError):
    """An invalid recipe, option or name."""


class DataError(SensoriumError):
    """A table that cannot be used as asked."""


class ArtifactError(SensoriumError):
    """A saved model that is damaged, foreign, half-written or from a newer version."""


class CellError(SensoriumError):
    """One cell that cannot be used: it is treated as missing, and counted."""


class EmptyFileError(CellError):
    """A file of 0 bytes: it cannot be used, except where a kind of cell gives it a meaning (``Modality.empty_files``)."""


class AnswerError(SensoriumError):
    """A row for which a model has no answer, since its output is not a number."""


class MissingExtraError(SensoriumError):
    """An optional library that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional library", fix=f"pip install 'sensorium[{extra}]'")


_ADDRESS = re.compile(r"<[\w.]+ object at 0x[0-9a-fA-F]+>")


def reason(error: Exception, most: int = 100) -> str:
    """The message of another library's ``error``, of at most ``most`` characters and without memory addresses; its type
    if empty."""
    return _ADDRESS.sub("the file", str(error)).strip()[:most] or type(error).__name__


def nearest(name: str, names: Iterable[str]) -> str:
    """``; did you mean x?`` for the mistyped ``name``, or the list of ``names`` if none is similar."""
    names = sorted(names)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are: {listed(names)}" if names else ""


def listed(names: Iterable[str], most: int = 40) -> str:
    """``names`` separated by commas, at most ``most`` of them."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
