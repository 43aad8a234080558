"""Simulated ratings in a shop: who rates which item, shown by a picture and a few words.

    user, age, region         who: an id, and facts on which tastes partly depend
    item, price               what: an id and a fact
    picture                   24 pixels a side: a disc, square or cross of a colour
    words                     the title
    rating                    1 to 5, with decimals

Tastes are for colours, shapes and kinds of things; the quality of an item is what its picture and words do not show. Items
of ``new.csv`` are in no other table: only their picture, words and price say what they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_cells import write_png
from sensorium.data.synthetic_tables import check, write

COLOURS = {"red": (210, 50, 50), "green": (50, 170, 70), "blue": (60, 80, 215), "yellow": (225, 205, 50)}
SHAPES = ("disc", "square", "cross")
KINDS = {
    "toy": ("a game for rainy days", "puzzle with many pieces", "for playing outside"),
    "garden": ("for flower beds", "pots and seeds", "for the lawn"),
    "kitchen": ("for cooking soup", "pan with a lid", "knives and boards"),
    "travel": ("a bag for weekends", "for long flights", "map and compass"),
}
REGIONS = ("north", "south", "coast")
SIDE = 24


def make(
    folder: Path | str,
    rows: int = 1200,
    seed: int = 0,
    *,
    holes: float = 0.0,
    test: float = 0.25,
    users: int = 40,
    items: int = 80,
    new: int = 0,
) -> dict[str, Path]:
    """Write ``train.csv``, ``test.csv`` and ``new.csv`` with a folder of pictures; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of ratings of known items; a user rates an item at most once.
        seed: Random seed.
        holes: The share of pictures and words that are missing.
        test: The share of ``rows`` in ``test.csv``.
        users: The number of users.
        items: The number of known items.
        new: The number of further items, which every user rates in ``new.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid, or there are more ratings than pairs of a user and an item.
    """
    check("shop", rows, holes, test)
    if min(users, items) < 1 or new < 0 or rows > users * items:
        raise ConfigError(f"synthetic shop: users={users} items={items} new={new} are no counts for {rows} ratings")
    folder = Path(folder)
    (folder / "picture").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    people = [_person(rng) for _ in range(users)]
    things = [_thing(rng, folder, f"i{i:03d}") for i in range(items + new)]
    pairs = rng.permutation(users * items)[:rows]
    chosen = [(int(pair) // items, int(pair) % items) for pair in pairs]
    fresh = [(user, items + item) for user in range(users) for item in range(new)]
    written = [
        {
            "user": f"u{user:03d}",
            **people[user][0],
            **things[item][0],
            "rating": f"{rating(people[user][1], things[item][1], rng):.1f}",
        }
        for user, item in [*chosen, *fresh]
    ]
    keep = ("user", "item", "rating", "age", "region", "price")
    paths = write(folder, written[:rows], test=test, holes=holes, keep=keep, seed=seed)
    if new:
        # Two tables beside each other, so that cells name the pictures alike.
        own = folder / "new"
        own.mkdir(exist_ok=True)
        paths["new"] = write(own, written[rows:], test=0.0, holes=holes, keep=keep, seed=seed)["train"].rename(
            folder / "new.csv"
        )
        own.rmdir()
    return paths


def rating(taste: NDArray[np.float64], traits: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the rating, 1 to 5, of an item with ``traits`` by a user with ``taste`` for each; ``rng`` draws the noise.

    The last trait is the quality, for which the taste of everybody is 1.
    """
    return float(np.clip(3 + taste @ traits + rng.normal(0, 0.3), 1, 5))


def _person(rng: np.random.Generator) -> tuple[dict[str, str], NDArray[np.float64]]:
    """Draw the facts of a user and the taste for each colour, shape and kind, and for quality."""
    age, region = int(rng.integers(18, 80)), int(rng.integers(len(REGIONS)))
    colours, shapes, kinds = (rng.normal(0, spread, n) for spread, n in ((0.5, len(COLOURS)), (0.2, 3), (0.4, 4)))
    kinds[0 if age < 35 else 1 if age > 60 else 3] += 0.8
    colours[region] += 0.5
    return {"age": str(age), "region": REGIONS[region]}, np.concatenate([colours, shapes, kinds, [1.0]])


def _thing(rng: np.random.Generator, folder: Path, name: str) -> tuple[dict[str, str], NDArray[np.float64]]:
    """Draw an item called ``name``: its cells, with the picture written to ``folder``, and its traits."""
    colour, shape, kind = (int(rng.integers(n)) for n in (len(COLOURS), len(SHAPES), len(KINDS)))
    traits = np.concatenate([np.eye(4)[colour], np.eye(3)[shape], np.eye(4)[kind], [rng.normal(0, 0.4)]])
    write_png(folder / "picture" / f"{name}.png", _picture(colour, shape, rng))
    title = str(rng.choice(KINDS[list(KINDS)[kind]]))
    cells = {"item": name, "price": f"{rng.uniform(2, 60):.2f}", "picture": f"picture/{name}.png", "words": title}
    return cells, traits


def _picture(colour: int, shape: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a picture ``[24, 24, 3]`` of a shape of a colour at a random place."""
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE * 2 - 1
    x, y = x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2)
    square = (abs(x) < 0.55) & (abs(y) < 0.55)
    drawn = (np.hypot(x, y) < 0.6, square, square & ((abs(x) < 0.2) | (abs(y) < 0.2)))[shape]
    picture = np.where(drawn[..., None], np.array(list(COLOURS.values())[colour], dtype=float), rng.uniform(20, 110))
    noisy: NDArray[np.uint8] = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    return noisy
