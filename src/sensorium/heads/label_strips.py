"""What a report shows of labels along time: strips of the truth over the answer, and a table of the classes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sensorium.core.report_views import Cell, Gallery, Picture, Table, View

WIDTH, BAND, GAP = 480, 16, 3
"""Pixels of a strip, of one of its two bands, and between them."""
WORST, BEST = 4, 2
UNKNOWN = (170, 170, 170)


def class_colours(count: int) -> NDArray[np.uint8]:
    """Return a colour ``[count, 3]`` for each class: hues a golden angle apart, the first one light grey."""
    shades = [(0.88, 0.88, 0.88)] + [
        colorsys.hsv_to_rgb((0.6 + i * 0.381966) % 1.0, 0.65, 0.85 if i % 2 else 0.7) for i in range(max(count - 1, 0))
    ]
    return np.round(255 * np.array(shades[:count])).astype(np.uint8).reshape(-1, 3)


def strip(rows: Sequence[Sequence[int]], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw sequences of class indices as bands under each other, ``[height, width, 3]``; negative ones are grey.

    Args:
        rows: Sequences of equal length.
        colours: ``[K, 3]``.
    """
    known = np.concatenate([colours, np.array([UNKNOWN], np.uint8)])
    bands = []
    for row in rows:
        codes = np.asarray(row, dtype=np.int64).reshape(-1)
        place = np.arange(WIDTH) * max(len(codes), 1) // WIDTH
        line = known[codes[place]] if len(codes) else np.full((WIDTH, 3), 255, np.uint8)
        bands += [np.broadcast_to(line, (BAND, WIDTH, 3)), np.full((GAP, WIDTH, 3), 255, np.uint8)]
    return np.concatenate(bands[:-1]).copy()


def label_table(names: Sequence[str], counts: NDArray[np.int64], steps: str = "steps") -> Table:
    """Return the table of the classes.

    Args:
        names: The classes.
        counts: ``[K, 3]``: steps answered rightly, answered and true, by class.
        steps: What a step is called.
    """
    right, answered, true = counts.T
    table: list[dict[str, Cell]] = [
        {
            "label": name,
            steps: int(true[i]),
            "recall": float(right[i] / true[i]) if true[i] else float("nan"),
            "precision": float(right[i] / answered[i]) if answered[i] else float("nan"),
        }
        for i, name in enumerate(names)
    ]
    return Table("per_class", "Each label", f"Of all {steps} together.", rows=table)


def label_strips(
    names: Sequence[str],
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    accuracy: NDArray[np.float64],
    background: bool,
) -> View:
    """Return the strips of the worst and the best rows.

    Args:
        names: The classes.
        rows: The true and the answered codes of each row.
        accuracy: The share of each row's steps that are right.
        background: Whether the first class is the background, which is drawn in light grey.
    """
    colours = class_colours(len(names) + (not background))[0 if background else 1 :]
    order = np.argsort(np.nan_to_num(accuracy, nan=1.0), kind="stable")
    chosen = list(dict.fromkeys([*order[:WORST].tolist(), *order[::-1][:BEST].tolist()]))
    legend = Picture(strip([np.repeat(np.arange(len(names)), 8).tolist()], colours), ", ".join(names[:20]))
    pictures = [
        Picture(strip(rows[i], colours), f"{100 * accuracy[i]:.0f} % of {len(rows[i][0])} steps right") for i in chosen
    ]
    note = "Above what is true, below the answer, from the first step to the last; the worst first, then the best."
    return Gallery("strips", "Labels along time", note, pictures=[legend, *pictures])
