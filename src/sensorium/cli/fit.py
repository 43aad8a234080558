"""``sensorium fit``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options as given
from sensorium.core import quoting

SETTINGS, COMMAND = given.EXTRA, given.Grouping


def run(
    train: given.Train = None,
    overrides: given.Overrides = None,
    target: given.Target = None,
    task: given.Task = None,
    valid: Annotated[str | None, typer.Option(help="A table to choose the best epoch on [default: a split].")] = None,
    ignore: given.Ignore = None,
    group: given.Group = None,
    as_: given.As = None,
    streams: given.Streams = None,
    weight: given.Weight = None,
    media: given.Media = None,
    recipe: given.RecipeFile = None,
    epochs: given.Epochs = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model [default: 0].")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Training time at most: 90s, 10m, 1h.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read shards as training goes, and keep nothing: for more than fits.")
    ] = False,
    search: Annotated[
        int | None, typer.Option(min=1, help="Try so many settings of what is left open; keep the best on validation rows.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="fast, good (as without it) or best (longer, with a search): how much is spent.")
    ] = None,
    tune_speed: Annotated[
        bool, typer.Option("--tune-speed", help="Measure first what makes training faster here, and take it.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the model, its report and its logs go.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished or stopped model in --out, which else is refused.")
    ] = False,
    cache: given.Cache = None,
    quiet: given.Quiet = False,
) -> None:
    """Train a model on a table. What the columns are is guessed and said; everything can be overridden.

    Example: sensorium fit train.csv --target label --ignore id --out run model.fusion=gated

    Another kind of task than the target suggests: sensorium fit train.csv --target label --task svm --kernel linear
    """
    train, overrides = given.moved(train, overrides)
    overrides, options, answered = given.task_options(task, overrides, target)
    from sensorium.training.fit import fit
    from sensorium.training.launch import first

    trained = fit(
        train,
        target=answered,
        task=task,
        options=options,
        valid=valid,
        recipe=recipe,
        columns=given.columns_told(as_, None),
        streams=given.streams_told(streams),
        ignore=given.names(ignore),
        group=given.one(group),
        weight=given.one(weight),
        media=media,
        epochs=epochs,
        overrides=overrides,
        seed=seed,
        time_limit=None if time_limit is None else given.seconds(time_limit),
        stream=stream,
        search=search,
        quality=quality,
        tune_speed=tune_speed,
        out=out,
        resume=resume,
        overwrite=overwrite,
        cache=cache,
        quiet=quiet,
    )
    if not first():
        return  # of several processes one speaks
    typer.echo(trained.summary())
    following = quoting.command("sensorium", "evaluate", out, "test.csv")
    typer.echo(f"\nmodel   {out}\nreport  {out / 'report.html'}\nnext    {following}")
