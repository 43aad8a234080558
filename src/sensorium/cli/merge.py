"""The command ``sensorium merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a trained model, written by fit.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged model.")] = Path("merged"),
    lm: _options.Lm = None,
    overwrite: _options.Overwrite = False,
) -> None:
    """Merge low-rank updates into the weights: the model answers as before, without separate update matrices.

    Example: sensorium merge run --out whole

    A model trained with --lm in the stage instruct gets its own language model, in the folder `lm` of the output, which
    transformers reads too.
    """
    from sensorium.artifact import Artifact
    from sensorium.core.errors import ConfigError

    if out.exists() and any(out.iterdir()) and not overwrite:
        raise ConfigError("is not empty", file=out, fix="another --out, or --overwrite")
    artifact = Artifact.load(run, lm=lm)
    out.mkdir(parents=True, exist_ok=True)
    artifact.merged(out / "lm").save(out)
    typer.echo(f"model   {out}")
    if (out / "lm").is_dir():
        typer.echo(f"language model   {out / 'lm'}")
