"""The command ``sensorium trace``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core.errors import DataError
from sensorium.core.plurals import counted

CELLS = 200
"""Maximum number of cell steps shown: two for each of the first hundred columns."""


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a trained model, written by fit.")],
    table: Annotated[str, typer.Argument(help="A table with the row.")],
    row: Annotated[int, typer.Option(min=1, help="The row to trace; the first row is 1.")] = 1,
    media: Annotated[
        Path | None, typer.Option(help="Folder that relative media paths start from [default: the table's].")
    ] = None,
    lm: _options.Lm = None,
) -> None:
    """Show the value and shape of one row after every step: cell, array, tokens, fusion, prediction.

    Example: sensorium trace run test.csv --row 3
    """
    from sensorium.data.tables.table import Table
    from sensorium.trained import load

    rows = Table.read(table, root=media)
    model = load(run, lm=lm)
    rows = model.windows(rows)
    if row > len(rows):
        raise DataError(f"there is no row {row}: the table has {counted(len(rows), 'row')}", file=table)
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
