"""Boxes, regions, lines and points drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.core.places import Place

COLOURS = (
    *((230, 85, 13), (49, 130, 189), (49, 163, 84), (197, 27, 138), (255, 200, 40), (94, 60, 153), (0, 160, 160)),
    *((150, 75, 30), (120, 190, 30), (90, 90, 90)),
)
"""Colours of the labels; from the eleventh on they recur."""
OPACITY = 0.45
"""Of regions; lines are opaque."""
THICK = 300
"""Pixels of the longer side for each pixel of the width of a line."""
Pixels = NDArray[np.uint8]


def draw_places(picture: NDArray[Any], places: Sequence[Place], labels: Sequence[str]) -> Pixels:
    """Return a picture with ``places`` drawn on it and labelled, ``[H, W, 3]``.

    Args:
        picture: ``[H, W, 1 or 3]`` uint8.
        places: What is drawn, in its pixels.
        labels: All labels; the position of a label decides its colour.
    """
    from PIL import Image, ImageDraw

    base = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
    mixed = base.astype(np.float32)
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    for place in places:
        if place.region is not None and place.region.shape == base.shape[:2]:
            cover = 1.0 if place.thin else OPACITY
            mixed[place.region] = (1 - cover) * mixed[place.region] + cover * np.array(colours.get(place.label, COLOURS[0]))
    canvas = Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    width = max(1, round(max(base.shape[:2]) / THICK))
    for place in places:
        colour = colours.get(place.label, COLOURS[0])
        if place.box is not None:
            left, top, right, bottom = place.box
            draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
            score = "" if place.score is None else f" {place.score:.2f}"
            draw.text((left + width + 1, top + width), f"{place.label}{score}", fill=colour)
        for i, point in enumerate(place.points):
            reach = 2 * width + 1
            fill = COLOURS[i % len(COLOURS)]
            draw.ellipse((point.x - reach, point.y - reach, point.x + reach, point.y + reach), outline=fill, width=width)
            draw.text((point.x + reach + 1, point.y - reach), point.name, fill=fill)
    return np.asarray(canvas)
