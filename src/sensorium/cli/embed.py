"""``sensorium embed``"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli import _options as given
from sensorium.core.errors import ConfigError
from sensorium.core.plurals import counted

if TYPE_CHECKING:
    from sensorium.data.files.vector_files import Vector


def run(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.")],
    table: Annotated[str, typer.Argument(help="A table; it needs no target, and cells and columns may be missing.")],
    out: Annotated[
        Path | None,
        typer.Option(help="A .npy, .csv, .jsonl or .parquet file [default: CSV on standard output]."),
    ] = None,
    stream: Annotated[
        str | None, typer.Option(help="The vectors of one modality, before fusion [default: of the whole row].")
    ] = None,
    media: given.Media = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column of the table to write beside the vectors: id; may be given again.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows at a time.")] = 64,
    overwrite: given.Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings.")] = False,
) -> None:
    """Turn every row into a vector: what the model makes of all its modalities together, or of one of them.

    Rows that mean the same to the model lie close to each other: search for like rows, cluster, draw a map, or train
    something else on the vectors. A row has its vector whatever is missing in it; of one modality it is zeros where the row
    lacks that, and the column `missing` says so. A row's vector is the same, bit for bit, whatever rows stand beside it.

    Example: sensorium embed run new.csv --keep id --out vectors.parquet

    One modality, as a plain array for numpy.load: sensorium embed run new.csv --stream photo --out photos.npy
    """
    from sensorium.data.files.output_path import ready
    from sensorium.data.files.vector_files import FORMATS, Vector, write, write_csv

    keep = given.each(keep)
    if out is not None and out.suffix not in FORMATS:
        fix = f"name it {', '.join(FORMATS)}: --out FILE.npy"
        raise ConfigError(f"cannot write {out.suffix or out.name!r}", file=out, fix=fix)
    if out is not None and out.suffix == ".npy" and keep:
        raise ConfigError("an array has no room for --keep", file=out, fix="name it .csv, .jsonl or .parquet")
    if out is not None:
        ready(out, "--out", overwrite=overwrite, reads=[table])
    from sensorium.data.files.media_access import Under
    from sensorium.data.inspection.unseen_values import absent_told
    from sensorium.data.tables.table import Table
    from sensorium.predictor import settle_threads
    from sensorium.reporting.cell_problems import say_problems
    from sensorium.reporting.console import Console
    from sensorium.reporting.prediction_files import Beside
    from sensorium.trained import load

    model = load(run)
    stream = given.one(stream)
    settle_threads(model.recipe)
    rows = Table.read(table, root=media)
    for name in keep or []:
        rows.column(name)  # else it says which there are
    with Console(quiet) as console:
        for note in rows.notes:
            console.warn(note)
        if absent := absent_told(model.schema, str(table), rows.columns):
            console.warn(absent)
        opener = Under(rows.root or Path.cwd(), anywhere=True)
        found = model.predictor.embeddings(rows.rows(), stream=stream, batch_size=batch_size, media=opener, steady=True)
        problems = []

        def vectors() -> Iterator[Vector]:
            for (number, kept), one in zip(Beside(rows.rows(), keep or ()), found, strict=False):
                problems.extend(one.problems)
                console.step("embedding", number, len(rows))
                yield Vector(number, kept, one.missing, one.vector.numpy())

        count = write_csv(sys.stdout, vectors()) if out is None else write(out, vectors())
        say_problems(console, problems)
        if out is not None:
            console.note(f"{counted(count, 'vector')} in {out}")
