"""The command ``sensorium pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core import quoting

COMMAND = _options.GroupingCommand


def run(
    train: _options.Train = None,
    overrides: _options.Overrides = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="What is learnt, several separated by commas: contrastive, rebuild, autoencode, denoise, variational, "
            "masked, matching, vicreg, simclr [default: contrastive,rebuild; autoencode,simclr with one stream]."
        ),
    ] = None,
    valid: Annotated[str | None, typer.Option(help="A validation table [default: a split of the training table].")] = None,
    ignore: _options.Ignore = None,
    group: _options.Group = None,
    as_: _options.As = None,
    streams: _options.Streams = None,
    weight: _options.Weight = None,
    media: _options.Media = None,
    recipe: _options.RecipeFile = None,
    epochs: _options.Epochs = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Rows per step [default: chosen by the data].")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model [default: 0].")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Maximum training time: 90s, 10m, 1h.")] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Read shards during training, without a cache: for data larger than memory."),
    ] = False,
    init: _options.InitFrom = None,
    init_how: _options.InitHow = None,
    map_: _options.InitMap = None,
    out: Annotated[Path, typer.Option(help="Folder for the base model, its report and its logs.")] = Path("base"),
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in --out.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished or interrupted model in --out.")
    ] = False,
    cache: _options.Cache = None,
    quiet: _options.Quiet = False,
) -> None:
    """Train encoders on rows without a target. A model of few labelled rows then starts from them: fit --init.

    Every column is an input; name others, such as a target that few rows have, with --ignore.

    Example: sensorium pretrain rows.csv --ignore id,label --out base

    then: sensorium fit few.csv --target label --init base --out run
    """
    train, overrides = _options.table_and_overrides(train, overrides)
    from sensorium.training.launch import first
    from sensorium.training.pretrain import pretrain

    trained = pretrain(
        train,
        methods=None if method is None else _options.split_names(method),
        valid=valid,
        recipe=recipe,
        columns=_options.column_kinds(as_, None),
        streams=_options.stream_patterns(streams),
        ignore=_options.split_names(ignore),
        group=_options.column_name(group),
        weight=_options.column_name(weight),
        media=media,
        epochs=epochs,
        batch_size=batch_size,
        overrides=overrides,
        seed=seed,
        time_limit=None if time_limit is None else _options.duration_seconds(time_limit),
        stream=stream,
        init=init,
        init_how=init_how,
        init_streams=_options.stream_map(map_),
        out=out,
        resume=resume,
        overwrite=overwrite,
        cache=cache,
        quiet=quiet,
    )
    if not first():
        return  # of several processes only the first prints
    typer.echo(trained.summary())
    following = quoting.command("sensorium", "fit", "few.csv", "--target", "COLUMN", "--init", out)
    typer.echo(f"\nmodel   {out}\nreport  {out / 'report.html'}\nnext    {following}")
