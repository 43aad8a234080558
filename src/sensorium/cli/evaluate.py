"""The command ``sensorium evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core.errors import ConfigError


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a trained model, written by fit.")],
    table: Annotated[str, typer.Argument(help="A table with the target column.")],
    json_: Annotated[Path | None, typer.Option("--json", help="Write the scores to a JSON file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report to one HTML file.")] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness", help="Also measure robustness: remove and corrupt each modality in increasing shares."
        ),
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="A compare.json (of compare --leave-out): shows models trained without a modality beside its removal."
        ),
    ] = None,
    gain: Annotated[
        str | None,
        typer.Option(
            help="A target column: measure what starting from this model brings instead, as `sensorium gain` does."
        ),
    ] = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder that relative media paths start from [default: the table's].")
    ] = None,
    decode: _options.Decode = None,
    lm: _options.Lm = None,
    overwrite: _options.Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and the result.")] = False,
) -> None:
    """Evaluate a model on a table: all metrics with confidence intervals, every subset of modalities, and a baseline.

    Example: sensorium evaluate run test.csv --report test.html
    """
    if reference is not None and not robustness:
        raise ConfigError("--reference needs --robustness", fix="give both options")
    if gain is not None and (robustness or report is not None or decode):
        fix = "leave out --robustness, --report and --decode; see sensorium gain"
        raise ConfigError("--gain trains other models and scores those", fix=fix)
    from sensorium.data.files.output_path import prepare_output
    from sensorium.reporting.console import Console
    from sensorium.trained import load

    for path, option in ((report, "--report"), (json_, "--json")):
        if path is not None:
            prepare_output(path, option, overwrite=overwrite, reads=[table])
    if gain is not None:
        from sensorium.training.gain import gain as measure_gain

        name = _options.column_name(gain)
        assert name is not None
        with Console(quiet) as console:
            result = measure_gain(run, table, target=name, media=media, console=console)
        if json_ is not None:
            json_.write_text(json.dumps(result.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
        typer.echo(result.text())
        return
    with Console(quiet) as console:
        evaluation = load(run, lm=lm, decoding=_options.decoding(decode)).evaluate(
            table,
            media=media,
            report=report,
            console=console,
            robustness=robustness,
            reference=reference,
            overwrite=overwrite,
        )
    if json_ is not None:
        json_.write_text(json.dumps(evaluation.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    typer.echo(evaluation.text())
    if report is not None:
        typer.echo(f"\nreport  {report}")
