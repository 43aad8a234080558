"""``sensorium compare``"""

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
    test: Annotated[str | None, typer.Option(help="A table to score on [default: a fifth of the training table].")] = None,
    fusions: Annotated[
        str | None, typer.Option(help="all, or names: gated,lowrank [default: all, where nothing else is compared]")
    ] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(metavar="STREAM=NAMES", help="Of a stream: photo=convnet,resnet or photo=all; may be repeated."),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=NAMES", help="Of a column: photo=none,light or photo=all; may be repeated."),
    ] = None,
    experts: Annotated[
        str | None, typer.Option(help="Experts beside the network: none,linear,linear+forest, or all [default: none].")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    metric: Annotated[str | None, typer.Option(help="What to compare [default: the task's own].")] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Also train without each modality.")] = False,
    ignore: given.Ignore = None,
    group: given.Group = None,
    as_: given.As = None,
    streams: given.Streams = None,
    weight: given.Weight = None,
    media: given.Media = None,
    recipe: given.RecipeFile = None,
    epochs: given.Epochs = None,
    seed: Annotated[int | None, typer.Option(help="The first of the seeds, and that of the split [default: 0].")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Training time of all runs together: 90s, 10m, 1h.")] = None,
    out: Annotated[Path, typer.Option(help="Where runs, table, picture and recipe go.")] = Path("compare"),
    overwrite: given.Overwrite = False,
    cache: given.Cache = None,
    quiet: given.Quiet = False,
) -> None:
    """Train fusions, encoders or augmentations on the same rows and budget: which is best, and is it more than noise?

    Example: sensorium compare train.csv --target label --ignore id --fusions all --seeds 3 --time-limit 30m

    Example: sensorium compare train.csv --target label --encoders photo=convnet,resnet --augment photo=none,light

    The same command again goes on where it was stopped.
    """
    train, overrides = given.moved(train, overrides)
    overrides, options, answered = given.task_options(task, overrides, target)
    from sensorium.training.compare import compare

    found = compare(
        train,
        target=answered,
        task=task,
        options=options,
        test=test,
        fusions=fusions,
        encoders={name: given.specs(text) for name, text in given.by_name("--encoders", encoders, "photo=convnet,resnet")},
        augment=dict(given.by_name("--augment", augment, "photo=none,light")),
        experts=experts,
        seeds=seeds,
        metric=metric,
        leave_out=leave_out,
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
        out=out,
        overwrite=overwrite,
        cache=cache,
        quiet=quiet,
    )
    typer.echo(found.text())
    following = quoting.command("sensorium", "fit", "--recipe", out / "winner.yaml", "--out", "run")
    typer.echo(f"\npage    {out / 'compare.html'}\nwinner  {following}")
