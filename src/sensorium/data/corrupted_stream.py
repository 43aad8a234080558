"""A stream whose stored values are corrupted when read, for robustness tests (never for training)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sensorium.core.modality import Array
from sensorium.core.schema import Column
from sensorium.data.column_storage import Index, Source

if TYPE_CHECKING:
    from sensorium.core.batch import Field


def supported_corruptions(columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the kinds of corruption that apply to a stream: those that any of its ``columns`` supports."""
    return tuple(dict.fromkeys(kind for column in columns for kind in column.reader.corruptions))


@dataclass(frozen=True)
class Corrupted(Source):
    """A corrupted stream. A row gets the same random corruption at every level, in any batch.

    Args:
        source: The clean values.
        columns: The stream's columns; those that do not support ``how`` stay clean.
        how: One of ``supported_corruptions(columns)``.
        level: Severity, 0 to 1.
        seed: Seed of the corruptions.
    """

    source: Source
    columns: Sequence[Column]
    how: str
    level: float
    seed: int = 0

    def gather(self, index: Index) -> Field:
        import torch

        field = self.source.gather(index)
        if self.level == 0:
            return field
        data = field.data.numpy()
        present = field.present.numpy()
        if len(self.columns) == 1 and self.columns[0].reader.ragged and field.mask is not None:
            lengths = field.mask.sum(dim=1).tolist()
            corrupted = [
                self._cell(self.columns[0], data[i, : lengths[i]], int(row)) if present[i] else None
                for i, row in enumerate(index)
            ]
            # Targets that lie on the stream stay where they are.
            return replace(self.columns[0].reader.collate(corrupted), frame=field.frame, extent=field.extent)
        out = data.copy()
        known = np.repeat(present[:, None], data.shape[1], axis=1) if field.mask is None else field.mask.numpy()
        for column, where in self._places():
            for i, row in enumerate(index):
                if present[i] and (len(self.columns) == 1 or known[i, where].all()):
                    part = out[i] if len(self.columns) == 1 else out[i, where]
                    part[...] = self._cell(column, part.copy(), int(row))
        return replace(field, data=torch.from_numpy(out))

    def lengths(self) -> Index | None:
        return self.source.lengths()  # of the clean values, which a corruption may shorten

    def content(self) -> str:
        return f"{self.source.content()}-{self.how}-{self.level}-{self.seed}"

    def _places(self) -> Iterator[tuple[Column, slice]]:
        """The columns that support the corruption, and where their values are among the stream's."""
        start = 0
        for column in self.columns:
            width = len(column.reader.blank()) if len(self.columns) > 1 else 0
            if self.how in column.reader.corruptions:
                yield column, slice(start, start + width)
            start += width

    def _cell(self, column: Column, value: Array, row: int) -> Array:
        rng = np.random.default_rng((self.seed, row, list(self.columns).index(column)))
        return column.reader.corrupt(value, self.how, self.level, rng)
