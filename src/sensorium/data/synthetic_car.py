"""Simulated drives: a spoken command, the camera and the state of the car, and what the assistant does and answers.

command   the sound of a command of one or two words, 8 kHz, each word two tones: "go", "warmer", "cooler", "fuel enough"
camera    a picture of the road with a red or a green light
inside    the temperature inside, in degrees
fuel      the fuel in the tank, in per cent
question  the same in each row: "what now?"
spoken    the words of the command, for a recogniser
action    drive, wait, heat, cool, refuel or keep (nothing changes)
answer    the answer in words: "wait for green"
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from sensorium.data.synthetic_speech import RATE, speech
from sensorium.data.synthetic_tables import check, write

_PITCHES = (450, 800, 1400, 2400)
WORDS = (
    *("go", "warmer", "cooler", "fuel", "enough", "wait", "for", "green"),
    *("driving", "heating", "cooling", "on", "warm", "cold", "already", "low"),
)
"""The words of commands and answers."""
TONES = {word: (_PITCHES[i % 4], _PITCHES[i // 4]) for i, word in enumerate(WORDS)}
"""The two frequencies of each word in Hz."""
COMMANDS = ("go", "warmer", "cooler", "fuel enough")
QUESTION = "what now?"
COMFORT, RESERVE = 21.0, 20.0
"""Degrees from which it is warm inside, and per cent of fuel below which the tank is low."""
LIGHTS = {"red": (220, 40, 40), "green": (40, 190, 70)}
READS = (*WORDS, "red", "light", *["what", "now", "?", "."])
"""Vocabulary of a language model for this data."""


def reply(command: str, light: str, warm: bool, low: bool) -> tuple[str, str]:
    """Return the action and the answer to ``command``, given the traffic ``light``, whether it is ``warm`` inside and
    whether the tank is ``low``."""
    if command == "go":
        return ("wait", "wait for green") if light == "red" else ("drive", "driving on")
    if command == "warmer":
        return ("keep", "warm already") if warm else ("heat", "heating on")
    if command == "cooler":
        return ("cool", "cooling on") if warm else ("keep", "cold already")
    return ("refuel", "fuel low") if low else ("keep", "fuel enough")


def text(draw: random.Random) -> tuple[str, str]:
    """Return a text to train a language model on, with words in place of media, and its answer, drawn with ``draw``."""
    command, light = draw.choice(COMMANDS), draw.choice(sorted(LIGHTS))
    warm, low = draw.random() < 0.5, draw.random() < 0.5
    shown = [light] * draw.randint(2, 6) + [command] * draw.randint(2, 6)
    shown += ["warm" if warm else "cold", "low" if low else "on"] * draw.randint(1, 3)
    draw.shuffle(shown)
    return f"{' '.join(shown)}\n{QUESTION}", reply(command, light, warm, low)[1]


def make(folder: Path | str, rows: int = 300, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of media; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of moments.
        seed: Random seed.
        holes: The share of cells of the inputs that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("drives", rows, holes, test)
    import soundfile
    from PIL import Image

    folder = Path(folder)
    for name in ("command", "camera"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        command, light = COMMANDS[int(rng.integers(len(COMMANDS)))], sorted(LIGHTS)[int(rng.integers(2))]
        inside, fuel = rng.uniform(12, 30), rng.uniform(2, 40)
        sound, _ = speech(command.split(), rng, tones=TONES)
        soundfile.write(folder / "command" / f"{i:04d}.wav", sound, RATE)
        picture = rng.normal(110, 15, (24, 24, 3))
        y, x = int(rng.integers(2, 14)), int(rng.integers(2, 14))
        picture[y : y + 8, x : x + 8] = LIGHTS[light]
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / "camera" / f"{i:04d}.png")
        action, answer = reply(command, light, inside >= COMFORT, fuel < RESERVE)
        written.append(
            {
                "command": f"command/{i:04d}.wav",
                "camera": f"camera/{i:04d}.png",
                "inside": f"{inside:.1f}",
                "fuel": f"{fuel:.0f}",
                "question": QUESTION,
                "spoken": command,
                "action": action,
                "answer": answer,
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("question", "spoken", "action", "answer"), seed=seed)


def sentences(folder: Path | str, rows: int = 160, seed: int = 0) -> Path:
    """Write sounds of one to three words of the car and ``sentences.csv``, for a recogniser: clip, transcript.

    Args:
        folder: Where to write; created if missing.
        rows: The number of sentences.
        seed: Random seed.

    Returns:
        The path of the table.
    """
    import soundfile

    folder = Path(folder)
    (folder / "clip").mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        words = [str(word) for word in rng.choice(WORDS, int(rng.integers(1, 4)))]
        soundfile.write(folder / "clip" / f"{i:04d}.wav", speech(words, rng, tones=TONES)[0], RATE)
        written.append({"clip": f"clip/{i:04d}.wav", "transcript": " ".join(words)})
    path = write(folder, written, test=0)["train"]
    return path.rename(folder / "sentences.csv")
