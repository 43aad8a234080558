"""The command ``sensorium compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core import quoting

SETTINGS, COMMAND = _options.EXTRA, _options.GroupingCommand


def run(
    train: _options.Train = None,
    overrides: _options.Overrides = None,
    target: _options.Target = None,
    task: _options.Task = None,
    test: Annotated[
        str | None, typer.Option(help="A table to score on [default: a held-out fifth of the training table].")
    ] = None,
    fusions: Annotated[
        str | None,
        typer.Option(help="Fusions to compare: all, or gated,lowrank [default: all, if nothing else is compared]."),
    ] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STREAM=NAMES",
            help="Encoders of a stream to compare: photo=convnet,resnet or photo=all; may be repeated.",
        ),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=NAMES",
            help="Augmentations of a column to compare: photo=none,light or photo=all; may be repeated.",
        ),
    ] = None,
    experts: Annotated[
        str | None,
        typer.Option(help="Experts to compare beside the network: none,linear,linear+forest, or all [default: none]."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of random seeds: runs of each candidate.")] = 3,
    metric: Annotated[str | None, typer.Option(help="The metric to compare [default: that of the task].")] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Also train without each modality.")] = False,
    ignore: _options.Ignore = None,
    group: _options.Group = None,
    as_: _options.As = None,
    streams: _options.Streams = None,
    weight: _options.Weight = None,
    media: _options.Media = None,
    recipe: _options.RecipeFile = None,
    epochs: _options.Epochs = None,
    seed: Annotated[int | None, typer.Option(help="The first seed, also used for the split [default: 0].")] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Maximum training time of all runs together: 90s, 10m, 1h.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs, the table, the chart and the winning recipe.")] = Path(
        "compare"
    ),
    overwrite: _options.Overwrite = False,
    cache: _options.Cache = None,
    quiet: _options.Quiet = False,
) -> None:
    """Compare fusions, encoders or augmentations on the same rows and budget, with tests of significance.

    Example: sensorium compare train.csv --target label --ignore id --fusions all --seeds 3 --time-limit 30m

    Example: sensorium compare train.csv --target label --encoders photo=convnet,resnet --augment photo=none,light

    If it is interrupted, the same command resumes it.
    """
    train, overrides = _options.table_and_overrides(train, overrides)
    overrides, options, targets = _options.task_options(
        task, overrides, target, ("fusions", "encoders", "augment", "experts", "seeds", "metric", "leave-out", "test")
    )
    from sensorium.training.compare import compare

    comparison = compare(
        train,
        target=targets,
        task=task,
        options=options,
        test=test,
        fusions=fusions,
        encoders={
            name: _options.component_specs(text)
            for name, text in _options.named_choices("--encoders", encoders, "photo=convnet,resnet")
        },
        augment=dict(_options.named_choices("--augment", augment, "photo=none,light")),
        experts=experts,
        seeds=seeds,
        metric=metric,
        leave_out=leave_out,
        recipe=recipe,
        columns=_options.column_kinds(as_, None),
        streams=_options.stream_patterns(streams),
        ignore=_options.split_names(ignore),
        group=_options.column_name(group),
        weight=_options.column_name(weight),
        media=media,
        epochs=epochs,
        overrides=overrides,
        seed=seed,
        time_limit=None if time_limit is None else _options.duration_seconds(time_limit),
        out=out,
        overwrite=overwrite,
        cache=cache,
        quiet=quiet,
    )
    typer.echo(comparison.text())
    next_command = quoting.command("sensorium", "fit", "--recipe", out / "winner.yaml", "--out", "run")
    typer.echo(f"\npage    {out / 'compare.html'}\nwinner  {next_command}")
