"""Texts are spoken by an external program: a stand-in on PATH, and the real one where it is installed."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sensorium.codecs import speech_synthesis
from sensorium.codecs.speech_synthesis import SpeechSynthesiser
from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.testing.stand_in_speech import install


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is alone on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize("name", speech_synthesis.PROGRAMS)
def test_text_becomes_a_recording_with_its_rate(path: Path, name: str) -> None:
    notes = install(path, name)
    spoken = SpeechSynthesiser().speak("ja -v $(boom)\x00\n`so`")
    args, text = json.loads(notes.read_text(encoding="utf-8"))
    assert text == "ja -v $(boom) `so`\n"
    assert not any("boom" in part for part in args)  # the text is never an argument
    assert spoken.sound.rate == 8000
    assert abs(spoken.sound.signal).max() == 0  # no word of the stand-in
    assert soundfile.info(io.BytesIO(spoken.wav)).samplerate == 8000
    assert abs(SpeechSynthesiser().speak("go").sound.signal).max() > 0.2


def test_without_a_program_the_message_says_what_to_install(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"espeak-ng or flite, which is not on PATH.*\n.*apt-get install espeak-ng"):
        SpeechSynthesiser()
    install(path, "flite")
    assert SpeechSynthesiser(language="en-gb").program == "flite"
    with pytest.raises(ConfigError, match="need espeak-ng"):
        SpeechSynthesiser(language="de")
    with pytest.raises(ConfigError, match="English only"):
        SpeechSynthesiser("flite", language="de")


def test_language_and_voice_reach_the_program(path: Path) -> None:
    assert '"de+f3"' in _noted(path, SpeechSynthesiser, language="de", voice="f3")
    with pytest.raises(ConfigError, match="not a name"):
        SpeechSynthesiser(voice="http://example.org/voice")
    with pytest.raises(ConfigError, match="not a name"):
        SpeechSynthesiser(voice="-o")
    with pytest.raises(ConfigError, match=r"espeak-ng has no voice 'f33'.*\n.*f3"):
        SpeechSynthesiser(voice="f33")
    install(path, "flite")
    assert SpeechSynthesiser("flite", voice="slt").voices() == ["slt"]
    install(path, "flite", code="raise SystemExit('no such option')")
    with pytest.raises(ConfigError, match="does not list its voices"):
        SpeechSynthesiser("flite", voice="slt")


@pytest.mark.parametrize("name", speech_synthesis.PROGRAMS)
def test_the_real_program_speaks(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    voices = SpeechSynthesiser(name).voices()
    short, long = (SpeechSynthesiser(name).speak(text) for text in ("blue", "It is the blue square on the left; $(x) -v"))
    assert 0.2 < short.sound.seconds < long.sound.seconds < 10
    for spoken in (short, long):
        header = soundfile.info(io.BytesIO(spoken.wav))
        assert header.samplerate == spoken.sound.rate >= 8000
        assert len(spoken.sound.signal) == header.frames
        assert np.sqrt(np.mean(np.square(spoken.sound.signal))) > 0.01
    other = SpeechSynthesiser(name, voice=voices[-1]).speak("blue").sound
    assert not np.array_equal(other.signal, short.sound.signal)
    with pytest.raises(ConfigError, match="has no voice 'nobody'"):
        SpeechSynthesiser(name, voice="nobody")


def _noted(path: Path, kind: type[SpeechSynthesiser], *, language: str, voice: str) -> str:
    notes = install(path, "espeak-ng")
    kind(language=language, voice=voice).speak("ja")
    return notes.read_text(encoding="utf-8")


def test_failures_are_bounded_and_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(path, "flite", code="import sys; sys.exit('no such voice: slt')")
    with pytest.raises(DataError, match="flite failed: no such voice: slt"):
        SpeechSynthesiser().speak("hello")
    install(path, "flite", code="")
    with pytest.raises(DataError, match="wrote no recording"):
        SpeechSynthesiser().speak("hello")
    install(path, "flite", code="import sys; open(sys.argv[-1], 'wb').write(b'RIFFnonsense')")
    with pytest.raises(CellError, match="speech of flite"):
        SpeechSynthesiser().speak("hello")
    install(path, "flite", code="import time; time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(DataError, match=r"longer than 0\.3 seconds"):
        SpeechSynthesiser(seconds=0.3).speak("hello")
    assert time.monotonic() - start < 10
    monkeypatch.setattr(speech_synthesis, "BYTES", 1 << 20)
    install(
        path,
        "flite",
        code="import sys, time\nf = open(sys.argv[-1], 'wb')\nf.write(bytes(1 << 21)); f.flush(); time.sleep(60)",
    )
    with pytest.raises(DataError, match="more than 1 MiB"):
        SpeechSynthesiser().speak("hello")
    with pytest.raises(DataError, match="no text"):
        SpeechSynthesiser().speak(" \n")
    with pytest.raises(DataError, match="too long"):
        SpeechSynthesiser().speak("a" * 10_001)
