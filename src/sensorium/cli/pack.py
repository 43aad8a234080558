"""The command ``sensorium pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core.errors import ConfigError
from sensorium.core.plurals import counted


def run(
    table: Annotated[str, typer.Argument(help="The table; with --check, a packed folder.")],
    out: Annotated[Path | None, typer.Argument(help="The folder to write.")] = None,
    format_: Annotated[str, typer.Option("--format", help="parquet, or tar (the layout of WebDataset).")] = "parquet",
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Maximum number of rows per shard.")] = 10_000,
    megabytes: Annotated[float, typer.Option(help="Approximate size of the media per shard, in MiB.")] = 256.0,
    as_: _options.As = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder that relative media paths start from [default: the table's].")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Verify the checksums of a packed folder.")] = False,
    overwrite: _options.Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings.")] = False,
) -> None:
    """Pack a table and its media files into a folder of shards, which fit, evaluate and predict read like a table.

    Example: sensorium pack train.csv packed --rows-per-shard 5000
    """
    from sensorium.data.shards.shard_folder import shards
    from sensorium.reporting.console import Console

    with Console(quiet) as console:
        if check:
            packed = shards(Path(table))
            for done, shard in enumerate(packed, 1):
                shard.check()
                console.step("checking", done, len(packed))
            console.note(
                f"{counted(sum(map(len, packed)), 'row')} in {counted(len(packed), 'shard')}, all checksums correct"
            )
            return
        if out is None:
            raise ConfigError("no folder to write the shards to", fix="sensorium pack table.csv packed")
        if format_ not in ("parquet", "tar"):
            raise ConfigError(f"unknown format {format_!r}", fix="use --format parquet or --format tar")
        from sensorium.data.files.media_access import LocalFiles
        from sensorium.data.shards.pack import pack
        from sensorium.data.tables.table import Table
        from sensorium.reporting.cell_problems import print_problems

        rows = Table.read(table, root=media)
        problems = pack(
            rows,
            out,
            media=LocalFiles(rows.root or Path.cwd(), anywhere=True),
            columns=_options.column_kinds(as_, None),
            format="tar" if format_ == "tar" else "parquet",
            rows_per_shard=rows_per_shard,
            megabytes=megabytes,
            overwrite=overwrite,
            progress=lambda done, total: console.step("packing", done, total),
        )
        for note in rows.notes:
            console.warn(note)
        print_problems(console, problems)
        console.note(f"{counted(len(rows), 'row')} in {counted(len(shards(out)), 'shard')} in {out}")
