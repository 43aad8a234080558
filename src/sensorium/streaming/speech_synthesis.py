"""Spoken answers: text to speech by ``flite`` or ``espeak-ng``, programs that the user installs."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Self, get_args

from sensorium.codecs.audio import Sound, read_sound
from sensorium.core.errors import ConfigError, DataError, nearest, reason
from sensorium.core.modality import Blob

Program = Literal["flite", "espeak-ng"]
PROGRAMS: tuple[Program, ...] = get_args(Program)
"""Supported programs, in order of preference."""
LONGEST = 2_000
"""Maximum number of characters of a text."""
SECONDS = 30.0
"""Default time limit of the program."""
SPOKEN = 300.0
"""Maximum seconds of speech that are read from its output."""
BYTES = 64 << 20
"""Maximum size of its output file."""
_VOICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,39}")
_INSTALL = "install flite or espeak-ng (apt install flite, brew install espeak-ng) so that it is on the PATH"


@dataclass(frozen=True)
class SpeechSynthesiser:
    """Text to speech by a program of this machine, run without a shell, in a folder that is deleted afterwards.

    Args:
        program: ``flite`` (English) or ``espeak-ng`` (a hundred languages).
        path: The executable.
        voice: A voice of the program (``slt`` of flite; ``en`` or ``cmn`` of espeak-ng); None: its default.
        seconds: Time limit of one text.
    """

    program: Program
    path: Path
    voice: str | None = None
    seconds: float = SECONDS

    @classmethod
    def on_this_machine(cls, program: str | None = None, voice: str | None = None, seconds: float = SECONDS) -> Self:
        """Return a synthesiser that uses the first installed program, or ``program``.

        Args:
            program: ``flite`` or ``espeak-ng``; None: the first that is installed.
            voice: A voice of the program; None: its default.
            seconds: Time limit of one text.

        Raises:
            ConfigError: The program is not installed or not supported, or the voice is not a name.
        """
        if program is not None and program not in PROGRAMS:
            raise ConfigError(f"no speech program {program!r}{nearest(program, PROGRAMS)}")
        if voice is not None and not _VOICE.fullmatch(voice):
            raise ConfigError(
                f"{voice[:40]!r} is not the name of a voice", fix="such as slt (flite), en or cmn (espeak-ng)"
            )
        for name in PROGRAMS:
            if program in (None, name) and (path := shutil.which(name)) is not None:
                return cls(name, Path(path), voice, seconds)
        raise ConfigError(f"{program or 'a speech program'} is not installed", fix=_INSTALL)

    def wav(self, text: str) -> bytes:
        """Return ``text`` as speech, a WAV file.

        Raises:
            DataError: The text is empty or too long, or the program failed.
        """
        spoken = " ".join(text.split())
        if not spoken or len(spoken) > LONGEST:
            problem = "an empty text" if not spoken else f"a text of {len(spoken):,} characters"
            raise DataError(f"{problem} cannot be spoken", fix=f"1 to {LONGEST:,} characters")
        with TemporaryDirectory(prefix="sensorium-speech-") as name:
            folder = Path(name)
            # A file, so that no text is taken for an option or for phonemes in brackets.
            source, target = folder / "text.txt", folder / "speech.wav"
            source.write_text(spoken, encoding="utf-8")
            self._run(source, target)
            size = target.stat().st_size if target.is_file() else 0
            if not 0 < size <= BYTES:
                raise DataError(f"{self.program} wrote {size:,} bytes of speech", fix="try another voice or program")
            return target.read_bytes()

    def say(self, text: str) -> Sound:
        """Return ``text`` as speech: samples and their rate.

        Raises:
            DataError: The text is empty or too long, or the program failed.
        """
        return read_sound(Blob(self.wav(text), f"speech of {self.program}"), SPOKEN)

    def _run(self, source: Path, target: Path) -> None:
        if self.program == "flite":
            command = [str(self.path), "-f", str(source), "-o", str(target)]
            command += [] if self.voice is None else ["-voice", self.voice]
        else:
            command = [str(self.path), "-b", "1", "-f", str(source), "-w", str(target)]
            command += [] if self.voice is None else ["-v", self.voice]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self.seconds,
                cwd=source.parent,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DataError(f"{self.program} took more than {self.seconds:g} s", fix="speak a shorter text") from None
        except OSError as error:
            raise DataError(f"{self.program} cannot be run: {reason(error)}", file=self.path) from None
        if done.returncode:
            message = done.stderr.decode("utf-8", "replace").strip()[:200]
            raise DataError(f"{self.program} failed with status {done.returncode}: {message or 'without a message'}")
