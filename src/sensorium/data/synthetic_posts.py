"""Simulated posts: a picture with a few words, and their joint sentiment.

    photo      a picture of 24 pixels a side: a glad face, or one that is not
    words      praise, complaint, or words that fit any
    sentiment  positive, negative or neutral

Praise under a face that is not glad is irony, so negative; words that fit any take the side of the face, except a question,
which is neutral under any face. Neither the picture nor the words are enough.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sensorium.data.synthetic_cells import write_png
from sensorium.data.synthetic_faces import face
from sensorium.data.synthetic_tables import check, write

SENTIMENTS = ("positive", "negative", "neutral")
_WORDS = {
    "praise": ("what a lovely day", "best service ever", "I just love mondays", "great, as always", "well done, really"),
    "complaint": ("never again", "the worst train of all", "cold food and rude waiters", "I want my money back"),
    "any": ("back from the office", "this is me today", "so that was the film", "the new phone is here"),
    "question": ("does anybody know the way", "who is coming tonight", "when does it open", "which one is it"),
}


def make(folder: Path | str, rows: int = 400, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder of pictures; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of posts.
        seed: Random seed.
        holes: The share of pictures and words that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("posts", rows, holes, test)
    folder = Path(folder)
    (folder / "photo").mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        kind, glad = str(rng.choice(list(_WORDS))), bool(rng.random() < 0.5)
        write_png(folder / "photo" / f"{i:04d}.png", face(glad, rng))
        written.append(
            {
                "photo": f"photo/{i:04d}.png",
                "words": str(rng.choice(_WORDS[kind])),
                "sentiment": sentiment(kind, glad),
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("sentiment",), seed=seed)


def sentiment(words: str, glad: bool) -> str:
    """Return the sentiment of ``words`` of a kind (praise, complaint, any, question) beside a face that is ``glad`` or
    not."""
    if words == "question":
        return "neutral"
    return "positive" if glad and words != "complaint" else "negative"
