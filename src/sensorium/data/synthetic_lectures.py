"""Simulated lectures, cut into short segments: a film, the lecturer's voice, the text of the slide, and a question each.

    video     a film of the slide, with the lecturer before it (GIF): the drawing is that of the subject, its place that of
              the part
    sound     the lecturer, 8 kHz: four words, some of which name the subject and the part; a word is two tones
    slide     the words on the slide
    question  what a student asked about this segment, mostly in other words than those of the slide
    lecture   the lecture, "lecture 007"
    moment    the lecture and the slide that is shown, "lecture 007, slide 2"; two to four segments share it
    start     where the segment begins in the lecture, in seconds
    end       where it ends

Each lecture is about one of twelve subjects and has four parts in an order of its own. Drawing, sound and slide each leave
something out in some segments, so that together they say more than any of them. Of films and sounds only a part is made:
three frames and a second of sound for a segment of about half a minute.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_cells import write_wav
from sensorium.data.synthetic_lips import write_film
from sensorium.data.synthetic_speech import speech
from sensorium.data.synthetic_tables import check, write

SUBJECTS = {
    "photosynthesis": (
        ("photosynthesis", "leaf", "sunlight"),
        ("photosynthesis", "sugar made by plants", "the food of leaves"),
    ),
    "erosion": (("erosion", "river", "soil"), ("erosion", "land washing away", "cliffs wearing down")),
    "inflation": (("inflation", "price", "money"), ("inflation", "everything getting dearer", "price rises")),
    "gravity": (("gravity", "mass", "fall"), ("gravity", "things falling", "the pull of the earth")),
    "magnetism": (("magnetism", "pole", "iron"), ("magnetism", "a compass turning", "iron sticking together")),
    "immunity": (
        ("immunity", "antibody", "virus"),
        ("immunity", "staying well", "the defence against germs"),
    ),
    "evolution": (("evolution", "species", "selection"), ("evolution", "animals changing over ages", "descent of species")),
    "democracy": (("democracy", "vote", "parliament"), ("democracy", "people choosing rulers", "free elections")),
    "friction": (("friction", "surface", "force"), ("friction", "brakes slowing a wheel", "rubbing of surfaces")),
    "perspective": (("perspective", "horizon", "depth"), ("perspective", "far things drawn small", "lines meeting afar")),
    "rhyme": (("rhyme", "verse", "syllable"), ("rhyme", "words sounding alike", "endings of a verse")),
    "probability": (("probability", "dice", "outcome"), ("probability", "the odds of a throw", "the luck of dice")),
}
"""By subject: the words of its slides, the first of them their title, and what questions call it."""
PARTS = {
    "meaning": (("definition", "what it is"), ("what do we mean by {s} ?", "explain {s} to me", "how is {s} defined ?")),
    "cause": (("causes", "why it happens"), ("why is there {s} ?", "what brings about {s} ?", "the reason for {s} ?")),
    "example": (
        ("an example", "a case"),
        ("where do i see {s} ?", "show me an instance of {s}", "{s} , for example ?"),
    ),
    "use": (("applications", "what for"), ("what is {s} good for ?", "who needs {s} ?", "how do we apply {s} ?")),
}
"""By part of a lecture: headings of its slides, and the questions about it."""
_PITCHES = (400, 600, 900, 1300, 1900, 2700)
_SAID = (*SUBJECTS, *PARTS, "so", "well", "now", "here")
TONES = {word: (_PITCHES[i % 6], _PITCHES[i // 6 if i // 6 != i % 6 else 5]) for i, word in enumerate(_SAID)}
"""The two frequencies of each spoken word in Hz; the last four words mean nothing."""
SIDE, FRAMES = 32, 3
SEGMENTS = 10
"""Segments of a lecture."""
SAYS, SHOWS = 0.85, 0.9
"""The chances that the lecturer names the subject or the part within a segment, and that a slide shows its drawing."""


def make(folder: Path | str, rows: int = 600, seed: int = 0, *, holes: float = 0.0, test: float = 0.2) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of films and sounds; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of segments; ten are a lecture, and twelve lectures have a subject each.
        seed: Random seed.
        holes: The share of films, sounds, slides and questions that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("lectures", rows, holes, test)
    folder = Path(folder)
    for name in ("video", "sound"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written: list[dict[str, str]] = []
    for lecture in range(-(-rows // SEGMENTS)):
        rng = np.random.default_rng([seed, lecture])
        subject = list(SUBJECTS)[lecture % len(SUBJECTS)]
        parts = [str(part) for part in rng.permutation(list(PARTS))]
        # Every part has two segments, and two parts, not always others, a third one.
        slides = sorted([*range(len(parts)), *range(len(parts)), *rng.integers(0, len(parts), SEGMENTS - 2 * len(parts))])
        texts = [slide_text(subject, part, rng) for part in parts]
        at = float(rng.uniform(5, 60))  # seconds of greetings
        for slide in map(int, slides):
            i, part, seconds = len(written), parts[slide], float(rng.uniform(20, 40))
            write_film(folder / "video" / f"{i:04d}.gif", film(subject, part, rng))
            write_wav(folder / "sound" / f"{i:04d}.wav", voice(subject, part, rng))
            written.append(
                {
                    "video": f"video/{i:04d}.gif",
                    "sound": f"sound/{i:04d}.wav",
                    "slide": texts[slide],
                    "question": question(subject, part, rng),
                    "lecture": f"lecture {lecture:03d}",
                    "moment": f"lecture {lecture:03d}, slide {slide + 1}",
                    "start": f"{at:.1f}",
                    "end": f"{at + seconds:.1f}",
                }
            )
            at += seconds
    keep = ("lecture", "moment", "start", "end")
    return write(folder, written[:rows], test=test, holes=holes, keep=keep, seed=seed)


def slide_text(subject: str, part: str, rng: np.random.Generator) -> str:
    """Return the words on a slide, drawn with ``rng``: a title or not, a heading or not, and words of the subject.

    Args:
        subject: One of ``SUBJECTS``.
        part: One of ``PARTS``.
        rng: Source of the choice.
    """
    title, *words = SUBJECTS[subject][0]
    shown = [title] * bool(rng.random() < SAYS) + [str(rng.choice(PARTS[part][0]))] * bool(rng.random() < SAYS)
    return ": ".join([*shown, ", ".join(str(word) for word in rng.permutation(words))])


def question(subject: str, part: str, rng: np.random.Generator) -> str:
    """Return a question about a part of a lecture, drawn with ``rng``.

    Args:
        subject: One of ``SUBJECTS``.
        part: One of ``PARTS``.
        rng: Source of the choice.
    """
    return str(rng.choice(PARTS[part][1])).format(s=str(rng.choice(SUBJECTS[subject][1])))


def voice(subject: str, part: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the sound of a segment ``[T]``, drawn with ``rng``: four words in any order.

    Args:
        subject: One of ``SUBJECTS``.
        part: One of ``PARTS``.
        rng: Source of the voice and of the words.
    """
    said = [word for word in (subject, part) if rng.random() < SAYS]
    said += [str(word) for word in rng.choice(_SAID[-4:], 4 - len(said))]
    return speech([str(word) for word in rng.permutation(said)], rng, tones=TONES)[0]


