"""``sensorium fit``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sensorium.core.errors import ConfigError


def run(
    train: Annotated[
        str | None, typer.Argument(help="The training table: .csv .tsv .jsonl .parquet. May stand in the recipe.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Anything in a recipe: model.fusion=gated training.epochs=20")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="The column to predict; may be given again.")] = None,
    valid: Annotated[str | None, typer.Option(help="A table to choose the best epoch on [default: a split].")] = None,
    ignore: Annotated[str | None, typer.Option(help="Columns not to use: id,speaker")] = None,
    group: Annotated[str | None, typer.Option(help="A column whose groups must not be split apart: patient")] = None,
    as_: Annotated[list[str] | None, typer.Option("--as", help="What a column is: photo=image; may be repeated.")] = None,
    weight: Annotated[str | None, typer.Option(help="A column of row weights.")] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A YAML recipe; docs/recipe.md has every key.")] = None,
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
    cache: Annotated[Path | None, typer.Option(help="Where decoded media are kept [default: the user's cache].")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and the result.")] = False,
) -> None:
    """Train a model on a table. What the columns are is guessed and said; everything can be overridden.

    Example: sensorium fit train.csv --target label --ignore id --out run model.fusion=gated
    """
    if train is not None and "=" in train and not Path(train).exists():
        overrides, train = [train, *(overrides or [])], None
    from sensorium.training.crew import first
    from sensorium.training.fit import fit

    trained = fit(
        train,
        target=target,
        valid=valid,
        recipe=recipe,
        columns=columns_told(as_, None),
        ignore=names(ignore),
        group=group,
        weight=weight,
        media=media,
        overrides=overrides or [],
        seed=seed,
        time_limit=None if time_limit is None else seconds(time_limit),
        stream=stream,
        search=search,
        quality=quality,
        tune_speed=tune_speed,
        out=out,
        resume=resume,
        cache=cache,
        quiet=quiet,
    )
    if not first():
        return  # of several processes one speaks
    typer.echo(trained.summary())
    typer.echo(f"\nmodel   {out}\nreport  {out / 'report.html'}\nnext    sensorium evaluate {out} test.csv")


def columns_told(as_: list[str] | None, ignore: str | None) -> dict[str, Any]:
    """``--as photo=image``, ``--as 'when={kind: datetime, order: mdy}'`` and ``--ignore id,speaker`` as one mapping."""
    return dict(_pair(text) for text in as_ or []) | dict.fromkeys(names(ignore), "ignore")


def names(text: str | None) -> list[str]:
    """``id,speaker`` as a list."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _pair(text: str) -> tuple[str, str | dict[str, Any]]:
    import yaml

    name, equals, kind = text.partition("=")
    if not equals:
        raise ConfigError(f"--as {text}", fix="write --as column=kind, as in --as photo=image")
    if not kind.lstrip().startswith("{"):
        return name, kind
    try:
        spec = yaml.safe_load(kind)
    except yaml.YAMLError:
        spec = None
    if not isinstance(spec, dict) or not all(isinstance(key, str) for key in spec):
        raise ConfigError(f"--as {text}", fix="write --as 'column={kind: datetime, order: mdy}'")
    return name, spec


def seconds(text: str) -> float:
    """``90s``, ``10m``, ``1.5h`` or plain seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{text!r} is not a time", fix="write 90s, 10m or 1h")
    return value
