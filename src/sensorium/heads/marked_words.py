"""Report view of word labels: texts with their true and predicted spans in brackets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sensorium.core.report_views import Cell, Table, View
from sensorium.metrics.segments import segments_of

WORST, BEST, LONGEST = 8, 4, 120
"""Number of texts shown, and maximum number of tokens of each."""


def marked(pieces: Sequence[str], codes: Sequence[int], classes: Sequence[str], background: int | None) -> str:
    """Return the text of ``pieces`` with its spans in brackets: ``[Ann Bell](person) sings``.

    Args:
        pieces: The spelling of each token, with the blank before a word.
        codes: The code of each token, as ``metrics.segments`` reads them.
        classes: The labels.
        background: The label that makes no spans.
    """
    begins = {start: (end, classes[label]) for start, end, label in segments_of(codes, background, len(classes))}
    text, end, name = "", -1, ""
    for i, piece in enumerate(pieces):
        if i == end:
            text += f"]({name})"
        if i in begins:
            end, name = begins[i]
            piece = f"{piece[: len(piece) - len(piece.lstrip())]}[{piece.lstrip()}"
        text += piece
    return (text + (f"]({name})" if end == len(pieces) else "")).strip()


def marked_views(
    classes: Sequence[str],
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    ids: Sequence[Sequence[int]],
    pieces: Callable[[Sequence[int]], list[str]] | None,
    background: int | None,
    accuracy: NDArray[np.float64],
) -> list[View]:
    """Return a table of the worst texts, then the best; nothing without ``pieces``.

    Args:
        classes: The labels.
        rows: The true and the answered codes of each text.
        ids: Its tokens.
        pieces: The spelling of each token.
        background: The label that makes no spans.
        accuracy: The share of each text's words that are right.
    """
    order = np.argsort(np.nan_to_num(accuracy, nan=1.0), kind="stable")
    chosen = list(dict.fromkeys([*order[:WORST].tolist(), *order[::-1][:BEST].tolist()]))
    table: list[dict[str, Cell]] = []
    for i in chosen:
        if pieces is None or not ids[i]:
            continue
        spelt = pieces(list(ids[i][:LONGEST]))
        true, answered = (marked(spelt, codes[: len(spelt)], classes, background) for codes in rows[i])
        table.append({"true": true, "answered": answered})
    if not table:
        return []
    note = "Spans in brackets, each with its label; the worst texts first, then the best. Texts are shown as they are read."
    return [Table("marked_words", "Labels of words", note, rows=table)]
