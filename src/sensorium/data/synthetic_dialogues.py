"""Simulated dialogues: what is said, in which voice, with which face, and the feeling of each utterance.

    dialogue      which dialogue the utterance belongs to; its six utterances follow each other
    turn          its place in the dialogue
    words         what is said: words of the feeling, or ones that fit any
    voice         0.8 s of sound, 8 kHz: excited (joy, anger) or calm (ease, sorrow)
    face          a picture of 24 pixels a side: glad (joy, ease) or not (anger, sorrow)
    words_before  what was said in the two utterances before
    voice_before  the voice of the utterance before
    face_before   the face of the utterance before
    feeling       joy, ease, anger or sorrow; it often stays what it was

A voice or a face is misleading now and then, so that no stream is enough alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sensorium.data.previous_rows import with_previous
from sensorium.data.synthetic_cells import write_png, write_wav
from sensorium.data.synthetic_faces import face, tone_of_voice
from sensorium.data.synthetic_tables import check, write
from sensorium.data.tables.table import Table

FEELINGS = ("joy", "ease", "anger", "sorrow")
TURNS = 6
"""Utterances of a dialogue."""
STAYS = 0.75
"""Probability that the feeling stays."""
_MISLEADING = 0.15
_VAGUE = 0.5
_WORDS = {
    "joy": ("we won the match", "that is wonderful news", "I love this song", "what a party"),
    "ease": ("the garden is quiet", "take your time", "a cup of tea would be nice", "let us sit down"),
    "anger": ("you broke it again", "this is not fair", "I told you twice", "stop that noise"),
    "sorrow": ("she has left for good", "I miss my old dog", "nothing works out", "it rains on the grave"),
}
_ANY = ("well, here we are", "did you see that", "so that is how it is", "I do not know what to say", "and now this")


def make(folder: Path | str, rows: int = 480, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with a folder for each medium; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of utterances; made a multiple of six.
        seed: Random seed.
        holes: The share of words, voices and faces that are missing.
        test: The share of rows in ``test.csv``, whole dialogues.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("dialogues", rows, holes, test)
    folder = Path(folder)
    for name in ("voice", "face"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    dialogues = max(rows // TURNS, 1)
    written = []
    for i in range(dialogues * TURNS):
        rng = np.random.default_rng([seed, i])
        if i % TURNS == 0 or rng.random() > STAYS:
            feeling = str(rng.choice(FEELINGS))
        excited, glad = feeling in ("joy", "anger"), feeling in ("joy", "ease")
        write_wav(folder / "voice" / f"{i:04d}.wav", tone_of_voice(excited != (rng.random() < _MISLEADING), rng))
        write_png(folder / "face" / f"{i:04d}.png", face(glad != (rng.random() < _MISLEADING), rng))
        written.append(
            {
                "dialogue": f"d{i // TURNS}",
                "turn": str(i % TURNS),
                "words": str(rng.choice(_ANY if rng.random() < _VAGUE else _WORDS[feeling])),
                "voice": f"voice/{i:04d}.wav",
                "face": f"face/{i:04d}.png",
                "feeling": feeling,
            }
        )
    share = round(dialogues * test) / dialogues
    paths = write(folder, written, test=share, holes=holes, keep=("dialogue", "turn", "feeling"), seed=seed)
    for path in paths.values():
        table = with_previous(Table.read(path), "dialogue", texts=["words"], latest=["voice", "face"], order="turn")
        cells = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table.rows()]
        write(folder, cells, test=0.0 if path.stem == "train" else 1.0)
    return paths
