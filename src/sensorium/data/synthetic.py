"""A small synthetic multimodal data set: household events observed by photo, note, sound, sensor and temperature.

There are six events. Every modality has three states, each shared by two events, and no two modalities pair them alike:

    photo        cloud: kettle, window     stripes: shower, party      figure: visitor, cleaning
    note         drinks: kettle, party     mat: shower, visitor        air: window, cleaning
    sound        ring: kettle, visitor     rush: shower, cleaning      melody: window, party
    sensor       buzz: kettle, cleaning    sway: shower, window        steps: visitor, party
    temperature  warm: kettle, shower      cold: window, visitor       mild: cleaning, party

One modality alone is right in half of the rows at best; any two determine the event (the fifteen pairs of six events
form five perfect matchings, one per modality). A share of observations is wrong, so that each further modality helps.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError
from sensorium.data import synthetic_cells

EVENTS = ("kettle", "shower", "window", "visitor", "cleaning", "party")
MODALITIES: dict[str, dict[str, tuple[str, str]]] = {
    "photo": {"cloud": ("kettle", "window"), "stripes": ("shower", "party"), "figure": ("visitor", "cleaning")},
    "note": {"drinks": ("kettle", "party"), "mat": ("shower", "visitor"), "air": ("window", "cleaning")},
    "sound": {"ring": ("kettle", "visitor"), "rush": ("shower", "cleaning"), "melody": ("window", "party")},
    "sensor": {"buzz": ("kettle", "cleaning"), "sway": ("shower", "window"), "steps": ("visitor", "party")},
    "temperature": {"warm": ("kettle", "shower"), "cold": ("window", "visitor"), "mild": ("cleaning", "party")},
}
TAGS = {
    "warm": ("kettle", "shower"),
    "water": ("kettle", "shower", "window"),
    "motor": ("kettle", "cleaning"),
    "loud": ("cleaning", "party"),
    "people": ("visitor", "party"),
    "outside": ("window", "visitor"),
}
COST = {"kettle": 6.0, "shower": 30.0, "window": 12.0, "visitor": 3.0, "cleaning": 9.0, "party": 20.0}
ROOMS = ("kitchen", "hall", "bath", "living room")
Target = Literal["event", "cost", "tags"]


@dataclass(frozen=True)
class Story:
    """The true event of each row, and the state that each modality observed (``None``: missing).

    Args:
        events: The events.
        seen: Observed states, by modality.
    """

    events: list[str]
    seen: dict[str, list[str | None]]


def story(rows: int, *, seed: int = 0, holes: float = 0.1, noise: float = 0.05) -> Story:
    """Draw events and observed states without media; enough to compute the best possible accuracy.

    Args:
        rows: The number of rows.
        seed: Random seed.
        holes: The share of missing observations.
        noise: The share of wrong observations.
    """
    rng = np.random.default_rng([seed, 1])
    # Balanced events in random order.
    events = [EVENTS[i % len(EVENTS)] for i in rng.permutation(rows)]
    observed: dict[str, list[str | None]] = {}
    for modality, states in MODALITIES.items():
        names = list(states)
        true_state = [next(i for i, name in enumerate(names) if event in states[name]) for event in events]
        error = np.where(rng.random(rows) < noise, rng.integers(1, 3, rows), 0)
        missing = rng.random(rows) < holes
        observed[modality] = [None if h else names[(r + s) % 3] for r, s, h in zip(true_state, error, missing, strict=True)]
    return Story(events, observed)


def make(
    folder: Path | str,
    rows: int = 900,
    seed: int = 0,
    holes: float = 0.1,
    *,
    valid: float = 0.15,
    test: float = 0.2,
    noise: float = 0.05,
    targets: Sequence[Target] = ("event",),
    damage: bool = False,
) -> dict[str, Path]:
    """Write ``train.csv``, ``valid.csv`` and ``test.csv`` with folders of photos, sounds and sensor readings.

    The same arguments give the same files.

    Args:
        folder: Where to write; made if need be.
        rows: The number of rows.
        seed: Random seed.
        holes: The share of missing observations.
        valid: The share of rows in ``valid.csv``.
        test: The share of rows in ``test.csv``.
        noise: The share of wrong observations.
        targets: Target columns: ``event`` (six classes), ``cost`` (a number), ``tags`` (any of six).
        damage: Whether to damage a few files of ``train.csv``: a truncated photo, a photo that is text, a missing photo, an
            empty sound.

    Returns:
        The paths of the tables by name; one whose share is 0 is not written.

    Raises:
        ConfigError: The arguments are invalid.
    """
    if rows < 1 or not (0 <= holes < 1 and 0 <= noise <= 1 and valid >= 0 and test >= 0 and valid + test < 1):
        raise ConfigError(
            f"synthetic: rows={rows} holes={holes} noise={noise} valid={valid} test={test} are not valid counts and shares"
        )
    unknown = [t for t in targets if t not in ("event", "cost", "tags")]
    if unknown:
        raise ConfigError(f"synthetic: no target named {unknown[0]!r}; there are: event, cost, tags")
    folder = Path(folder)
    for name in ("photos", "sounds", "sensors"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    plot = story(rows, seed=seed, holes=holes, noise=noise)
    cells = [_row(folder, plot, i, np.random.default_rng([seed, 2, i]), holes) for i in range(rows)]
    answers = [_answers(event, np.random.default_rng([seed, 3, i])) for i, event in enumerate(plot.events)]
    held = round(rows * valid), round(rows * test)
    parts = {
        "train": range(rows - sum(held)),
        "valid": range(rows - sum(held), rows - held[1]),
        "test": range(rows - held[1], rows),
    }
    paths = {}
    for part, indices in parts.items():
        if len(indices):
            paths[part] = folder / f"{part}.csv"
            lines = [{**cells[i], **{t: answers[i][t] for t in targets}} for i in indices]
            with paths[part].open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, lines[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(lines)
    if damage:
        _damage(folder, [cells[i] for i in parts["train"]])
    return paths


def _row(folder: Path, plot: Story, i: int, rng: np.random.Generator, holes: float) -> dict[str, Any]:
    observed = {modality: states[i] for modality, states in plot.seen.items()}
    cells: dict[str, Any] = {}
    start = datetime(2024, 3, 1) + timedelta(minutes=37 * i + int(rng.integers(37)))
    cells["when"] = start.isoformat(sep=" ", timespec="minutes")
    cells["room"] = "" if rng.random() < holes else ROOMS[rng.integers(len(ROOMS))]
    cells["photo"] = cells["note"] = cells["sound"] = cells["sensor"] = cells["temperature"] = ""
    if observed["photo"]:
        cells["photo"] = f"photos/{i:05d}.png"
        synthetic_cells.write_png(folder / cells["photo"], synthetic_cells.photo(observed["photo"], rng))
    if observed["note"]:
        cells["note"] = synthetic_cells.note(observed["note"], rng)
    if observed["sound"]:
        cells["sound"] = f"sounds/{i:05d}.wav"
        synthetic_cells.write_wav(folder / cells["sound"], synthetic_cells.sound(observed["sound"], rng))
    if observed["sensor"]:
        cells["sensor"] = f"sensors/{i:05d}.csv"
        synthetic_cells.write_series(folder / cells["sensor"], synthetic_cells.vibration(observed["sensor"], rng))
    if observed["temperature"]:
        cells["temperature"] = f"{synthetic_cells.temperature(observed['temperature'], rng):.1f}"
    return cells


def _answers(event: str, rng: np.random.Generator) -> dict[str, str]:
    tags = [tag for tag, events in TAGS.items() if event in events]
    # A tenth of the rows lacks a tag.
    if rng.random() < 0.1:
        tags.pop(rng.integers(len(tags)))
    return {"event": event, "cost": f"{COST[event] * rng.uniform(0.85, 1.15):.2f}", "tags": "; ".join(tags)}


def _damage(folder: Path, rows: list[dict[str, Any]]) -> None:
    photos = [folder / row["photo"] for row in rows if row["photo"]]
    sounds = [folder / row["sound"] for row in rows if row["sound"]]
    for path in photos[1:2]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for path in photos[3:4]:
        path.write_bytes(b"this is not a picture")
    for path in photos[5:6]:
        path.unlink()
    for path in sounds[2:3]:
        path.write_bytes(b"")


def ceiling(plot: Story, modalities: Sequence[str] = tuple(MODALITIES), *, noise: float = 0.05) -> float:
    """Return the Bayes accuracy of some modalities, which a model can exceed only by chance.

    Args:
        plot: The events and observed states.
        modalities: The modalities.
        noise: The share of wrong observations, as in ``story``.
    """
    expected = 0.0
    for i, event in enumerate(plot.events):
        likelihood: NDArray[np.float64] = np.ones(len(EVENTS))
        for modality in modalities:
            state = plot.seen[modality][i]
            if state is not None:
                agrees = np.array([name in MODALITIES[modality][state] for name in EVENTS])
                likelihood = likelihood * np.where(agrees, 1 - noise, noise / 2)
        best = np.flatnonzero(likelihood >= likelihood.max() * (1 - 1e-9))
        expected += float(EVENTS.index(event) in best) / len(best)
    return expected / len(plot.events)
