"""The command ``sensorium explain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a trained model, written by fit.")],
    table: Annotated[str, typer.Argument(help="A table; the target is not needed.")],
    row: Annotated[int | None, typer.Option(min=1, help="Explain one row; the first row is 1.")] = None,
    sample: Annotated[int, typer.Option(min=1, help="Without --row: the number of rows to draw at random.")] = 100,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the explanation to a JSON file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the explanation to one HTML file with charts.")] = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder that relative media paths start from [default: the table's].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the sample.")] = 0,
    where: Annotated[
        bool | None,
        typer.Option(
            help="Also attribute within each modality [default: for one row, and with --out].", show_default=False
        ),
    ] = None,
    explainer: Annotated[
        str | None,
        typer.Option(help="The attribution method, see `sensorium kinds explainers` [default: the most faithful]."),
    ] = None,
    train: Annotated[str | None, typer.Option(help="The training table, to list the most similar rows.")] = None,
    about: Annotated[
        str | None,
        typer.Option(
            help="With --row: the number of the box, region, line or point to explain, as listed without, or of edges a "
            "place X,Y in pixels of the image; with several targets TARGET:NUMBER.",
            show_default=False,
        ),
    ] = None,
    lm: _options.Lm = None,
    overwrite: _options.Overwrite = False,
) -> None:
    """Explain predictions: the contribution of each modality, and of its pixels, frequencies, words, time steps or cells.

    The contribution of a modality is its Shapley value: exact for up to eight modalities, sampled for more. The weights,
    gates and attention of the fusion are shown too.

    Example: sensorium explain run test.csv --row 3 --out explanation.html
    """
    from sensorium.data.files.output_path import prepare_output
    from sensorium.trained import load

    for path, option in ((out, "--out"), (json_, "--json")):
        if path is not None:
            prepare_output(path, option, overwrite=overwrite, reads=[table, train])
    explanation = load(run, lm=lm).explain(
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
        about=about,
    )
    if json_ is not None:
        json_.write_text(json.dumps(explanation.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    typer.echo(explanation.text())
    if out is not None:
        typer.echo(f"\nexplanation  {out}")
