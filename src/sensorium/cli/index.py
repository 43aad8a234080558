"""The command ``sensorium index``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core import quoting
from sensorium.core.errors import ConfigError
from sensorium.core.plurals import counted

SHOWN = 5
"""Number of skipped rows that are listed."""


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a model trained with --task retrieval.")],
    gallery: Annotated[
        str | None,
        typer.Argument(help="The table of rows to index; each needs at least one side, and cells may be missing."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the index.")] = Path("index"),
    id: Annotated[
        str | None, typer.Option("--id", help="A column that identifies rows [default: they are numbered].")
    ] = None,
    show: Annotated[str | None, typer.Option(help="Columns to show and filter by: title,price [default: all].")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the rows to an existing index.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="With --add: replace rows of the same identifier.")] = False,
    remove: Annotated[str | None, typer.Option(help="Identifiers of rows to remove from an existing index: 3,17")] = None,
    task: Annotated[str | None, typer.Option(help="The task, if the model has several with a common space.")] = None,
    media: _options.Media = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows per batch.")] = 64,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate", help="Search only the nearest groups of rows once there are many; needs sensorium[search]."
        ),
    ] = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Index the rows of a table, so that `sensorium search` finds them by words, pictures, sounds or another row.

    Example: sensorium index run gallery.csv --out idx --id sku

    To change it: sensorium index run new.csv --out idx --add; sensorium index run --out idx --remove 3,17
    """
    _check(gallery, remove, show, add=add, replace=replace, approximate=approximate, overwrite=overwrite)
    from sensorium.predictor import settle_threads
    from sensorium.reporting.cell_problems import print_problems
    from sensorium.reporting.console import Console
    from sensorium.retrieval.coarse_cells import LEAST
    from sensorium.retrieval.index import Index
    from sensorium.trained import load

    model = load(run)
    settle_threads(model.recipe)
    with Console(quiet) as console:
        if remove is not None:
            index = Index.open(out, model)
            gone = index.remove(_options.split_names(remove))
            console.note(f"{counted(gone, 'row')} removed, {counted(len(index), 'row')} left in {out}")
            return

        def step(done: int, total: int) -> None:
            console.step("indexing", done, total)

        name = _options.column_name(id)
        if add:
            index = Index.open(out, model)
            added = index.add(gallery, id=name, media=media, batch_size=batch_size, replace=replace, step=step)
        else:
            shown = None if show is None else _options.split_names(show)
            index, added = Index.create(
                out,
                model,
                gallery,
                run=run,
                task=task,
                id=name,
                show=shown,
                media=media,
                batch_size=batch_size,
                overwrite=overwrite,
                approximate=approximate,
                step=step,
            )
        print_problems(console, added.problems)
        if added.skipped:
            rows = ", ".join(map(str, added.skipped[:SHOWN])) + (", ..." if len(added.skipped) > SHOWN else "")
            console.warn(
                f"{counted(len(added.skipped), 'row')} without any of {', '.join(index.sides)} not indexed: {rows}"
            )
        console.note(f"{counted(added.rows, 'row')} indexed, {counted(len(index), 'row')} in {out}")
        if approximate and len(index) < LEAST:
            console.note(f"search is exact up to {LEAST:,} rows, where it takes milliseconds")
        example = index.examples()
        console.note(f"next    {quoting.command('sensorium', 'search', out, *example)}")


def _check(
    gallery: str | None,
    remove: str | None,
    show: str | None,
    *,
    add: bool,
    replace: bool,
    approximate: bool,
    overwrite: bool,
) -> None:
    """Refuse options that contradict each other."""
    if (gallery is None) == (remove is None):
        raise ConfigError("name either a table of rows or --remove", fix="sensorium index run gallery.csv --out idx")
    if replace and not add:
        raise ConfigError("--replace replaces rows of an existing index", fix="add --add")
    if approximate and (add or remove is not None):
        raise ConfigError(
            "an existing index cannot become approximate", fix="create it again with --approximate --overwrite"
        )
    if add and (show is not None or overwrite):
        raise ConfigError(
            "the columns that an existing index shows cannot be changed", fix="leave out --show and --overwrite with --add"
        )
