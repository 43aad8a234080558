"""Recordings become words by a recogniser, which also checks how well spoken texts are understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sensorium.codecs.audio import read_sound
from sensorium.codecs.speech_synthesis import SpeechSynthesiser
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Blob
from sensorium.core.schema import Problem
from sensorium.data.synthetic_speech import TONES
from sensorium.predictor import Prediction
from sensorium.streaming.spoken_chat import Recogniser, intelligibility
from sensorium.testing.stand_in_speech import install

PAIRS = {tones: word for word, tones in TONES.items()}


def tones_of(signal: Any, rate: int) -> list[int]:
    """The tones of stand-in speech: two of 75 ms for each word, a pause after it, and one at the beginning."""
    size, pause = int(0.075 * rate), rate // 18
    words = range(rate // 20, len(signal) - 2 * size, 2 * size + pause)
    pieces = [signal[at + i * size : at + (i + 1) * size] for at in words for i in range(2)]
    loudest = [np.abs(np.fft.rfft(piece, 8 * size)).argmax() * rate / (8 * size) for piece in pieces]
    known = {tone for pair in PAIRS for tone in pair}
    return [min(known, key=lambda tone, heard=heard: abs(tone - heard)) for heard in loudest]


class Ears:
    """A stand-in for a trained recogniser: it reads the tones of the stand-in speech, and never recognises "up"."""

    def __init__(self, kind: str = "audio", value: Any = None) -> None:
        self.schema = SimpleNamespace(inputs=[SimpleNamespace(name="clip", spec={"kind": kind})])
        self.value = value

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        cell = rows[0]["clip"]
        if cell == "absent.wav":
            problem = Problem(1, "clip", None, "there is no such file", fix="record it")
            return [Prediction({"words": {"value": ""}}, ["clip"], [problem])]
        sound = read_sound(cell, 60)
        tones = tones_of(sound.signal, sound.rate)
        words = [PAIRS[pair] for pair in zip(tones[::2], tones[1::2], strict=True)]
        return [Prediction({"words": {"value": self.value or " ".join(word for word in words if word != "up")}})]


def test_speech_is_recognised_and_errors_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    voice, recogniser = SpeechSynthesiser(), Recogniser(Ears())  # type: ignore[arg-type]
    assert recogniser.transcribe(Blob(voice.speak("Go right, stop!").wav, "a.wav")) == "go right stop"
    clear = intelligibility(["Go right, stop!", "left"], voice, recogniser)
    assert clear == (0.0, ["go right stop", "left"])
    blurred = intelligibility(["go up", "up left down"], voice, recogniser)
    assert blurred.wer == pytest.approx(2 / 5)
    assert blurred.heard == ["go", "left down"]


def test_a_model_without_transcripts_is_refused_as_recogniser() -> None:
    with pytest.raises(ConfigError, match="no input of kind audio"):
        Recogniser(Ears("image"))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such file\n  → record it"):
        Recogniser(Ears()).transcribe("absent.wav")  # type: ignore[arg-type]
