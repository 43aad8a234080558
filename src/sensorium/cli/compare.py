"""``sensorium compare``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    train: Annotated[
        str | None, typer.Argument(help="The training table: .csv .tsv .jsonl .parquet. May stand in the recipe.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="Anything in a recipe: training.epochs=20")] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    test: Annotated[str | None, typer.Option(help="A table to score on [default: a fifth of the training table].")] = None,
    fusions: Annotated[str, typer.Option(help="all, or names: gated,lowrank")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    metric: Annotated[str | None, typer.Option(help="What to compare [default: the task's own].")] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Also train without each modality.")] = False,
    ignore: Annotated[str | None, typer.Option(help="Columns not to use: id,speaker")] = None,
    group: Annotated[str | None, typer.Option(help="A column whose groups must not be split apart: patient")] = None,
    as_: Annotated[list[str] | None, typer.Option("--as", help="What a column is: photo=image; may be repeated.")] = None,
    weight: Annotated[str | None, typer.Option(help="A column of row weights.")] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A YAML recipe; docs/recipe.md has every key.")] = None,
    seed: Annotated[int | None, typer.Option(help="The first of the seeds, and that of the split [default: 0].")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Training time of all runs together: 90s, 10m, 1h.")] = None,
    out: Annotated[Path, typer.Option(help="Where runs, table, picture and recipe go.")] = Path("compare"),
    cache: Annotated[Path | None, typer.Option(help="Where decoded media are kept [default: the user's cache].")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and the result.")] = False,
) -> None:
    """Train every fusion on the same rows with the same encoders and budget: which is best, and is it more than noise?

    Example: sensorium compare train.csv --target label --ignore id --fusions all --seeds 3 --time-limit 30m

    The same command again goes on where it was stopped.
    """
    if train is not None and "=" in train and not Path(train).exists():
        overrides, train = [train, *(overrides or [])], None
    from sensorium.cli.fit import columns_told, names, seconds
    from sensorium.training.compare import compare

    found = compare(
        train,
        target=target,
        test=test,
        fusions=fusions,
        seeds=seeds,
        metric=metric,
        leave_out=leave_out,
        recipe=recipe,
        columns=columns_told(as_, None),
        ignore=names(ignore),
        group=group,
        weight=weight,
        media=media,
        overrides=overrides or [],
        seed=seed,
        time_limit=None if time_limit is None else seconds(time_limit),
        out=out,
        cache=cache,
        quiet=quiet,
    )
    typer.echo(found.text())
    typer.echo(f"\npage    {out / 'compare.html'}\nwinner  sensorium fit --recipe {out / 'winner.yaml'} --out run")
