"""The answer of a task for one row: plain data, with media attached where it is a picture, a mask or a sound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Answer = dict[str, Any]
"""JSON-ready except for ``Attachment``. ``value`` is the answer itself; ``probabilities`` (by label) and ``confidence`` (0
to 1) are present if the task provides them. Further keys are specific to the task."""

Kind = Literal["image", "mask", "audio"]


@dataclass(frozen=True)
class Attachment:
    """A medium in an answer: an array that is written to disk, sent by a server or shown on a page.

    Args:
        data: ``image``: ``[H, W]`` or ``[H, W, 3]`` uint8; ``mask``: ``[H, W]`` uint8 or uint16, a number for each class;
            ``audio``: ``[samples]`` float in -1 … 1 or int16.
        kind: Type of the medium.
        rate: Sampling rate of audio, in Hz.
        note: A short caption.
    """

    data: NDArray[Any]
    kind: Kind
    rate: int = 16_000
    note: str = ""

    @property
    def suffix(self) -> str:
        """File name suffix."""
        return ".wav" if self.kind == "audio" else ".png"

    @property
    def media_type(self) -> str:
        """MIME type."""
        return "audio/wav" if self.kind == "audio" else "image/png"


def attachments(value: Any) -> list[Attachment]:
    """Every attachment in the answer ``value``, in order."""
    if isinstance(value, Attachment):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [attachment for part in parts for attachment in attachments(part)]


def without_media(value: Any) -> Any:
    """Return the answer ``value`` with a word in place of each attachment, so that thousands of rows can be kept."""
    return map_attachments(value, lambda medium: f"<{medium.note or medium.kind}>")


def detached(value: Any) -> Any:
    """The answer ``value`` with attachments copied, so that keeping one row does not keep its batch in memory."""
    return map_attachments(value, lambda medium: replace(medium, data=medium.data.copy()))


def map_attachments(value: Any, change: Callable[[Attachment], Any]) -> Any:
    """The answer ``value`` with every attachment replaced by ``change`` of it."""
    if isinstance(value, Attachment):
        return change(value)
    if isinstance(value, dict):
        return {key: map_attachments(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [map_attachments(item, change) for item in value]
    return value


def finite(answer: Any) -> bool:
    """Return whether every number in ``answer`` is finite; if the network computes NaN, even a class is meaningless."""
    if isinstance(answer, float):
        return math.isfinite(answer)
    if isinstance(answer, Attachment):
        return bool(np.isfinite(answer.data).all())
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, (list, tuple)) else ()
    return all(finite(part) for part in parts)


def margin(answer: Answer) -> float | None:
    """The certainty of ``answer``, 0 to 1: the probability of the first class minus the second's; for labels twice the
    mean distance of the probabilities from 0.5; otherwise the confidence that the task states. None without any."""
    chances = list(answer.get("probabilities", {}).values())
    if isinstance(answer["value"], list) and chances:
        return float(np.mean([abs(2 * p - 1) for p in chances]))
    if len(chances) >= 2:
        first, second = sorted(chances, reverse=True)[:2]
        return float(first - second)
    confidence = answer.get("confidence")
    return None if confidence is None else float(confidence)
