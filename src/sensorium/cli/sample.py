"""The command ``sensorium sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sensorium.cli import _options
from sensorium.core import quoting
from sensorium.core.errors import ConfigError
from sensorium.core.plurals import counted


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a model trained with --task generation.")],
    out: Annotated[Path, typer.Option(help="Folder for the rows: rows.csv, and a file for each picture and recording.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of rows; with --rows, for each of them.")] = 1,
    given: Annotated[
        list[str] | None, typer.Option(help="A condition: label=7, 'words=a red circle', photo=a.png; may be repeated.")
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="A table of conditions.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed: the same seed makes the same rows.")] = 0,
    media: _options.Media = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Sample new rows from a model trained with --task generation, and write them as a table that fit reads.

    Example: sensorium sample run --n 100 --given label=7 --seed 0 --out made

    The column made_by_sensorium marks the rows, and so do the metadata of PNG and WAV files. fit ignores that column, and
    never validates on such rows.
    """
    conditions = _conditions(given)
    from sensorium.predictor import settle_threads
    from sensorium.reporting import made_files
    from sensorium.reporting.console import Console
    from sensorium.sampling import sample_rows
    from sensorium.trained import load

    made_files.claim(out, overwrite=overwrite)
    model = load(run)
    settle_threads(model.recipe)
    with Console(quiet) as console:
        made = sample_rows(model.predictor, n, given=conditions, rows=rows, seed=seed, media=media)
        count = made_files.write(out, made)
        if not count:
            console.warn(f"{rows} has no rows, so no rows were made")
        console.note(f"{counted(count, 'made row')} in {out / 'rows.csv'}")


def _conditions(texts: list[str] | None) -> dict[str, Any]:
    """Parse the values ``texts`` of ``--given column=value``."""
    conditions: dict[str, Any] = {}
    for text in texts or []:
        name, value = quoting.pair(text)
        if not name or value is None or name in conditions:
            reason = f"names {name} a second time" if name in conditions else "is not COLUMN=VALUE"
            raise ConfigError(f"--given {text} {reason}", fix="write --given COLUMN=VALUE, as in --given label=7")
        conditions[name] = value
    return conditions
