"""The command ``sensorium predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.cli import _options
from sensorium.core.errors import ConfigError
from sensorium.core.plurals import counted

if TYPE_CHECKING:
    from sensorium.data.tables.table import Table
    from sensorium.predictor import Prediction
    from sensorium.reporting.place_files import PlaceFiles
    from sensorium.trained import Trained


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a trained model, written by fit.")],
    table: Annotated[str, typer.Argument(help="A table; cells and columns may be missing, columns may be in any order.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .csv or .jsonl file, or a folder if the table is one of shards [default: CSV on standard output]."
        ),
    ] = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder that relative media paths start from [default: the table's].")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column of the table to write beside the predictions: id; may be repeated.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows per batch.")] = 64,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes for a folder of shards, each with its own model.")
    ] = 1,
    decode: _options.Decode = None,
    lm: _options.Lm = None,
    overwrite: _options.Overwrite = False,
    raw_cells: Annotated[
        bool,
        typer.Option(
            "--raw-cells", help="Write CSV cells unescaped: no ' before text that a spreadsheet would read as a formula."
        ),
    ] = False,
    by_step: Annotated[
        bool, typer.Option("--by-step", help="CSV with a line for each step of a forecast, rather than one for each row.")
    ] = False,
    coco: Annotated[
        Path | None,
        typer.Option(help="Also write boxes, key points and masks (run lengths) to a COCO JSON file.", show_default=False),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="Also write key points to a CSV file, a line for each.", show_default=False)
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(help="Also write each picture with the answers drawn on it to this folder.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings.")] = False,
) -> None:
    """Predict every row of a table: row number, prediction, probability of each class, missing modalities.

    Example: sensorium predict run new.csv --keep id --out predictions.csv

    The predictions of a folder of shards can be written to a folder, one part per shard. If it is interrupted, the same
    command resumes it: sensorium predict run packed --out predictions --processes 4
    """
    from sensorium.data.files.output_path import prepare_output
    from sensorium.data.shards.shard_folder import is_sharded

    keep = _options.column_names(keep)
    files = {"coco": coco, "points": points, "overlay": overlay}
    if by_step and out is not None and out.suffix != ".csv":
        raise ConfigError("--by-step writes CSV", fix="--out FILE.csv")
    if is_sharded(Path(table)) and out is not None and out.suffix == "":
        if any(files.values()):
            fix = "predict into one file: --out FILE.csv"
            raise ConfigError("--coco, --points and --overlay are not written part by part", fix=fix)
        if decode:
            raise ConfigError("--decode is not passed on to predictions part by part", fix="predict into one file")
        _predict_shards(run, Path(table), out, processes, batch_size, keep or [], raw_cells, overwrite, quiet)
        return
    if out is not None and out.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"cannot write {out.suffix or out.name!r}", file=out, fix="write .csv or .jsonl: --out FILE.csv")
    if processes > 1:
        fix = "sensorium pack TABLE packed, then: sensorium predict RUN packed --out FOLDER --processes N"
        raise ConfigError("--processes needs a folder of shards and a folder for the predictions", fix=fix)
    if out is not None:
        prepare_output(out, "--out", overwrite=overwrite, reads=[table])
    for name, ending in (("coco", ".json"), ("points", ".csv")):
        if (path := files[name]) is not None:
            if path.suffix != ending:
                raise ConfigError(f"--{name} writes {ending[1:].upper()}", file=path, fix=f"--{name} FILE{ending}")
            prepare_output(path, f"--{name}", overwrite=overwrite, reads=[table])
    from sensorium.data.inspection.unseen_values import missing_columns_note
    from sensorium.data.tables.table import Table
    from sensorium.predictor import settle_threads
    from sensorium.reporting.cell_problems import print_problems
    from sensorium.reporting.console import Console
    from sensorium.reporting.prediction_files import KeptColumns, write, write_csv
    from sensorium.trained import load

    model = load(run, lm=lm, decoding=_options.decoding(decode))
    settle_threads(model.recipe)
    rows = model.windows(Table.read(table, root=media))
    for name in keep or []:
        rows.column(name)  # raises an error that lists the columns
    beside = KeptColumns(rows.rows(), keep or ())
    with Console(quiet) as console, ExitStack() as opened:
        places = opened.enter_context(_place_files(model, rows, files)) if any(files.values()) else None
        for note in rows.notes:
            console.warn(note)
        if not len(rows):
            console.warn(f"{table} has no rows, so there is nothing to predict")
        if absent := missing_columns_note(model.schema, str(table), rows.columns):
            console.warn(absent)
        problems = []

        def tracked(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
            cells = iter(rows.rows()) if places is not None else iter(())
            for done, prediction in enumerate(predictions, 1):
                problems.extend(prediction.problems)
                if places is not None:
                    places.take(done, prediction.targets, next(cells))
                console.step("predicting", done, len(rows))
                yield prediction

        predictions = tracked(model.stream(rows, batch_size=batch_size, batch_invariant=True))
        if out is None:
            write_csv(sys.stdout, predictions, model.model, beside, raw_cells=raw_cells, by_step=by_step)
        else:
            write(out, predictions, model.model, beside, raw_cells=raw_cells, by_step=by_step)
        print_problems(console, problems)
        if out is not None:
            console.note(f"{counted(len(rows), 'prediction')} in {out}")
        for path in filter(None, files.values()):
            console.note(f"places in {path}")


def _place_files(model: Trained, rows: Table, files: Mapping[str, Path | None]) -> PlaceFiles:
    from sensorium.data.files.media_access import LocalFiles
    from sensorium.reporting.place_files import PlaceFiles

    media = LocalFiles(rows.root or Path.cwd(), anywhere=True)
    return PlaceFiles(model.model, model.schema, media, **files)


def _predict_shards(
    run: Path,
    table: Path,
    out: Path,
    processes: int,
    batch_size: int,
    keep: list[str],
    raw_cells: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    from sensorium.batch_prediction import predict_shards
    from sensorium.core.recipe import Recipe
    from sensorium.predictor import settle_threads
    from sensorium.reporting.cell_problems import print_problems
    from sensorium.reporting.console import Console

    if (run / "recipe.yaml").is_file():  # otherwise loading raises the error
        settle_threads(Recipe.from_yaml(run / "recipe.yaml"))
    with Console(quiet) as console:
        problems = predict_shards(
            run,
            table,
            out,
            processes=processes,
            batch_size=batch_size,
            keep=keep,
            overwrite=overwrite,
            raw_cells=raw_cells,
            progress=lambda done, total: console.step("predicting", done, total, f"{done} of {total} shards"),
            warn=console.warn,
        )
        print_problems(console, problems)
        console.note(f"predictions in {out}, one part per shard")
