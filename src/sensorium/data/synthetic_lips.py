"""A simulated speaker who gives commands: the sound, the lips, and the words.

Each row is a command of four words, "put red by mat", and these columns:

    voice   the sound, 8 kHz
    lips    a film of the mouth, 25 pictures a second (GIF)
    words   what is said

Both come from the phones of the words (``synthetic_voice.py``), and neither from a person: the sounds are computed and the
mouths are drawn. The last words look alike on the lips in two groups (``ALIKE``), and only the sound tells which was said.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_cells import RATE, write_wav
from sensorium.data.synthetic_tables import check, write
from sensorium.data.synthetic_voice import FRAMES_PER_SECOND, lips, spoken

ALIKE = (("bat", "mat", "man"), ("fan", "van"))
"""Words of which the lips look the same."""
COMMANDS = (
    ("put", "lay", "set"),
    ("red", "blue", "green", "pink"),
    ("at", "by", "in", "on"),
    tuple(word for words in ALIKE for word in words),
)
"""The words of each place in a command."""


def make(
    folder: Path | str,
    rows: int = 300,
    seed: int = 0,
    *,
    holes: float = 0.0,
    test: float = 0.25,
    noise: float = 0.0,
) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of sounds and films; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of rows.
        seed: Random seed.
        holes: The share of sounds, films and transcripts that are missing.
        test: The share of rows in ``test.csv``.
        noise: Deviation of the white noise in the sounds of ``test.csv``; 1 is about the level of the voice.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("lips", rows, holes, test)
    if noise < 0:
        raise ConfigError(f"synthetic lips: noise={noise} is below 0")
    folder = Path(folder)
    for name in ("voice", "lips"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    held = round(rows * test)
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        text = " ".join(str(rng.choice(words)) for words in COMMANDS)
        sound, times = spoken(text, rng, noise if i >= rows - held else 0.0)
        write_wav(folder / "voice" / f"{i:04d}.wav", sound)
        write_film(folder / "lips" / f"{i:04d}.gif", lips(times, len(sound) / RATE, rng))
        written.append({"voice": f"voice/{i:04d}.wav", "lips": f"lips/{i:04d}.gif", "words": text})
    return write(folder, written, test=test, holes=holes, seed=seed)


def write_film(path: Path, film: NDArray[np.uint8]) -> None:
    """Write ``film`` ``[frames, H, W]`` or ``[frames, H, W, 3]`` as an animated GIF of 25 pictures a second at ``path``."""
    from PIL import Image

    first, *others = [Image.fromarray(picture) for picture in film]
    first.save(path, save_all=True, append_images=others, duration=1000 // FRAMES_PER_SECOND, loop=0)
