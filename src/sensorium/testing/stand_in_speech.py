"""A stand-in for ``flite`` or ``espeak-ng`` where neither is installed: words of simulated speech, each two tones."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from sensorium.data.synthetic_speech import RATE, TONES

_CODE = """import json, math, pathlib, re, struct, sys, wave
ARGS, RATE, TONES = sys.argv[1:], {rate}, json.loads({tones!r})
if {{"-lv", "--voices=variant"}} & set(ARGS):
    sys.exit(print("Voices available: slt" if "-lv" in ARGS else " 5  variant  --/F  female3  !v/f3"))
text = pathlib.Path(ARGS[ARGS.index("-f") + 1]).read_text(encoding="utf-8")
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps([ARGS, text]), encoding="utf-8")
samples = [0.0] * (RATE // 20)
for word in re.findall(r"[a-z]+", text.lower()):
    for tone in TONES.get(word, ()):
        n = int(0.075 * RATE)
        wave_ = [math.sin(2 * math.pi * tone * i / RATE) for i in range(n)]
        samples += [0.3 * wave_[i] * math.sin(math.pi * (i + 0.5) / n) ** 0.5 for i in range(n)]
    samples += [0.0] * (RATE // 18)
with wave.open(ARGS[ARGS.index("-w" if "-w" in ARGS else "-o") + 1], "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(RATE)
    file.writeframes(struct.pack("<%dh" % len(samples), *(int(32767 * value) for value in samples)))
"""


def install(
    folder: Path, name: str = "flite", tones: Mapping[str, tuple[int, int]] = TONES, *, code: str | None = None
) -> Path:
    """Write a program that stands in for a speech synthesiser; put ``folder`` on PATH to use it.

    Args:
        folder: Where it is written.
        name: ``flite`` or ``espeak-ng``.
        tones: The frequencies of each word in Hz; other words are silent.
        code: Another program in Python.

    Returns:
        The file in which it notes its arguments and its text, as JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / f"{name}.py"
    program.write_text(
        code if code is not None else _CODE.format(rate=RATE, tones=json.dumps(dict(tones))), encoding="utf-8"
    )
    launcher = folder / name
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "{program}" "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    return program.with_suffix(".json")
