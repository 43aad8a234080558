"""An approximate index (faiss, IVF): vectors are grouped into cells by k-means, and a query searches the nearest cells.

Only plain numbers are stored, the centres of the cells and the cell of each row; the search structure is built from them
when it is first used. So an index holds nothing that a library would have to parse. Source: Jégou et al. 2011, "Product
quantization for nearest neighbor search", § IV (inverted file), https://doi.org/10.1109/TPAMI.2010.57.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import MissingExtraError

LEAST = 20_000
"""Rows from which approximate search pays: below it, exact search takes a few milliseconds (docs/results.md)."""
PROBED = 48
"""Number of cells that a query searches in each side."""
SAMPLED = 64
"""Number of vectors per cell from which the centres are learnt."""
CANDIDATES = 4
"""Candidates for each row that is returned; they are then compared exactly."""


@dataclass(frozen=True)
class CoarseCells:
    """The cells of an index.

    Args:
        centres: The centres of the cells of each side ``[sides, cells, width]``.
        cell_of: The cell of each row in each side ``[sides, rows]``, -1 where it lacks the side.
        vectors: The vectors of the index ``[sides, rows, width]``.
    """

    centres: NDArray[np.float32]
    cell_of: NDArray[np.int32]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], present: NDArray[np.bool_]) -> CoarseCells:
        """Group the rows of an index.

        Args:
            vectors: Unit vectors ``[sides, rows, width]``.
            present: Which sides each row has ``[sides, rows]``.

        Raises:
            MissingExtraError: faiss is not installed.
        """
        sides, rows, width = vectors.shape
        count = max(1, min(round(4 * math.sqrt(rows)), int(present.sum(axis=1).min())))
        centres = np.zeros((sides, count, width), dtype=np.float32)
        cell_of = np.full((sides, rows), -1, dtype=np.int32)
        for side in range(sides):
            members = np.flatnonzero(present[side])
            if not len(members):
                continue
            part = np.ascontiguousarray(vectors[side][members])
            options = {"niter": 10, "seed": 0, "spherical": True, "min_points_per_centroid": 1}
            means = _faiss().Kmeans(width, count, max_points_per_centroid=SAMPLED, **options)
            means.train(part)
            centres[side] = means.centroids
            cell_of[side, members] = means.index.search(part, 1)[1][:, 0]
        return cls(centres, cell_of, vectors)

    @cached_property
    def _searchers(self) -> list[Any]:
        """For each side the structure that is searched, which holds a copy of its vectors; None for a side without rows."""
        faiss = _faiss()
        searchers: list[Any] = []
        for centres, cell_of, vectors in zip(self.centres, self.cell_of, self.vectors, strict=True):
            rows = np.flatnonzero(cell_of >= 0).astype(np.int64)
            if not len(rows):
                searchers.append(None)
                continue
            coarse = faiss.IndexFlatIP(vectors.shape[1])
            coarse.add(np.ascontiguousarray(centres))
            searcher = faiss.IndexIVFFlat(coarse, vectors.shape[1], len(centres), faiss.METRIC_INNER_PRODUCT)
            searcher.is_trained = True
            part, cells = np.ascontiguousarray(vectors[rows]), cell_of[rows].astype(np.int64)
            searcher.add_core(len(rows), *(faiss.swig_ptr(array) for array in (part, rows, cells)))
            searchers.append((searcher, coarse))  # faiss does not keep the coarse index alive
        return searchers

    def candidates(
        self, side: int, vectors: NDArray[np.float32], allowed: NDArray[np.bool_] | None, top: int
    ) -> NDArray[np.int64]:
        """Return rows that are probably among the ``top`` nearest to the queries, in the order of the index.

        Args:
            side: The side that is searched.
            vectors: Unit vectors of queries ``[Q, E]``.
            allowed: Which rows may be returned ``[rows]``; None: all.
            top: Number of rows that are wanted.
        """
        if self._searchers[side] is None:
            return np.zeros(0, dtype=np.int64)
        faiss, (searcher, _) = _faiss(), self._searchers[side]
        options: dict[str, Any] = {"nprobe": min(PROBED, len(self.centres[side]))}
        if allowed is not None:
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        wanted = min(CANDIDATES * top, self.vectors.shape[1])
        nearest = searcher.search(
            np.ascontiguousarray(vectors, dtype=np.float32), wanted, params=faiss.SearchParametersIVF(**options)
        )[1]
        rows: NDArray[np.int64] = np.unique(nearest[nearest >= 0])
        return rows


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("an approximate index", "search") from None
    return faiss
