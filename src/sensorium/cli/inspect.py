"""The command ``sensorium inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options


def run(
    tables: Annotated[list[str], typer.Argument(help="The training table, and further tables to check for leakage.")],
    target: _options.Target = None,
    as_: _options.As = None,
    ignore: _options.Ignore = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder that relative media paths start from [default: the table's].")
    ] = None,
    decode: Annotated[bool, typer.Option(help="Decode every media cell to find damaged files.")] = True,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the results to a JSON file.")] = None,
    overwrite: _options.Overwrite = False,
) -> None:
    """Inspect tables before training: the kind of each column and why, coverage, damaged files, duplicates, balance.

    Example: sensorium inspect train.csv test.csv --target label
    """
    from sensorium.data.files.media_access import LocalFiles
    from sensorium.data.files.output_path import prepare_output
    from sensorium.data.inspection.inspect import inspect
    from sensorium.data.tables.table import Table
    from sensorium.reporting.console import Console

    if json_ is not None:
        prepare_output(json_, "--json", overwrite=overwrite, reads=tables)
    loaded = {name: Table.read(name, root=media) for name in tables}
    root = next(iter(loaded.values())).root or Path.cwd()
    with Console() as console:
        inspection = inspect(
            loaded,
            target=_options.column_names(target),
            columns=_options.column_kinds(as_, ignore),
            media=LocalFiles(root, anywhere=True) if media is not None or len(loaded) == 1 else None,
            check_media=decode,
            progress=console.step,
        )
    if json_ is not None:
        json_.write_text(json.dumps(inspection.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    typer.echo(inspection.text())
    if inspection.errors:
        raise typer.Exit(1)
