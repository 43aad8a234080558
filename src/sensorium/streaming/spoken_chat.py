"""Speech in a conversation: recognition of spoken questions, and the intelligibility of spoken answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sensorium.codecs.speech_synthesis import SpeechSynthesiser
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Blob
from sensorium.metrics.transcripts import word_errors
from sensorium.predictor import Predictor

_MARKS = re.compile(r"[^\w\s']+")


class Intelligibility(NamedTuple):
    """The transcripts of spoken texts by a recogniser.

    Args:
        wer: Word error rate: errors by the number of words of the texts.
        heard: The transcript of each text.
    """

    wer: float
    heard: list[str]


class Recogniser:
    """A trained model that turns recordings into words, such as one of the task ``transcription``.

    Args:
        predictor: The model; one of its inputs is a recording.

    Raises:
        ConfigError: No input is a recording.
    """

    def __init__(self, predictor: Predictor) -> None:
        columns = [column.name for column in predictor.schema.inputs if column.spec["kind"] == "audio"]
        if not columns:
            raise ConfigError("the recogniser has no input of kind audio", fix="name a run of the task transcription")
        self.predictor, self.column = predictor, columns[0]

    def transcribe(self, sound: Any) -> str:
        """Return the words in the recording ``sound``: a path, or a ``Blob``.

        Raises:
            ConfigError: The model does not answer in words.
            DataError: The recording cannot be used.
        """
        prediction = self.predictor.predict([{self.column: sound}])[0]
        if prediction.problems and self.column in prediction.missing:
            first = prediction.problems[0]
            raise DataError(first.problem, column=self.column, fix=first.fix)
        value = prediction.value
        if not isinstance(value, str):
            raise ConfigError("the recogniser does not answer in words", fix="name a run of the task transcription")
        return value


def intelligibility(texts: Sequence[str], synthesiser: SpeechSynthesiser, recogniser: Recogniser) -> Intelligibility:
    """Return the transcripts by ``recogniser`` of ``texts`` spoken by ``synthesiser``, without letter case and
    punctuation."""
    sounds = [Blob(synthesiser.speak(text).wav, f"speech of {synthesiser.program}") for text in texts]
    return heard_in(texts, sounds, recogniser)


def heard_in(texts: Sequence[str], sounds: Sequence[Blob], recogniser: Recogniser) -> Intelligibility:
    """Return the transcripts by ``recogniser`` of the recordings ``sounds`` of ``texts``, and its word error rate."""
    heard = [recogniser.transcribe(sound) for sound in sounds]
    errors, words = word_errors([_words(text) for text in texts], [_words(text) for text in heard])[0].sum(dim=0).tolist()
    return Intelligibility(errors / max(words, 1), heard)


def _words(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).casefold().split())
