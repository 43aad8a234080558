"""Search: the rows of an index whose sides are most similar to those of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium.retrieval.coarse_cells import LEAST, CoarseCells
from sensorium.retrieval.index_files import Contents

CHUNK = 8_000_000
"""Similarities computed at a time."""


class Nearest(NamedTuple):
    """The nearest rows of each query, best first, ``[Q, top]``: place (-1 beyond the last), score, and the side found."""

    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    sides: NDArray[np.int64]


def nearest_rows(
    contents: Contents,
    vectors: NDArray[np.float32],
    present: NDArray[np.bool_],
    *,
    among: Sequence[int] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    top: int = 10,
    exact: bool = True,
) -> Nearest:
    """Return the nearest rows of each query.

    A row's score is the mean, over the sides of the query, of the highest cosine to any side compared with it. Rows of
    equal scores are in the order of the index.

    Args:
        contents: The index.
        vectors: Unit vectors of the sides of the queries ``[S, Q, E]``.
        present: Which sides each has ``[S, Q]``.
        among: The sides compared. None: for each side of a query all others; itself where no row has another.
        allowed: Which rows may be returned ``[rows]``; None: all.
        top: Maximum number of rows for each query.
        exact: Whether every row is compared; False: those of the nearest cells of an approximate index, where it has
            cells and the filter leaves many rows.
    """
    queries, rows = vectors.shape[1], len(contents.ids)
    if not exact and contents.coarse is not None and (allowed is None or int(allowed.sum()) >= LEAST):
        return _nearest_candidates(contents, contents.coarse, vectors, present, among, allowed, top)
    top = min(top, rows)
    places = np.full((queries, top), -1, dtype=np.int64)
    scores, sides = np.zeros((queries, top), dtype=np.float32), np.zeros((queries, top), dtype=np.int64)
    step = max(1, CHUNK // max(1, rows))
    for start in range(0, queries if top else 0, step):
        part = slice(start, start + step)
        score, side = _scores(contents, vectors[:, part], present[:, part], among)
        if allowed is not None:
            score[:, ~allowed] = -np.inf
        best = _largest(score, top)
        value = np.take_along_axis(score, best, axis=1)
        places[part] = np.where(np.isfinite(value), best, -1)
        scores[part] = value
        sides[part] = np.take_along_axis(side, best, axis=1)
    return Nearest(places, scores, sides)


def _nearest_candidates(
    contents: Contents,
    coarse: CoarseCells,
    vectors: NDArray[np.float32],
    present: NDArray[np.bool_],
    among: Sequence[int] | None,
    allowed: NDArray[np.bool_] | None,
    top: int,
) -> Nearest:
    """As ``nearest_rows``, exactly among the candidates of each query, which come from an approximate search."""
    filled = [b for b in range(len(contents.sides)) if bool(contents.present[b].any())]
    top, results = min(top, len(contents.ids)), []
    for q in range(vectors.shape[1]):
        parts = [
            coarse.candidates(b, vectors[a, q : q + 1], allowed, top)
            for a in np.flatnonzero(present[:, q])
            for b in (([b for b in filled if b != a] or filled) if among is None else among)
        ]
        rows = np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)
        few = replace(
            contents,
            ids=[contents.ids[row] for row in rows],
            present=contents.present[:, rows],
            vectors=contents.vectors[:, rows],
            coarse=None,
        )
        near = nearest_rows(few, vectors[:, q : q + 1], present[:, q : q + 1], among=among, top=top)
        missing = ((0, 0), (0, top - near.places.shape[1]))
        inside = rows[near.places] if len(rows) else near.places
        places = np.where(near.places >= 0, inside, -1)
        results.append(
            Nearest(np.pad(places, missing, constant_values=-1), np.pad(near.scores, missing), np.pad(near.sides, missing))
        )
    return Nearest(*(np.concatenate(part) for part in zip(*results, strict=True)))


def _largest(score: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    """The places of the ``top`` largest of each row, largest first; equal ones in their order."""
    rows = score.shape[1]
    if top == rows:
        return np.argsort(-score, axis=1, kind="stable")
    least = np.partition(score, rows - top, axis=1)[:, rows - top]
    largest = np.empty((len(score), top), dtype=np.int64)
    for i, value in enumerate(score):
        # All above the smallest that is returned, then as many equal ones as there is room for.
        above = np.flatnonzero(value > least[i])
        few = np.concatenate([above, np.flatnonzero(value == least[i])[: top - len(above)]])
        largest[i] = few[np.argsort(-value[few], kind="stable")]
    return largest


def _scores(
    contents: Contents, vectors: NDArray[np.float32], present: NDArray[np.bool_], among: Sequence[int] | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The score of every row for each query ``[Q, rows]``, -inf where no side is compared, and the side found."""
    queries, rows = vectors.shape[1], len(contents.ids)
    filled = [b for b in range(len(contents.sides)) if bool(contents.present[b].any())]
    whole = [a for a in range(len(contents.sides)) if bool(present[a].any())]
    if len(whole) == 1 and bool(present[whole[0]].all()):
        against = ([b for b in filled if b != whole[0]] or filled) if among is None else list(among)
        if len(against) == 1:  # the usual search: one product, and no further pass over its result
            score = vectors[whole[0]] @ contents.vectors[against[0]].T
            if not bool(contents.present[against[0]].all()):
                score[:, ~contents.present[against[0]]] = -np.inf
            return score, np.broadcast_to(np.uint8(against[0]), score.shape)
    shape = (queries, rows)
    total, terms = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    side = np.zeros(shape, dtype=np.uint8)
    for a in range(len(contents.sides)):
        rows_with = np.flatnonzero(present[a])
        if not len(rows_with):
            continue
        best = np.full((len(rows_with), rows), -np.inf, dtype=np.float32)
        by = np.zeros((len(rows_with), rows), dtype=np.uint8)
        for b in ([b for b in filled if b != a] or filled) if among is None else among:
            cosine = vectors[a, rows_with] @ contents.vectors[b].T
            better = contents.present[b] & (cosine > best)
            np.copyto(best, cosine, where=better)
            np.copyto(by, np.uint8(b), where=better)
        known = np.isfinite(best)
        total[rows_with] += np.where(known, best, 0.0)
        side[rows_with] = np.where(known, by, side[rows_with])
        terms[rows_with] += known
    score = np.where(terms > 0, total / np.maximum(terms, 1), -np.inf).astype(np.float32)
    return score, side
