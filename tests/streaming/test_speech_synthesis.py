"""Speech programs: what they are given, what they may do, and what is said where there is none.

A stand-in executable on the PATH writes as many samples as the text has letters, so nothing has to be installed.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import ConfigError, DataError
from sensorium.streaming import speech_synthesis
from sensorium.streaming.speech_synthesis import SpeechSynthesiser

Install = Callable[[str], Path]

_SPEAKER = """#!{python}
import pathlib, sys, time, wave
arguments = sys.argv[1:]
text = pathlib.Path(arguments[arguments.index("-f") + 1]).read_text(encoding="utf-8")
pathlib.Path({log!r}).write_text(repr(arguments), encoding="utf-8")
if "slow" in text:
    time.sleep(30)
if "silent" in text:
    sys.exit(0)
if "fail" in text:
    sys.exit("no such voice")
target = arguments[arguments.index("-o" if "-o" in arguments else "-w") + 1]
with wave.open(target, "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
    file.writeframes(bytes(2 * 1000 * len(text)))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a stand-in of a speech program on the PATH, and nothing else."""
    folder = tmp_path / "bin with blanks"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str) -> Path:
        log = tmp_path / f"{name}.log"
        program = folder / name
        program.write_text(_SPEAKER.format(python=sys.executable, log=str(log)), encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return log

    return put


@pytest.mark.parametrize(("name", "option"), [("flite", "-voice"), ("espeak-ng", "-v")])
def test_a_text_becomes_speech(install: Install, name: str, option: str) -> None:
    log = install(name)
    sound = SpeechSynthesiser.on_this_machine(voice="slt").say("  Guten\n Tag, 你好 ")
    assert (sound.rate, len(sound.signal)) == (8000, 1000 * len("Guten Tag, 你好"))
    assert sound.signal.dtype == np.float32
    assert f"'{option}', 'slt'" in log.read_text(encoding="utf-8")
    assert SpeechSynthesiser.on_this_machine(name).wav("hi")[:4] == b"RIFF"


def test_a_text_is_never_an_option(install: Install) -> None:
    log = install("flite")
    SpeechSynthesiser.on_this_machine().wav("-o /etc/passwd; $(reboot)")
    arguments = log.read_text(encoding="utf-8")
    assert "passwd" not in arguments
    assert "reboot" not in arguments


def test_the_preferred_program_is_used(install: Install) -> None:
    install("espeak-ng")
    assert SpeechSynthesiser.on_this_machine().program == "espeak-ng"
    install("flite")
    assert SpeechSynthesiser.on_this_machine().program == "flite"
    assert SpeechSynthesiser.on_this_machine("espeak-ng").program == "espeak-ng"


def test_without_a_program_it_says_what_to_install(install: Install) -> None:
    with pytest.raises(ConfigError, match=r"a speech program is not installed\n.*apt install flite"):
        SpeechSynthesiser.on_this_machine()
    install("flite")
    with pytest.raises(ConfigError, match="espeak-ng is not installed"):
        SpeechSynthesiser.on_this_machine("espeak-ng")
    with pytest.raises(ConfigError, match="did you mean flite"):
        SpeechSynthesiser.on_this_machine("flit")
    with pytest.raises(ConfigError, match="not the name of a voice"):
        SpeechSynthesiser.on_this_machine(voice="../slt")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (" \n", "an empty text"),
        ("a" * 2_001, "2,001 characters"),
        ("fail", "status 1: no such voice"),
        ("silent", "wrote 0 bytes"),
        ("slow", "took more than 0.3 s"),
    ],
)
def test_what_goes_wrong_is_named(install: Install, text: str, problem: str) -> None:
    install("flite")
    with pytest.raises(DataError, match=problem):
        SpeechSynthesiser.on_this_machine(seconds=0.3 if text == "slow" else 30).wav(text)


def test_output_is_bounded(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("flite")
    monkeypatch.setattr(speech_synthesis, "BYTES", 100)
    with pytest.raises(DataError, match="bytes of speech"):
        SpeechSynthesiser.on_this_machine().wav("long")