def film(subject: str, part: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a film of a slide ``[3, 32, 32, 3]``, drawn with ``rng``: the lecturer walks before it.

    Args:
        subject: One of ``SUBJECTS``: it gives the drawing its colour and shape.
        part: One of ``PARTS``: it gives the place of drawing and lines.
        rng: Source of the light, the lecturer and the noise.
    """
    number, place = list(SUBJECTS).index(subject), list(PARTS).index(part)
    slide = np.full((SIDE, SIDE, 3), rng.uniform(205, 245))
    drawn = rng.random() < SHOWS
    colour = ((200, 50, 50), (40, 140, 70), (60, 80, 210))[number % 3]
    y, x = np.mgrid[0:11, 0:11] - 5.0
    shape = (np.hypot(x, y) < 5.2, np.abs(x) + np.abs(y) < 5.5, np.maximum(abs(x), abs(y)) > 3, (abs(x) < 2) | (abs(y) < 2))
    top, left = 2 + 14 * (place // 2), 2 + 17 * (place % 2)
    if drawn:
        slide[top : top + 11, left : left + 11][shape[number // 3]] = colour
    for line in range(4):  # lines of writing, beside the drawing
        slide[top + 3 * line, 17 - 15 * (place % 2) : 30 - 15 * (place % 2) - int(rng.integers(0, 5))] = 70
    frames = np.repeat(slide[None], FRAMES, axis=0) + rng.normal(0, 6, (FRAMES, SIDE, SIDE, 3))
    start, step = rng.uniform(2, 26), rng.uniform(-3, 3)
    for i in range(FRAMES):
        at = int(np.clip(start + i * step, 0, SIDE - 4))
        frames[i, 22:, at : at + 4] = (60, 50, 50)
    return np.clip(frames, 0, 255).astype(np.uint8)
