"""A small multimodal data set made on the spot: what happened in the house, seen, heard, felt, written down and measured.

Six events. Every sense tells them apart in pairs only, and no two senses make the same pairs:

    photo        cloud: kettle, window     stripes: shower, party      figure: visitor, cleaning
    note         drinks: kettle, party     mat: shower, visitor        air: window, cleaning
    sound        ring: kettle, visitor     rush: shower, cleaning      melody: window, party
    sensor       buzz: kettle, cleaning    sway: shower, window        steps: visitor, party
    temperature  warm: kettle, shower      cold: window, visitor       mild: cleaning, party

So one sense alone is right in half of the rows at best and any two of them could tell all six (the fifteen pairs of six
things fall into five ways of pairing all of them: the five senses are those ways). A share of observations is wrong, so
each further sense helps.
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
SENSES: dict[str, dict[str, tuple[str, str]]] = {
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
    """What truly happened in each row, and what each sense took it for (``None``: it was not looking)."""

    events: list[str]
    seen: dict[str, list[str | None]]


def story(rows: int, *, seed: int = 0, holes: float = 0.1, noise: float = 0.05) -> Story:
    """The plot without the pictures: enough to compute how well anyone could do."""
    rng = np.random.default_rng([seed, 1])
    # As many of each event as can be, in random order.
    events = [EVENTS[i % len(EVENTS)] for i in rng.permutation(rows)]
    seen: dict[str, list[str | None]] = {}
    for sense, states in SENSES.items():
        names = list(states)
        right = [next(i for i, name in enumerate(names) if event in states[name]) for event in events]
        slip = np.where(rng.random(rows) < noise, rng.integers(1, 3, rows), 0)
        hole = rng.random(rows) < holes
        seen[sense] = [None if h else names[(r + s) % 3] for r, s, h in zip(right, slip, hole, strict=True)]
    return Story(events, seen)


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
    """Writes ``train.csv``, ``valid.csv`` and ``test.csv`` with folders of photos, sounds and sensor readings.

    Returns the paths of the tables by name; one whose share is 0 is not written. The same arguments give the same files.

    Args:
        valid: Share of rows in ``valid.csv``.
        test: Share of rows in ``test.csv``.
        noise: How often a sense takes an event for something else.
        targets: Which answers to write: ``event`` (one of six), ``cost`` (a number), ``tags`` (any of six).
        damage: Break a few cells of ``train.csv`` as real data do: a cut photo, an empty sound, a photo that is not there.
    """
    if rows < 1 or not (0 <= holes < 1 and 0 <= noise <= 1 and valid >= 0 and test >= 0 and valid + test < 1):
        raise ConfigError(
            f"synthetic: rows={rows} holes={holes} noise={noise} valid={valid} test={test} are no such shares"
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
    seen = {sense: states[i] for sense, states in plot.seen.items()}
    cells: dict[str, Any] = {}
    start = datetime(2024, 3, 1) + timedelta(minutes=37 * i + int(rng.integers(37)))
    cells["when"] = start.isoformat(sep=" ", timespec="minutes")
    cells["room"] = "" if rng.random() < holes else ROOMS[rng.integers(len(ROOMS))]
    cells["photo"] = cells["note"] = cells["sound"] = cells["sensor"] = cells["temperature"] = ""
    if seen["photo"]:
        cells["photo"] = f"photos/{i:05d}.png"
        synthetic_cells.write_png(folder / cells["photo"], synthetic_cells.photo(seen["photo"], rng))
    if seen["note"]:
        cells["note"] = synthetic_cells.note(seen["note"], rng)
    if seen["sound"]:
        cells["sound"] = f"sounds/{i:05d}.wav"
        synthetic_cells.write_wav(folder / cells["sound"], synthetic_cells.sound(seen["sound"], rng))
    if seen["sensor"]:
        cells["sensor"] = f"sensors/{i:05d}.csv"
        synthetic_cells.write_series(folder / cells["sensor"], synthetic_cells.vibration(seen["sensor"], rng))
    if seen["temperature"]:
        cells["temperature"] = f"{synthetic_cells.temperature(seen['temperature'], rng):.1f}"
    return cells


def _answers(event: str, rng: np.random.Generator) -> dict[str, str]:
    tags = [tag for tag, events in TAGS.items() if event in events]
    # People forget a tag now and then.
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


def ceiling(plot: Story, senses: Sequence[str] = tuple(SENSES), *, noise: float = 0.05) -> float:
    """The accuracy of the best possible answer from these senses: what no model can beat but by luck."""
    right = 0.0
    for i, event in enumerate(plot.events):
        chance: NDArray[np.float64] = np.ones(len(EVENTS))
        for sense in senses:
            state = plot.seen[sense][i]
            if state is not None:
                agrees = np.array([name in SENSES[sense][state] for name in EVENTS])
                chance = chance * np.where(agrees, 1 - noise, noise / 2)
        best = np.flatnonzero(chance >= chance.max() * (1 - 1e-9))
        right += float(EVENTS.index(event) in best) / len(best)
    return right / len(plot.events)
