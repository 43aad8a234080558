"""Cells of the synthetic data set: photos, sounds, vibrations, notes and temperatures, each in three states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 48
RATE = 8000
SECONDS = 0.6
STEPS = 96
STEPS_PER_SECOND = 48

Samples = NDArray[np.float64]

_WORDS = {
    "drinks": ("cups", "tea", "glasses", "juice", "sugar", "spoons"),
    "mat": ("mat", "door", "towel", "slippers", "tiles", "coat hook"),
    "air": ("dust", "fresh air", "curtain", "carpet", "shelf", "leaves"),
}
_SENTENCES = (
    "Saw the {a} and the {b} on my way past.",
    "There was something about the {a}, {when}.",
    "{when}: the {a} again, then the {b}.",
    "Remember to look after the {a} and the {b}!",
    "Not sure what it was, but the {a} had been moved.",
    "Somebody asked me about the {b} {when}, and about the {a}.",
)
_WHEN = ("this morning", "after lunch", "a little later", "before dinner", "just now")
_DEGREES = {"cold": 15.0, "mild": 20.0, "warm": 25.0}


def photo(state: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture ``[48, 48, 3]`` of ``state``, drawn with ``rng``: a pale cloud, a striped patch or a dark figure."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    picture = rng.uniform(70, 170, 3) + 20 * (y[..., None] / SIZE - 0.5) * rng.uniform(-1, 1)
    cx, cy = rng.uniform(16, 32, 2)
    if state == "cloud":
        shape = np.zeros((SIZE, SIZE))
        for _ in range(4):
            ox, oy, r = cx + rng.uniform(-7, 7), cy + rng.uniform(-4, 4), rng.uniform(5, 8)
            shape = np.maximum(shape, np.clip(1.5 - np.hypot(x - ox, y - oy) / r, 0, 1))
        picture = picture * (1 - shape[..., None]) + rng.uniform(205, 245) * shape[..., None]
    elif state == "stripes":
        inside = (np.abs(x - cx) < rng.uniform(9, 14)) & (np.abs(y - cy) < rng.uniform(9, 14))
        light = np.floor(x / rng.integers(2, 4)) % 2 == 0
        light_colour, dark_colour = rng.uniform(150, 255, 3), rng.uniform(0, 100, 3)
        picture = np.where(inside[..., None], np.where(light[..., None], light_colour, dark_colour), picture)
    else:
        lean = (y - cy) * rng.uniform(-0.15, 0.15)
        body = (np.abs(x - cx - lean) < rng.uniform(2.5, 4.5)) & (np.abs(y - cy) < rng.uniform(11, 15))
        head = np.hypot(x - cx, y - cy + 13) < rng.uniform(3.5, 5)
        picture = np.where((body | head)[..., None], rng.uniform(10, 50, 3), picture)
    noisy: NDArray[np.uint8] = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
    return noisy


def sound(state: str, rng: np.random.Generator) -> Samples:
    """Return 0.6 s of sound at 8 kHz within ±1 of ``state``, drawn with ``rng``: a ringing tone, a noise or four notes."""
    t = np.arange(round(RATE * SECONDS)) / RATE
    if state == "ring":
        tone = np.sin(2 * np.pi * rng.uniform(1500, 2200) * t + rng.uniform(0, 6.28))
        wave = tone * (np.sin(2 * np.pi * rng.uniform(8, 14) * t) > -0.3)
    elif state == "rush":
        noise = rng.normal(0, 0.5, len(t))
        wave = np.convolve(noise, np.ones(3) / 3, mode="same") * (1 + 0.4 * np.sin(2 * np.pi * rng.uniform(1, 3) * t))
    else:
        notes = rng.choice([262.0, 294.0, 330.0, 392.0, 440.0, 523.0], 4, replace=False) * rng.uniform(0.95, 1.05)
        which = np.minimum((t / SECONDS * 4).astype(int), 3)
        wave = np.sin(2 * np.pi * np.cumsum(notes[which]) / RATE) * np.exp(-6 * (t % (SECONDS / 4)))
    loud = wave / max(float(np.abs(wave).max()), 1e-9) * rng.uniform(0.3, 0.9)
    noisy: Samples = np.clip(loud + rng.normal(0, 0.02, len(t)), -1, 1)
    return noisy


def vibration(state: str, rng: np.random.Generator) -> Samples:
    """Return 2 s of a floor sensor ``[96, 3]`` (g) in ``state``, drawn with ``rng``: a buzz, a slow sway or steps."""
    t = np.arange(STEPS) / STEPS_PER_SECOND
    share = rng.uniform(0.5, 1.0, 3) * rng.choice([-1, 1], 3)
    if state == "buzz":
        wave = np.sin(2 * np.pi * rng.uniform(11, 18) * t + rng.uniform(0, 6.28))
    elif state == "sway":
        wave = np.sin(2 * np.pi * rng.uniform(0.6, 1.6) * t + rng.uniform(0, 6.28))
    else:
        since = (t + rng.uniform(0, 0.5)) % rng.uniform(0.4, 0.6)
        wave = 1.6 * np.exp(-18 * since) * np.cos(2 * np.pi * 9 * since)
    moved: Samples = 0.3 * wave[:, None] * share + rng.normal(0, 0.05, (STEPS, 3)) + np.array([0.0, 0.0, 1.0])
    return moved


def note(state: str, rng: np.random.Generator) -> str:
    """Return a sentence that names one or two things of ``state``, drawn with ``rng``."""
    a, b = rng.choice(_WORDS[state], 2, replace=False)
    text = str(rng.choice(_SENTENCES)).format(a=a, b=b, when=rng.choice(_WHEN))
    return text[0].upper() + text[1:]


def temperature(state: str, rng: np.random.Generator) -> float:
    """Return degrees Celsius of ``state`` with a standard deviation of 1, drawn with ``rng``."""
    return float(rng.normal(_DEGREES[state], 1.0))


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write ``picture`` ``[H, W, 3]`` as a PNG file at ``path``."""
    from PIL import Image

    Image.fromarray(picture).save(path)


def write_wav(path: Path, wave: Samples) -> None:
    """Write ``wave`` as a 16-bit WAV file at 8 kHz at ``path``."""
    import soundfile

    soundfile.write(path, wave, RATE, subtype="PCM_16")


def write_series(path: Path, series: NDArray[Any]) -> None:
    """Write ``series`` ``[steps, 3]`` as a CSV file at ``path``, one row per step."""
    np.savetxt(path, series, fmt="%.4f", delimiter=",", header="x,y,z", comments="")
