"""``sensorium pack``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options as given
from sensorium.core.errors import ConfigError
from sensorium.core.plurals import counted


def run(
    table: Annotated[str, typer.Argument(help="The table; with --check, a folder that was packed.")],
    out: Annotated[Path | None, typer.Argument(help="The folder to write.")] = None,
    format_: Annotated[str, typer.Option("--format", help="parquet, or tar in the layout of WebDataset.")] = "parquet",
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows in a shard, at most.")] = 10_000,
    megabytes: Annotated[float, typer.Option(help="Media in a shard, about.")] = 256.0,
    as_: given.As = None,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare the bytes of a packed folder with its digests.")] = False,
    overwrite: given.Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings.")] = False,
) -> None:
    """Pack a table and its media files into shards, a folder that fit, evaluate and predict take like a table.

    Example: sensorium pack train.csv packed --rows-per-shard 5000
    """
    from sensorium.data.shards.shard_folder import shards
    from sensorium.reporting.console import Console

    with Console(quiet) as console:
        if check:
            found = shards(Path(table))
            for done, shard in enumerate(found, 1):
                shard.check()
                console.step("checking", done, len(found))
            console.note(
                f"{counted(sum(map(len, found)), 'row')} in {counted(len(found), 'shard')}, every byte as it was packed"
            )
            return
        if out is None:
            raise ConfigError("there is no folder to pack into", fix="sensorium pack table.csv packed")
        if format_ not in ("parquet", "tar"):
            raise ConfigError(f"no format {format_!r}", fix="--format parquet, or --format tar")
        from sensorium.data.files.media_access import Under
        from sensorium.data.shards.pack import pack
        from sensorium.data.tables.table import Table
        from sensorium.reporting.cell_problems import say_problems

        rows = Table.read(table, root=media)
        problems = pack(
            rows,
            out,
            media=Under(rows.root or Path.cwd(), anywhere=True),
            columns=given.columns_told(as_, None),
            format="tar" if format_ == "tar" else "parquet",
            rows_per_shard=rows_per_shard,
            megabytes=megabytes,
            overwrite=overwrite,
            tell=lambda done, total: console.step("packing", done, total),
        )
        say_problems(console, problems)
        console.note(f"{counted(len(rows), 'row')} in {counted(len(shards(out)), 'shard')} in {out}")
