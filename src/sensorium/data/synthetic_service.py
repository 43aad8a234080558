"""Simulated complaints to a customer service: words, a picture of the broken thing and the tone of voice.

message   what the customer writes: "my kettle is leaking", without a hint at the colour of the lamp
picture   the thing with its lamp, red or blue, which decides what is wrong with it
voice     the sound of the customer, 8 kHz: calm is low and even, angry is loud and high
question  the question to the assistant, with the section of the manual that a search finds
intent    repair, return or question
feeling   calm or angry
answer    the advice of the manual, after an apology where the customer is angry: "sorry . replace the seal"

The manual (``manual``) has a section for each thing and problem; ``ask`` writes the question with a section in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sensorium.data.synthetic_tables import check, write

RATE = 8000
THINGS = ("kettle", "toaster", "lamp")
INTENTS = {
    "repair": ("my {t} is broken , please repair it", "the {t} stopped working , can you fix it ?", "{t} is dead , fix it"),
    "return": ("i want to return the {t}", "send me my money back for this {t}", "please take the {t} back"),
    "question": ("how do i clean the {t} ?", "what is the way to clean my {t} ?", "cleaning the {t} , how ?"),
}
LIGHTS = {"red": (220, 40, 40), "blue": (50, 70, 220)}
ADVICE = {
    ("kettle", "repair", "red"): "replace the seal",
    ("kettle", "repair", "blue"): "remove the lime",
    ("toaster", "repair", "red"): "empty the tray",
    ("toaster", "repair", "blue"): "press the button",
    ("lamp", "repair", "red"): "change the bulb",
    ("lamp", "repair", "blue"): "check the plug",
}
GENERAL = {"return": "use the printed label", "question": "wipe with water"}
"""Advice that does not depend on the lamp."""
WORDS = tuple(
    sorted(
        {
            *(word for text in (*ADVICE.values(), *GENERAL.values()) for word in text.split()),
            *(word for texts in INTENTS.values() for text in texts for word in text.format(t="it").split()),
            *(*THINGS, *LIGHTS, "calm", "angry", "sorry", ".", ":", "manual", "if", "what", "now", "?", "customer"),
        }
    )
)
"""Vocabulary of a language model for this data."""

SPOKEN = tuple(sorted({"sorry", *(word for text in (*ADVICE.values(), *GENERAL.values()) for word in text.split())}))
"""The words of answers."""
_PITCHES = (400, 700, 1100, 1600, 2200)
TONES = {word: (_PITCHES[i % 5], _PITCHES[i // 5]) for i, word in enumerate(SPOKEN)}
"""Two frequencies of each word in Hz, for a stand-in that speaks."""


def manual() -> list[dict[str, str]]:
    """Return the sections of the manual, each with the words by which it is found and its advice by the lamp's light."""
    sections = []
    for thing in THINGS:
        for intent in INTENTS:
            general = GENERAL.get(intent)
            red, blue = (general or ADVICE[thing, "repair", light] for light in ("red", "blue"))
            sections.append({"section": f"{intent} {thing}", "advice": f"red : {red} . blue : {blue}"})
    return sections


def ask(advice: str) -> str:
    """Return the question to the assistant, with the ``advice`` of a section of the manual."""
    return f"manual : {advice}\nwhat now ?"


def answer(advice: str, light: str, feeling: str) -> str:
    """Return the answer of a good assistant: what ``advice`` says for this ``light``; with an apology where the ``feeling``
    is angry."""
    text = dict(part.split(" : ") for part in advice.split(" . "))[light]
    return f"sorry . {text}" if feeling == "angry" else text


def text(draw: random.Random) -> tuple[str, str]:
    """Return a text to train a language model on, with words in place of media, and its answer, drawn with ``draw``."""
    advice, light, feeling = draw.choice(manual())["advice"], draw.choice(sorted(LIGHTS)), draw.choice(("calm", "angry"))
    shown = [light] * draw.randint(2, 6) + [feeling] * draw.randint(2, 6)
    draw.shuffle(shown)
    return f"{' '.join(shown)}\n{ask(advice)}", answer(advice, light, feeling)


def make(folder: Path | str, rows: int = 300, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of media; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of complaints.
        seed: Random seed.
        holes: The share of cells of the inputs that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("complaints", rows, holes, test)
    import soundfile
    from PIL import Image

    folder = Path(folder)
    for name in ("picture", "voice"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sections = {row["section"]: row["advice"] for row in manual()}
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        thing, light = THINGS[int(rng.integers(3))], sorted(LIGHTS)[int(rng.integers(2))]
        intent, feeling = list(INTENTS)[int(rng.integers(3))], ("calm", "angry")[int(rng.integers(2))]
        message = INTENTS[intent][int(rng.integers(3))].format(t=thing)
        picture = rng.normal(120, 15, (24, 24, 3))
        y, x = int(rng.integers(1, 15)), int(rng.integers(1, 15))
        picture[y : y + 8, x : x + 8] = LIGHTS[light]
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / "picture" / f"{i:04d}.png")
        soundfile.write(folder / "voice" / f"{i:04d}.wav", voice(feeling, rng), RATE)
        section = f"{intent} {thing}"
        written.append(
            {
                "message": message,
                "picture": f"picture/{i:04d}.png",
                "voice": f"voice/{i:04d}.wav",
                "question": ask(sections[section]),
                "section": section,
                "intent": intent,
                "feeling": feeling,
                "answer": answer(sections[section], light, feeling),
            }
        )
    keep = ("question", "section", "intent", "feeling", "answer")
    return write(folder, written, test=test, holes=holes, keep=keep, seed=seed)


def sentences(folder: Path | str, speak: Callable[[str], bytes], rows: int = 160, seed: int = 0) -> Path:
    """Write recordings of random words of answers and ``sentences.csv``, for a recogniser: clip, transcript.

    Args:
        folder: Where to write; created if missing.
        speak: Returns a text as the bytes of a WAV file.
        rows: The number of sentences.
        seed: Random seed.

    Returns:
        The path of the table.
    """
    folder = Path(folder)
    (folder / "clip").mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        words = " ".join(str(word) for word in rng.choice(SPOKEN, int(rng.integers(1, 6))))
        (folder / "clip" / f"{i:04d}.wav").write_bytes(speak(words))
        written.append({"clip": f"clip/{i:04d}.wav", "transcript": words})
    path = write(folder, written, test=0)["train"]
    return path.rename(folder / "sentences.csv")


def voice(feeling: str, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the sound of a customer of this ``feeling`` ``[T]``, drawn with ``rng``: half a second of a gliding tone."""
    time = np.arange(RATE // 2) / RATE
    base, glide, loud = (320.0, 160.0, 0.7) if feeling == "angry" else (150.0, 15.0, 0.25)
    pitch = base * rng.uniform(0.9, 1.1) + glide * np.sin(2 * np.pi * rng.uniform(3, 5) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return loud * rng.uniform(0.8, 1.2) * (np.sin(phase) + 0.4 * np.sin(2 * phase)) / 1.4 + rng.normal(0, 0.01, len(time))
