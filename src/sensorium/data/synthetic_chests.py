"""Simulated chest X-rays with findings: two masks on one picture, a note, laboratory values and a diagnosis.

patient     an identifier; some patients have two pictures
photo       an X-ray-like picture of 40 pixels a side
lungs       a mask: 1 lung, 0 all else
opacities   a mask: 1 where a lung is clouded, 0 all else
note        what the physician wrote
temperature in °C
leukocytes  in 10⁹ a litre
diagnosis   healthy, viral or bacterial: the clouds show that somebody is ill, note and laboratory values with what
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.data.synthetic_tables import check, write

SIDE = 40
DIAGNOSES = ("healthy", "viral", "bacterial")
_NOTES = {
    "healthy": ("routine check before travelling", "asks for a certificate", "feels well, breathes freely"),
    "viral": ("dry cough and sore muscles", "lost the sense of smell", "dry cough, others at home are ill"),
    "bacterial": ("cough with yellow phlegm", "sudden shivers, pain when breathing in", "thick phlegm since yesterday"),
}
_VAGUE = ("coughs since a week", "tired, referred by the family doctor", "seen in the emergency room")
Pixels = NDArray[np.uint8]


def make(folder: Path | str, rows: int = 240, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv`` with folders of pictures and masks; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of pictures.
        seed: Random seed.
        holes: The share of pictures, notes and laboratory values that are missing.
        test: The share of rows in ``test.csv``; no patient is in both files.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    from PIL import Image

    check("chests", rows, holes, test)
    folder = Path(folder)
    for name in ("photo", "lungs", "opacities"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    held = rows - round(rows * test)
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        # Every third picture is the second one of a patient, never across the border between the files.
        patient = i - 1 if i % 3 == 2 and i != held else i
        diagnosis = DIAGNOSES[int(np.random.default_rng([seed, patient, 1]).integers(3))]
        cells = scan(diagnosis, rng)
        for name in ("photo", "lungs", "opacities"):
            Image.fromarray(cells[name]).save(folder / name / f"{i:04d}.png")
        written.append(
            {
                "patient": f"p{patient}",
                **{name: f"{name}/{i:04d}.png" for name in ("photo", "lungs", "opacities")},
                "note": cells["note"],
                "temperature": f"{cells['temperature']:.1f}",
                "leukocytes": f"{cells['leukocytes']:.1f}",
                "diagnosis": diagnosis,
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("patient", "lungs", "opacities", "diagnosis"), seed=seed)


def scan(diagnosis: str, rng: np.random.Generator) -> dict[str, Any]:
    """Draw the picture, the masks, the note and the laboratory values of a patient with ``diagnosis``, with ``rng``."""
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE
    dx, dy, size = rng.normal(0, 0.03), rng.normal(0, 0.03), rng.uniform(0.9, 1.1)
    lungs = np.zeros((SIDE, SIDE), bool)
    for side in (-1, 1):
        cx, cy = 0.5 + dx + side * 0.21, 0.5 + dy
        lungs |= ((x - cx) / (0.14 * size)) ** 2 + ((y - cy) / (0.3 * size)) ** 2 < 1
    clouds = np.zeros((SIDE, SIDE), bool)
    ill = diagnosis != "healthy"
    for _ in range(int(rng.integers(2, 4)) if ill else 0):
        cx, cy = 0.5 + dx + rng.choice([-1, 1]) * 0.21 + rng.normal(0, 0.05), 0.5 + dy + rng.uniform(-0.15, 0.2)
        clouds |= np.hypot(x - cx, y - cy) < rng.uniform(0.08, 0.13)
    clouds &= lungs
    picture = rng.uniform(150, 180) + 20 * np.cos(6 * x) - 90 * lungs + rng.uniform(45, 65) * clouds
    picture = picture + rng.normal(0, 12, picture.shape)
    fever = {"healthy": 36.7, "viral": 37.9, "bacterial": 38.6}[diagnosis]
    cells = {"healthy": 6.5, "viral": 6.0, "bacterial": 13.0}[diagnosis]
    note = _VAGUE[int(rng.integers(3))] if rng.random() < 0.3 else _NOTES[diagnosis][int(rng.integers(3))]
    return {
        "photo": np.clip(picture, 0, 255).astype(np.uint8),
        "lungs": lungs.astype(np.uint8),
        "opacities": clouds.astype(np.uint8),
        "note": note,
        "temperature": rng.normal(fever, 0.6),
        "leukocytes": max(1.0, rng.normal(cells, 2.5)),
    }
