"""Cells of earlier rows as additional columns, such as the context of an utterance in a dialogue."""

from __future__ import annotations

from collections.abc import Sequence

from sensorium.core.errors import ConfigError, DataError, nearest
from sensorium.core.modality import is_blank
from sensorium.data.tables.table import Table

BETWEEN = " | "


def with_previous(
    table: Table, group: str, *, texts: Sequence[str] = (), latest: Sequence[str] = (), turns: int = 2, order: str = ""
) -> Table:
    """Return ``table`` with columns that hold cells of the previous rows of the same group: the context of a dialogue.

    A text column ``words`` gets ``words_before``, the texts of up to ``turns`` rows before, the oldest first; any other
    column gets the cell of the row before. The first row of a group has none. Split such a table by the group
    (``data.split.kind: group``), otherwise texts of one part of the split appear in the other.

    Args:
        table: The table.
        group: The column that says which rows belong together, such as a dialogue.
        texts: Text columns, whose previous cells are joined by " | ".
        latest: Columns of any kind, whose cell in the previous row is added.
        turns: The number of previous texts.
        order: A column of numbers by which the rows of a group are ordered; empty: as they stand.

    Raises:
        ConfigError: ``turns`` is below 1, or a new column exists already.
        DataError: A column does not exist, or ``order`` holds something other than numbers.
    """
    if turns < 1:
        raise ConfigError(f"turns is {turns}, and must be 1 or more")
    for name in (group, *texts, *latest, *([order] if order else [])):
        if not table.has(name):
            raise DataError(f"no such column{nearest(name, table.columns)}", file=table.source, column=name)
    for name in (*texts, *latest):
        if table.has(f"{name}_before"):
            raise ConfigError("exists already", column=f"{name}_before", fix="rename it or leave it out")
    groups: dict[str, list[int]] = {}
    for i, cell in enumerate(table.column(group)):
        groups.setdefault(str(cell), []).append(i)
    if order:
        places = [_number(table, order, i, cell) for i, cell in enumerate(table.column(order))]
        groups = {name: sorted(rows, key=lambda i: places[i]) for name, rows in groups.items()}
    result = table
    for name in (*texts, *latest):
        cells = table.column(name)
        before: list[object] = [None] * len(table)
        for rows in groups.values():
            for place, i in enumerate(rows):
                if name in texts:
                    earlier = [str(cells[j]) for j in rows[max(place - turns, 0) : place] if not is_blank(cells[j])]
                    before[i] = BETWEEN.join(earlier) or None
                elif place:
                    before[i] = cells[rows[place - 1]]
        result = result.with_column(f"{name}_before", before)
    return result


def _number(table: Table, order: str, row: int, cell: object) -> float:
    try:
        return float(str(cell))
    except ValueError:
        raise DataError(
            f"{cell!r} is not a number to order by", file=table.source, row=table.number(row), column=order
        ) from None
