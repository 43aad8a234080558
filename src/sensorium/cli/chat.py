"""The command ``sensorium chat``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sensorium.cli import _options
from sensorium.core import quoting
from sensorium.core.errors import ConfigError


def run(
    run: Annotated[Path, typer.Argument(help="The folder of a model trained with --lm.")],
    question: Annotated[str | None, typer.Argument(help="What is asked [default: a line of standard input each].")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="A picture to talk about; may be repeated.")] = None,
    sound: Annotated[list[Path] | None, typer.Option(help="A recording to talk about; may be repeated.")] = None,
    video: Annotated[list[Path] | None, typer.Option(help="A video to talk about; may be repeated.")] = None,
    show: Annotated[
        list[str] | None, typer.Option(help="Any other input, by its column: sensor=a.csv, age=30; may be repeated.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends an answer; may be repeated.")] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(help="A possible answer: prints the probability of each; repeated, at least twice."),
    ] = None,
    spoken: Annotated[
        list[Path] | None, typer.Option(help="A recording of a question, with --recogniser; repeated, each is one turn.")
    ] = None,
    recogniser: Annotated[
        Path | None, typer.Option(help="The folder of a transcription model: transcribes --spoken, and checks --speak.")
    ] = None,
    speak: Annotated[
        Path | None, typer.Option(help="Write the spoken answer to this WAV; of further turns to out_2.wav, ...")
    ] = None,
    language: Annotated[str, typer.Option(help="Language of --speak: en, de, pt-br.")] = "en",
    voice: Annotated[str | None, typer.Option(help="Voice of --speak [default: that of espeak-ng or flite].")] = None,
    lm: _options.Lm = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...; auto uses a GPU if there is one.")] = "auto",
) -> None:
    """Talk with a model about pictures, sounds, videos and other inputs. Words appear as they are generated.

    Example: sensorium chat run --image a.png "What is it?"

    Without a question, each line is one turn, until an empty line or the end: sensorium chat run --sound a.wav

    Spoken: sensorium chat run --spoken question.wav --recogniser words --speak answer.wav
    """
    from sensorium.artifact import Artifact
    from sensorium.codecs.speech_synthesis import SpeechSynthesiser
    from sensorium.core.modality import Blob
    from sensorium.data.files.atomic_write import write
    from sensorium.predictor import Predictor, settle_threads
    from sensorium.streaming.chat_session import Chat, Wish
    from sensorium.streaming.spoken_chat import Recogniser, heard_in

    if spoken and (recogniser is None or question is not None):
        raise ConfigError(
            "a spoken question needs a recogniser and excludes a written question",
            fix="--recogniser RUN of the task transcription; a recording to talk about is --sound",
        )
    if not all(stop or ()):
        raise ConfigError("--stop is empty: it would end every answer immediately", fix="leave it out")
    if recogniser is not None and not spoken and speak is None:
        raise ConfigError(
            "--recogniser without a spoken question or answer", fix="add --spoken QUESTION.wav or --speak ANSWER.wav"
        )
    for path in [*(image or []), *(sound or []), *(video or []), *(spoken or [])]:
        if not path.is_file():
            raise ConfigError("there is no such file", file=path)
    voices = SpeechSynthesiser(language=language, voice=voice) if speak is not None else None
    artifact = Artifact.load(run, lm=lm)
    settle_threads(artifact.recipe)
    chat = Chat(Predictor(artifact, device=device), warn=lambda note: typer.echo(f"warning: {note}", err=True))
    ears = None if recogniser is None else Recogniser(Predictor(Artifact.load(recogniser), device=device))
    for kind, paths in (("image", image), ("audio", sound), ("video", video)):
        for path in paths or []:
            chat.attach(kind, str(path))
    for text in show or []:
        name, cell = quoting.pair(text)
        if cell is None:
            raise ConfigError(f"--show {text} is not COLUMN=CELL", fix="--show age=30")
        if name in chat.cells:
            raise ConfigError(f"--show {text}: that column shows something already", fix="name each column once")
        chat.show({name: cell})
    for turn, line in enumerate(_questions(question, spoken, ears), 1):
        answer = _answer(chat, line, choice, Wish(stop=tuple(stop or ())))
        if speak is None or voices is None or not answer.strip():
            continue
        wav = voices.speak(answer).wav
        target = speak if turn == 1 else speak.with_stem(f"{speak.stem}_{turn}")
        write(target, wav)
        typer.echo(f"spoken by {voices.program}: {target}", err=True)
        if ears is not None:
            wer, (heard,) = heard_in([answer], [Blob(wav, target.name)], ears)
            typer.echo(f"recognised as: {heard} (word error rate {wer:.2f})", err=True)


def _questions(question: str | None, spoken: list[Path] | None, ears: Any) -> Iterator[str]:
    """The questions, turn by turn: ``question``, those in the recordings ``spoken``, or lines of standard input."""
    if question is not None:
        yield question.strip()
        return
    for path in spoken or []:
        heard = ears.transcribe(str(path))
        typer.echo(f"{path.name}: {heard}", err=True)
        yield heard
    if not spoken:
        for line in sys.stdin:
            if not line.strip():
                return
            yield line.strip()


def _answer(chat: Any, line: str, choices: list[str] | None, wish: Any) -> str:
    """Print the answer to ``line`` as it is generated, or the probabilities of ``choices``; return it."""
    if choices:
        probabilities: dict[str, float] = chat.choose(line, choices)
        for text, probability in probabilities.items():
            typer.echo(f"{probability:.3f}  {text}")
        return next(iter(probabilities))
    answer = ""
    for piece in chat.ask(line, wish):
        typer.echo(piece, nl=False)
        sys.stdout.flush()
        answer += piece
    typer.echo("")
    return answer
