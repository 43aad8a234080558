"""``sensorium evaluate``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options as given
from sensorium.core.errors import ConfigError


def run(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.")],
    table: Annotated[str, typer.Argument(help="A table with the target column.")],
    json_: Annotated[Path | None, typer.Option("--json", help="Write the scores as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also remove and spoil each modality by degrees.")
    ] = False,
    reference: Annotated[
        Path | None, typer.Option(help="A compare.json: models trained without a modality, beside its removal.")
    ] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
    overwrite: given.Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and the result.")] = False,
) -> None:
    """Score a model on a table: all metrics with intervals, every subset of modalities, the majority class beside them.

    Example: sensorium evaluate run test.csv --report test.html
    """
    if reference is not None and not robustness:
        raise ConfigError("--reference is for --robustness", fix="give both")
    from sensorium.data.files.output_path import ready
    from sensorium.reporting.console import Console
    from sensorium.trained import load

    for path, option in ((report, "--report"), (json_, "--json")):
        if path is not None:
            ready(path, option, overwrite=overwrite, reads=[table])
    with Console(quiet) as console:
        evaluation = load(run).evaluate(
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
