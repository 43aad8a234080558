"""The command ``sensorium embed``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli import _options
from sensorium.core.errors import ConfigError
from sensorium.core.plurals import counted

if TYPE_CHECKING:
    from sensorium.data.files.vector_files import Vector


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a trained model, written by fit.")],
    table: Annotated[str, typer.Argument(help="A table; the target is not needed, and cells or columns may be missing.")],
    out: Annotated[
        Path | None,
        typer.Option(help="A .npy, .csv, .jsonl or .parquet file [default: CSV on standard output]."),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(help="Return the vectors of one stream before fusion [default: the joint vector of the row]."),
    ] = None,
    media: _options.Media = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column of the table to write beside the vectors: id; may be repeated.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows per batch.")] = 64,
    lm: _options.Lm = None,
    overwrite: _options.Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings.")] = False,
) -> None:
    """Compute the embedding of every row: one vector of all its modalities together, or of one stream.

    Similar rows have nearby vectors: use them to search for similar rows, to cluster, to draw a map or to train another
    model. Every row has a vector, whatever it lacks; the vector of a single stream is zero where the row lacks that
    stream, and the column `missing` lists it. The vector of a row does not depend on the other rows, bit for bit.

    Example: sensorium embed run new.csv --keep id --out vectors.parquet

    One stream, as a plain array for numpy.load: sensorium embed run new.csv --stream photo --out photos.npy
    """
    from sensorium.data.files.output_path import prepare_output
    from sensorium.data.files.vector_files import FORMATS, Vector, write, write_csv

    keep = _options.column_names(keep)
    if out is not None and out.suffix not in FORMATS:
        fix = f"use one of {', '.join(FORMATS)}, as in --out FILE.npy"
        raise ConfigError(f"cannot write {out.suffix or out.name!r}", file=out, fix=fix)
    if out is not None and out.suffix == ".npy" and keep:
        raise ConfigError("a .npy file cannot hold the columns of --keep", file=out, fix="write .csv, .jsonl or .parquet")
    if out is not None:
        prepare_output(out, "--out", overwrite=overwrite, reads=[table])
    from sensorium.data.files.media_access import LocalFiles
    from sensorium.data.inspection.unseen_values import missing_columns_note
    from sensorium.data.tables.table import Table
    from sensorium.predictor import settle_threads
    from sensorium.reporting.cell_problems import print_problems
    from sensorium.reporting.console import Console
    from sensorium.reporting.prediction_files import KeptColumns
    from sensorium.trained import load

    model = load(run, lm=lm)
    stream = _options.column_name(stream)
    settle_threads(model.recipe)
    rows = model.windows(Table.read(table, root=media))
    for name in keep or []:
        rows.column(name)  # raises an error that lists the columns
    with Console(quiet) as console:
        for note in rows.notes:
            console.warn(note)
        if absent := missing_columns_note(model.schema, str(table), rows.columns):
            console.warn(absent)
        opener = LocalFiles(rows.root or Path.cwd(), anywhere=True)
        embeddings = model.predictor.embeddings(
            rows.rows(), stream=stream, batch_size=batch_size, media=opener, batch_invariant=True
        )
        problems = []

        def vectors() -> Iterator[Vector]:
            for (number, kept), embedding in zip(KeptColumns(rows.rows(), keep or ()), embeddings, strict=False):
                problems.extend(embedding.problems)
                console.step("embedding", number, len(rows))
                yield Vector(number, kept, embedding.missing, embedding.vector.numpy())

        count = write_csv(sys.stdout, vectors()) if out is None else write(out, vectors())
        print_problems(console, problems)
        if out is not None:
            console.note(f"{counted(count, 'vector')} in {out}")
