"""``sensorium explain``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options as given


def run(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.")],
    table: Annotated[str, typer.Argument(help="A table; it need not have the target.")],
    row: Annotated[int | None, typer.Option(min=1, help="One row, counted from 1.")] = None,
    sample: Annotated[int, typer.Option(min=1, help="Else so many rows, drawn at random.")] = 100,
    json_: Annotated[Path | None, typer.Option("--json", help="Write everything as JSON.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write one HTML file with pictures.")] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that are drawn.")] = 0,
    where: Annotated[
        bool | None, typer.Option(help="Look into each modality [default: of one row, and for --out].", show_default=False)
    ] = None,
    explainer: Annotated[
        str | None, typer.Option(help="How [default: what is most faithful]: sensorium kinds explainers.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="The training table: name the rows most alike.")] = None,
    overwrite: given.Overwrite = False,
) -> None:
    """Say what each modality did to the answers, and where in it: pixels, tones, words, moments, cells.

    Each modality's part is an exact Shapley value. Beside it stand the fusion's own weights, gates and attention.

    Example: sensorium explain run test.csv --row 3 --out explanation.html
    """
    from sensorium.data.files.output_path import ready
    from sensorium.trained import load

    for path, option in ((out, "--out"), (json_, "--json")):
        if path is not None:
            ready(path, option, overwrite=overwrite, reads=[table, train])
    found = load(run).explain(
        table,
        row=row,
        sample=sample,
        media=media,
        seed=seed,
        out=out,
        where=where,
        explainer=explainer,
        train=train,
        overwrite=overwrite,
    )
    if json_ is not None:
        json_.write_text(json.dumps(found.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    typer.echo(found.text())
    if out is not None:
        typer.echo(f"\nexplanation  {out}")
