"""The command ``sensorium fit``."""

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
    valid: Annotated[
        str | None,
        typer.Option(help="A validation table, to choose the best epoch on [default: a split of the training table]."),
    ] = None,
    ignore: _options.Ignore = None,
    group: _options.Group = None,
    as_: _options.As = None,
    streams: _options.Streams = None,
    weight: _options.Weight = None,
    media: _options.Media = None,
    recipe: _options.RecipeFile = None,
    epochs: _options.Epochs = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model [default: 0].")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Maximum training time: 90s, 10m, 1h.")] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Read shards during training, without a cache: for data larger than memory and disk."
        ),
    ] = False,
    search: Annotated[
        int | None,
        typer.Option(min=1, help="Hyperparameter search: the number of trials. The best on validation rows wins."),
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="How much time to spend: fast, good (the default) or best (longer, with a search).")
    ] = None,
    tune_speed: Annotated[
        bool,
        typer.Option(
            "--tune-speed", help="First measure which settings train faster here; use those that keep the results."
        ),
    ] = False,
    init: _options.InitFrom = None,
    init_how: _options.InitHow = None,
    map_: _options.InitMap = None,
    synthetic: Annotated[
        float | None,
        typer.Option(help="Also learn from made rows, this many times the training rows: 2.0. Scored without them too."),
    ] = None,
    augment_with: Annotated[
        Path | None, typer.Option(help="Also learn from made rows: a folder that `sensorium sample` wrote.")
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="A table of rows without a target to pretrain on. Scored without them too.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model, its report and its logs.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in --out.")] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a finished or interrupted model in --out, which is an error otherwise."),
    ] = False,
    cache: _options.Cache = None,
    quiet: _options.Quiet = False,
) -> None:
    """Train a model on a table. The kinds of columns are detected and printed; everything can be overridden.

    Example: sensorium fit train.csv --target label --ignore id --out run model.fusion=gated

    To choose another task than the target suggests: sensorium fit train.csv --target label --task svm --kernel linear
    """
    train, overrides = _options.table_and_overrides(train, overrides)
    task = _options.named_task(task, overrides)
    overrides, options, targets = _options.task_options(task, overrides, target)
    from sensorium.training.fit import fit
    from sensorium.training.launch import first

    trained = fit(
        train,
        target=targets,
        task=task,
        options=options,
        valid=valid,
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
        stream=stream,
        search=search,
        quality=quality,
        tune_speed=tune_speed,
        init=init,
        init_how=init_how,
        init_streams=_options.stream_map(map_),
        synthetic=synthetic,
        augment_with=augment_with,
        unlabelled=unlabelled,
        out=out,
        resume=resume,
        overwrite=overwrite,
        cache=cache,
        quiet=quiet,
    )
    if not first():
        return  # of several processes only the first prints
    typer.echo(trained.summary())
    makes_rows = any(task.generated_columns for task in trained.model.tasks.values())
    after = ("sample", out, "--n", "100", "--out", "made") if makes_rows else ("evaluate", out, "test.csv")
    next_command = quoting.command("sensorium", *after)
    typer.echo(f"\nmodel   {out}\nreport  {out / 'report.html'}\nnext    {next_command}")
