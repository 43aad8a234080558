"""The command ``sensorium gain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core.errors import ConfigError

COMMAND = _options.GroupingCommand


def run(
    base: Annotated[Path, typer.Argument(help="The folder of a base, written by pretrain or fit.")],
    train: Annotated[str, typer.Argument(help="A table with labelled rows; models are trained on small samples of it.")],
    overrides: _options.Overrides = None,
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    labels: Annotated[str, typer.Option(help="Numbers of labelled rows, separated by commas.")] = "10,50,200",
    seeds: Annotated[int, typer.Option(min=1, help="Samples of each number, each with its own seed.")] = 3,
    test: Annotated[str | None, typer.Option(help="Rows to score [default: 30 % of the labelled rows].")] = None,
    init_how: _options.InitHow = None,
    map_: _options.InitMap = None,
    ignore: _options.Ignore = None,
    as_: _options.As = None,
    streams: _options.Streams = None,
    media: _options.Media = None,
    recipe: _options.RecipeFile = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the scores to a JSON file.")] = None,
    overwrite: _options.Overwrite = False,
    cache: _options.Cache = None,
    quiet: _options.Quiet = False,
) -> None:
    """Measure the gain from starting from a base with few labels: models from scratch and from the base, on the same rows.

    Every stream alone is scored too. A warning is printed if the base makes a score worse by more than the spread over
    samples.

    Example: sensorium gain base train.csv --target label --labels 10,50,200
    """
    from sensorium.data.files.output_path import prepare_output
    from sensorium.reporting.console import Console
    from sensorium.training.gain import gain

    name = _options.column_name(target)
    if name is None:
        raise ConfigError("no target column is named", fix="--target COLUMN")
    try:
        counts = [int(text) for text in labels.split(",")]
    except ValueError:
        raise ConfigError(f"--labels {labels} is not a list of numbers", fix="write --labels 10,50,200") from None
    if json_ is not None:
        prepare_output(json_, "--json", overwrite=overwrite, reads=[train])
    with Console(quiet) as console:
        result = gain(
            base,
            train,
            target=name,
            labels=counts,
            seeds=seeds,
            test=test,
            init_how=init_how,
            init_streams=_options.stream_map(map_),
            recipe=recipe,
            columns=_options.column_kinds(as_, None),
            streams=_options.stream_patterns(streams),
            ignore=_options.split_names(ignore),
            media=media,
            overrides=overrides or [],
            cache=cache,
            console=console,
        )
    typer.echo(result.text())
    if json_ is not None:
        json_.write_text(json.dumps(result.to_json(), indent=1), encoding="utf-8")
