"""A simulated speaker: words are sequences of phones, each with a sound and with a shape of the mouth.

Phones are named as in ARPAbet. What they sound like is roughly as in English: vowels and nasals are harmonics of a pitch
under two formants, fricatives and bursts are bands of noise, and formants glide from one phone to the next. What the
mouth looks like is coarser: p, b and m are one shape (a *viseme*), and so are f and v, or all the consonants that the
tongue forms behind the teeth. In noise it is the other way round for some: m and n differ little in sound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_cells import RATE, Samples

FRAMES_PER_SECOND = 25
SIDE = 16
Times = list[tuple[float, float, str]]
"""Start and end in seconds, and name, of each phone."""


class Phone(NamedTuple):
    """How a phone sounds and looks.

    Args:
        formants: Frequencies of the two resonances in Hz.
        voiced: Level of the voice.
        noisy: Level of the noise.
        band: Middle of the band of the noise in Hz.
        mouth: Name of the shape of the mouth.
        milliseconds: Duration.
        burst: Whether it is silent, or nearly so, before a burst.
    """

    formants: tuple[int, int]
    voiced: float
    noisy: float
    band: int
    mouth: str
    milliseconds: int
    burst: bool = False


MOUTHS = {
    "closed": (0.5, 0.02, 9.0),
    "lip and teeth": (0.55, 0.1, 6.0),
    "rounded": (0.22, 0.25, 3.0),
    "small": (0.3, 0.14, 3.0),
    "open": (0.6, 0.5, 2.0),
    "half open": (0.55, 0.34, 2.0),
    "spread": (0.78, 0.15, 2.0),
    "tongue": (0.5, 0.2, 0.5),
    "between teeth": (0.55, 0.16, 2.0),
    "rest": (0.45, 0.0, 1.0),
}
"""By name half the width and height of the mouth, as shares of the picture, and how little its neighbours change it."""


def _vowel(first: int, second: int, mouth: str) -> Phone:
    return Phone((first, second), 1.0, 0.0, 0, mouth, 95)


def _stop(voiced: float, second: int, band: int, mouth: str) -> Phone:
    return Phone((300, second), voiced, 0.35, band, mouth, 75, burst=True)


def _fricative(voiced: float, noisy: float, band: int, mouth: str) -> Phone:
    return Phone((300, 1500), voiced, noisy, band, mouth, 80)


PHONES = {
    "IY": _vowel(280, 2250, "spread"),
    "IH": _vowel(400, 1950, "spread"),
    "EH": _vowel(550, 1800, "half open"),
    "AE": _vowel(680, 1700, "open"),
    "AA": _vowel(740, 1100, "open"),
    "AO": _vowel(570, 850, "rounded"),
    "UH": _vowel(440, 1050, "rounded"),
    "UW": _vowel(310, 900, "small"),
    "AH": _vowel(620, 1200, "half open"),
    "M": Phone((260, 950), 0.5, 0.0, 0, "closed", 70),
    "N": Phone((260, 1500), 0.5, 0.0, 0, "tongue", 70),
    "NG": Phone((260, 2000), 0.5, 0.0, 0, "tongue", 80),
    "L": Phone((380, 1150), 0.6, 0.0, 0, "tongue", 65),
    "R": Phone((340, 1350), 0.6, 0.0, 0, "small", 65),
    "W": Phone((300, 700), 0.6, 0.0, 0, "small", 65),
    "Y": Phone((280, 2200), 0.6, 0.0, 0, "spread", 55),
    "P": _stop(0.0, 900, 800, "closed"),
    "B": _stop(0.3, 900, 800, "closed"),
    "T": _stop(0.0, 1700, 3200, "tongue"),
    "D": _stop(0.3, 1700, 3200, "tongue"),
    "K": _stop(0.0, 2000, 1900, "tongue"),
    "G": _stop(0.3, 2000, 1900, "tongue"),
    "F": _fricative(0.0, 0.15, 1500, "lip and teeth"),
    "V": _fricative(0.35, 0.1, 1500, "lip and teeth"),
    "TH": _fricative(0.0, 0.12, 2100, "between teeth"),
    "DH": _fricative(0.4, 0.06, 2100, "between teeth"),
    "HH": Phone((500, 1500), 0.0, 0.12, 1500, "half open", 55),
    "S": _fricative(0.0, 0.4, 3500, "tongue"),
    "Z": _fricative(0.35, 0.25, 3500, "tongue"),
    "SH": _fricative(0.0, 0.4, 2400, "small"),
    "CH": Phone((300, 1800), 0.0, 0.45, 2400, "small", 90, burst=True),
    "JH": Phone((300, 1800), 0.3, 0.35, 2400, "small", 90, burst=True),
}

PRONUNCIATIONS = {
    "are": "AA R",
    "at": "AE T",
    "bat": "B AE T",
    "blue": "B L UW",
    "by": "B AA IH",
    "colour": "K AH L AH",
    "disc": "D IH S K",
    "does": "D AH Z",
    "fan": "F AE N",
    "green": "G R IY N",
    "how": "HH AA UH",
    "in": "IH N",
    "is": "IH Z",
    "it": "IH T",
    "lay": "L EH IH",
    "man": "M AE N",
    "many": "M EH N IY",
    "mat": "M AE T",
    "move": "M UW V",
    "on": "AA N",
    "one": "W AH N",
    "pink": "P IH NG K",
    "put": "P UH T",
    "red": "R EH D",
    "set": "S EH T",
    "shape": "SH EH IH P",
    "square": "S K W EH",
    "the": "DH AH",
    "there": "DH EH",
    "things": "TH IH NG Z",
    "triangle": "T R AA IH AE NG G L",
    "van": "V AE N",
    "way": "W EH IH",
    "what": "W AO T",
    "which": "W IH CH",
    "yellow": "Y EH L AO UH",
}
"""The words that the speaker knows, as phones; diphthongs are two vowels."""
_PITCHES = (95.0, 210.0)
_BANDWIDTHS = (90.0, 140.0)
_BURST = 0.6  # share of a stop before its burst
_REACH = 0.045  # seconds over which the mouth of a phone is felt


def pronounced(text: str) -> list[list[str]]:
    """Return the phones of each word of ``text``; marks other than letters separate words.

    Raises:
        ConfigError: The speaker does not know a word.
    """
    words = "".join(letter if letter.isalpha() else " " for letter in text.lower()).split()
    if unknown := [word for word in words if word not in PRONUNCIATIONS]:
        raise ConfigError(f"simulated voice: no pronunciation of {unknown[0]!r}", fix="add it to PRONUNCIATIONS")
    return [PRONUNCIATIONS[word].split() for word in words]


def spoken(text: str, rng: np.random.Generator, noise: float = 0.0) -> tuple[Samples, Times]:
    """Return the sound of ``text`` ``[T]`` and the start, end and name of each phone.

    Args:
        text: Words that the speaker knows.
        rng: Source of the voice, the pace and the noise.
        noise: Deviation of white noise; 1 is about the level of the voice.
    """
    pace, at, times = rng.uniform(0.85, 1.15), rng.uniform(0.03, 0.08), []
    for word in pronounced(text):
        for name in word:
            seconds = PHONES[name].milliseconds / 1000 * pace * rng.uniform(0.9, 1.1)
            times.append((round(at, 4), round(at + seconds, 4), name))
            at += seconds
        at += rng.uniform(0.02, 0.05)
    sound = _sound(times, int((at + rng.uniform(0.02, 0.06)) * RATE), rng)
    noisy: Samples = np.clip(sound + rng.normal(0, 0.003 + 0.1 * noise, len(sound)), -1, 1)
    return noisy, times


def _sound(times: Times, count: int, rng: np.random.Generator) -> Samples:
    """The sound ``[count]`` of phones at ``times``, by a voice drawn with ``rng``."""
    pitch, tract = rng.uniform(*_PITCHES), rng.uniform(0.92, 1.08)
    now = np.arange(count) / RATE
    voice, hiss, band = np.zeros(count), np.zeros(count), np.zeros(count)
    for start, end, name in times:
        phone = PHONES[name]
        inside = (now >= start) & (now < end)
        late = now >= start + _BURST * (end - start) if phone.burst else inside
        voice[inside] = phone.voiced
        hiss[inside & late] = phone.noisy
        band[inside] = phone.band
    smooth = np.hanning(int(0.012 * RATE) + 2)
    voice, hiss = (np.convolve(level, smooth / smooth.sum(), mode="same") for level in (voice, hiss))
    middle = [(start + end) / 2 for start, end, _ in times]
    low, high = (tract * np.interp(now, middle, [PHONES[name].formants[i] for *_, name in times]) for i in range(2))
    falling = pitch * (1.08 - 0.16 * now / max(now[-1], 1e-9))
    phase = 2 * np.pi * np.cumsum(falling) / RATE + rng.uniform(0, 6.28)
    waves = np.zeros(count)
    for number in range(1, int(RATE / 2 / (1.1 * pitch))):
        frequency = number * falling
        # Two resonances, the second weaker, over a source that falls off.
        peaks = 1 / (1 + ((frequency - low) / _BANDWIDTHS[0]) ** 2) + 0.5 / (1 + ((frequency - high) / _BANDWIDTHS[1]) ** 2)
        waves += (peaks + 0.01) * np.sin(number * phase)
    narrow = np.convolve(rng.normal(0, 1, count), np.hanning(11) / 2.5, mode="same")
    rustle = narrow * np.cos(2 * np.pi * np.cumsum(np.maximum(band, 100)) / RATE)
    sound: Samples = rng.uniform(0.16, 0.24) * voice * waves + 0.4 * hiss * rustle
    return sound


def lips(times: Times, seconds: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a film of the mouth ``[frames, 16, 16]``.

    The shape of a moment is the mean of those of the phones around it, weighted by their closeness in time and by how
    firm they are: lips always close for an m, but a t looks like the vowel beside it (coarticulation).

    Args:
        times: The start, end and name of each phone, as of ``spoken``.
        seconds: Length of the film.
        rng: Source of the light, the place and the noise.
    """
    now = (np.arange(max(int(seconds * FRAMES_PER_SECOND), 1)) + 0.5) / FRAMES_PER_SECOND
    middle = np.array([0.0, *[(start + end) / 2 for start, end, _ in times], seconds])
    shapes = np.array([MOUTHS[name] for name in ("rest", *[PHONES[phone].mouth for *_, phone in times], "rest")])
    weights = shapes[:, 2] * np.exp(-np.abs(now[:, None] - middle) / _REACH)
    wide, high = (weights @ shapes[:, i] / weights.sum(axis=1) for i in range(2))
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE * 2 - 1
    x, y = x - rng.uniform(-0.1, 0.1), y - rng.uniform(-0.1, 0.1)
    size = rng.uniform(0.9, 1.1)
    distance = np.hypot(x / (size * wide[:, None, None]), y / (size * high[:, None, None] + 0.12))
    inside = np.hypot(x / (size * wide[:, None, None]), y / (size * high[:, None, None] + 0.01)) < 1
    film = np.where(distance < 1, rng.uniform(150, 180), rng.uniform(200, 225))
    film = np.where(inside, rng.uniform(20, 50), film)
    noisy: NDArray[np.uint8] = np.clip(film + rng.normal(0, 6, film.shape), 0, 255).astype(np.uint8)
    return noisy
