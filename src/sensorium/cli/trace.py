"""``sensorium trace``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.core.errors import DataError
from sensorium.core.plurals import counted

CELLS = 200
"""Steps of cells that are shown: of thousands of columns the first hundred."""


def run(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.")],
    table: Annotated[str, typer.Argument(help="A table.")],
    row: Annotated[int, typer.Option(min=1, help="The row, counted from 1.")] = 1,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
) -> None:
    """Show one row's value and shape after every step: cell, array, tokens, fusion, answer.

    Example: sensorium trace run test.csv --row 3
    """
    from sensorium.data.tables.table import Table
    from sensorium.trained import load

    rows = Table.read(table, root=media)
    if row > len(rows):
        raise DataError(f"there is no row {row}: the table has {counted(len(rows), 'row')}", file=table)
    model = load(run)
    steps = model.trace(rows.row(row - 1), media=rows.root)
    width, shape = (max(len(part) for part in parts) for parts in zip(*((s.name, s.shape) for s in steps), strict=True))
    cells = [i for i, step in enumerate(steps) if step.name.startswith(("cell ", "encode "))]
    hidden = set(cells[CELLS:])
    for i, step in enumerate(steps):
        if hidden and i == cells[CELLS]:
            typer.echo(f"… and {len(hidden):,} more steps of cells")
        if i in hidden:
            continue
        typer.echo(f"{step.name:<{width}}  {step.shape:<{shape}}  {step.value}".rstrip())
