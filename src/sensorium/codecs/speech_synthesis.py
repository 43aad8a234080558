"""Speech synthesis: text to a WAV recording by ``espeak-ng`` or ``flite``, programs that are not part of this package."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sensorium.codecs.audio import MINUTES, Sound, read_sound
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Blob

PROGRAMS = ("espeak-ng", "flite")
"""Supported programs, in the order of preference."""
CHARACTERS = 10_000
"""Maximum length of a text in characters."""
BYTES = 128 * 2**20
"""Maximum size of a recording in bytes: more than half an hour at 22,050 Hz."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,39}")
_INTERVAL = 0.02  # seconds between checks of the size of the recording


class SpokenText(NamedTuple):
    """A synthesised text.

    Args:
        wav: The bytes of a WAV file.
        sound: The same, decoded to one channel.
    """

    wav: bytes
    sound: Sound


class SpeechSynthesiser:
    """A program that speaks texts. It is started for each text, without a shell, and reads the text from a file.

    Args:
        program: ``espeak-ng`` or ``flite``; None: the first of them on PATH that speaks the language.
        language: A language code as ``espeak-ng --voices`` lists them: ``en``, ``de``, ``pt-br``. ``flite`` speaks English
            only.
        voice: A voice of the program: ``slt`` of flite, ``f3`` of espeak-ng (a variant, added to the language); None: its
            default.
        seconds: Time limit for each text, in seconds.

    Raises:
        ConfigError: No program is installed that speaks the language, or a name is invalid or of no voice.
    """

    def __init__(
        self, program: str | None = None, *, language: str = "en", voice: str | None = None, seconds: float = 30.0
    ) -> None:
        if program is not None and program not in PROGRAMS:
            raise ConfigError(f"{program!r} is not a supported speech synthesiser", fix=f"use {' or '.join(PROGRAMS)}")
        for what, name in (("language", language), ("voice", voice)):
            # A path or an address would make flite open or fetch it.
            if name is not None and not _NAME.fullmatch(name):
                raise ConfigError(f"{what} {name[:40]!r} is not a name", fix="letters, digits, +, - and _: en, pt-br, slt")
        if not seconds > 0:
            raise ConfigError("the time limit of speech synthesis must be above 0 seconds")
        self.language, self.voice, self.seconds = language, voice, seconds
        english = re.split("[-_]", language.lower())[0] == "en"
        candidates = [name for name in PROGRAMS if program in (None, name) and (english or name != "flite")]
        if not candidates:
            raise ConfigError(f"flite speaks English only, not {language!r}", fix="install espeak-ng")
        paths = [(name, path) for name in candidates if (path := shutil.which(name))]
        if not paths:
            raise ConfigError(
                f"spoken answers need {' or '.join(candidates)}, which is not on PATH",
                fix=f"install it: apt-get install {candidates[0]}",
            )
        self.program, self.path = paths[0]
        # Both programs use their default voice, without a word, where they do not know a name.
        if voice is not None and voice not in (voices := self.voices()):
            near = get_close_matches(voice, voices, n=3) or voices[:3]
            raise ConfigError(f"{self.program} has no voice {voice!r}", fix=f"voices: {', '.join(near)}, ...")

    def voices(self) -> list[str]:
        """Return the names that may be given as ``voice``, as the program lists them.

        Raises:
            ConfigError: The program does not list its voices.
        """
        flite = self.program == "flite"
        command = [self.path, "-lv" if flite else "--voices=variant"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.seconds, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(f"{self.program} does not list its voices: {error}") from None
        text = done.stdout.decode(errors="replace")
        names = text.partition(":")[2].split() if flite else re.findall(r"!v/(\S+)", text)
        return [name for name in names if _NAME.fullmatch(name)]

    def speak(self, text: str) -> SpokenText:
        """Return ``text`` as speech.

        Raises:
            DataError: The text is empty or too long, or the program fails, takes too long or writes too much.
        """
        # Some programs read control characters as commands; NUL ends a text.
        plain = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
        if not plain:
            raise DataError("there is no text to speak")
        if len(plain) > CHARACTERS:
            raise DataError(f"a text of {len(plain):,} characters is too long to speak", fix=f"at most {CHARACTERS:,}")
        with TemporaryDirectory(prefix="speech-") as folder:
            source, target = Path(folder) / "text.txt", Path(folder) / "speech.wav"
            source.write_text(plain + "\n", encoding="utf-8")
            self._run(self._command(source, target), target)
            try:
                with target.open("rb") as file:
                    wav = file.read(BYTES + 1)
            except OSError:
                raise DataError(f"{self.program} wrote no recording") from None
        if len(wav) > BYTES:
            raise DataError(f"{self.program} wrote more than {BYTES >> 20} MiB", fix="speak a shorter text")
        sound = read_sound(Blob(wav, f"speech of {self.program}"), MINUTES * 60)
        return SpokenText(wav, sound)

    def _command(self, source: Path, target: Path) -> list[str]:
        if self.program == "flite":
            voice = ["-voice", self.voice] if self.voice else []
            return [self.path, *voice, "-f", str(source), "-o", str(target)]
        name = self.language + (f"+{self.voice}" if self.voice else "")
        return [self.path, "-v", name, "-b", "1", "-f", str(source), "-w", str(target)]

    def _run(self, command: Sequence[str], target: Path) -> None:
        """Run ``command`` until it ends, exceeds its time or writes more than ``BYTES`` to ``target``."""
        with (target.parent / "messages.txt").open("w+b") as messages:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, start_new_session=True
                )
            except OSError as error:
                raise DataError(f"{self.program} cannot be started: {error.strerror}") from None
            end = time.monotonic() + self.seconds
            try:
                while True:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_INTERVAL)
                        break
                    if time.monotonic() > end:
                        raise DataError(
                            f"{self.program} took longer than {self.seconds:g} seconds", fix="speak a shorter text"
                        )
                    for path in (target, Path(messages.name)):
                        if path.exists() and path.stat().st_size > BYTES:
                            raise DataError(f"{self.program} wrote more than {BYTES >> 20} MiB", fix="speak a shorter text")
            finally:
                # The program may have started others: end all of its session, also after success.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.returncode:
                messages.seek(0)
                message = " ".join(messages.read(2000).decode(errors="replace").split())[:200]
                raise DataError(f"{self.program} failed: {message or f'exit status {process.returncode}'}")
