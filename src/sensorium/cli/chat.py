"""The command ``sensorium chat``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sensorium.cli import _options
from sensorium.core import quoting
from sensorium.core.errors import ConfigError


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a model trained with --lm.")],
    question: Annotated[str | None, typer.Argument(help="What is asked [default: a line of standard input each].")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="A picture to talk about; may be repeated.")] = None,
    sound: Annotated[list[Path] | None, typer.Option(help="A recording to talk about; may be repeated.")] = None,
    show: Annotated[
        list[str] | None, typer.Option(help="Any other input, by its column: clip=a.mp4, age=30; may be repeated.")
    ] = None,
    lm: _options.Lm = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...; auto uses a GPU if there is one.")] = "auto",
) -> None:
    """Talk with a model about pictures and sounds. Words appear as they are generated.

    Example: sensorium chat run --image a.png "What is it?"

    Without a question, each line is one turn, until an empty line or the end: sensorium chat run --sound a.wav
    """
    from sensorium.artifact import Artifact
    from sensorium.predictor import Predictor, settle_threads
    from sensorium.streaming.chat_session import Chat

    artifact = Artifact.load(run, lm=lm)
    settle_threads(artifact.recipe)
    chat = Chat(Predictor(artifact, device=device))
    for kind, paths in (("image", image), ("audio", sound)):
        for path in paths or []:
            if not path.is_file():
                raise ConfigError("there is no such file", file=path)
            chat.show({chat.column(kind): str(path)})
    for text in show or []:
        name, cell = quoting.pair(text)
        if cell is None:
            raise ConfigError(f"--show {text} is not COLUMN=CELL", fix="--show clip=a.mp4")
        chat.show({name: cell})
    for line in [question] if question is not None else sys.stdin:
        if not line.strip():
            break
        for piece in chat.ask(line.strip()):
            typer.echo(piece, nl=False)
            sys.stdout.flush()
        typer.echo("")
