"""Where the steps of a prepared input lie in the user's units: seconds, steps of a series, characters of a text."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.signal.geometry import inverse, spans

HEAD, PART = 2, 3
"""Numbers at the beginning of the extent of a text (its characters, its words), and numbers of each token after them."""


class WordPlaces(NamedTuple):
    """Where the tokens of texts lie.

    Args:
        bounds: The first character of each token and the one after its last ``[B, N, 2]``.
        word: The word that each token is part of ``[B, N]``, counted from 0.
    """

    bounds: Tensor
    word: Tensor


def word_places(field: Field) -> WordPlaces | None:
    """Return where the tokens of the texts ``field`` ``[B, N]`` lie, from their extents; None for other inputs."""
    if field.data.dim() != 2 or field.extent is None or field.extent.shape[1] <= HEAD + 1:
        return None
    parts = field.extent[:, HEAD:].reshape(len(field.extent), -1, PART)[:, : field.data.shape[1]]
    return WordPlaces(parts[..., :2], parts[..., 2])


def time_frame(field: Field) -> Tensor | None:
    """Return the map ``[B, 1, 2]`` from the user's time to steps of the prepared ``field``; None where it is not known.

    The frame of a video maps pixels; its extent ends with its length and the time that a frame stands for.
    """
    if field.frame is None or field.frame.shape[1] == 1:
        return field.frame
    if field.data.dim() != 5 or field.extent is None or field.extent.shape[1] < 4:
        return None
    period = field.extent[:, 3].clamp(min=1e-6)
    return torch.stack([1 / period, torch.zeros_like(period)], dim=1)[:, None]


def to_steps(field: Field, ends: Tensor) -> Tensor:
    """Return the spans ``ends`` ``[B, n, 2]`` in the user's time as positions in steps of ``field``."""
    frame = time_frame(field)
    return ends if frame is None else spans(frame, ends)


def to_units(field: Field, row: int, ends: Tensor) -> Tensor:
    """Return the spans ``ends`` ``[1, n, 2]`` in steps of the ``row`` of ``field`` in the user's units: time, or characters
    of a text."""
    if not bool(field.present[row]):
        return ends
    if (places := word_places(field)) is not None:
        bounds = places.bounds[row].to(ends)
        first, last = ends[0, :, 0].long(), ends[0, :, 1].long() - 1
        return torch.stack([bounds[first, 0], bounds[last, 1]], dim=1)[None]
    frame = time_frame(field)
    return ends if frame is None else spans(inverse(frame[row : row + 1].float()).to(ends), ends)
