"""``sensorium inspect``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options as given


def run(
    tables: Annotated[list[str], typer.Argument(help="The training table, and others to compare it with (leakage).")],
    target: given.Target = None,
    as_: given.As = None,
    ignore: given.Ignore = None,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
    decode: Annotated[bool, typer.Option(help="Open and decode every media cell.")] = True,
    json_: Annotated[Path | None, typer.Option("--json", help="Write what was found as JSON.")] = None,
    overwrite: given.Overwrite = False,
) -> None:
    """Look at tables before any training: what each column is and why, coverage, broken files, duplicates, balance.

    Example: sensorium inspect train.csv test.csv --target label
    """
    from sensorium.data.files.media_access import Under
    from sensorium.data.files.output_path import ready
    from sensorium.data.inspection.inspect import inspect
    from sensorium.data.tables.table import Table
    from sensorium.reporting.console import Console

    if json_ is not None:
        ready(json_, "--json", overwrite=overwrite, reads=tables)
    read = {name: Table.read(name, root=media) for name in tables}
    root = next(iter(read.values())).root or Path.cwd()
    with Console() as console:
        found = inspect(
            read,
            target=given.each(target),
            columns=given.columns_told(as_, ignore),
            media=Under(root, anywhere=True) if media is not None or len(read) == 1 else None,
            check_media=decode,
            progress=console.step,
        )
    if json_ is not None:
        json_.write_text(json.dumps(found.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    typer.echo(found.text())
    if found.errors:
        raise typer.Exit(1)
