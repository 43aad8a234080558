"""What a task answers for one row: plain data, and media where an answer is a picture, a mask or a sound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Answer = dict[str, Any]
"""JSON-ready but for ``Attachment``. ``value`` is the answer itself; ``probabilities``, by label, and ``confidence``, 0 to
1, where the task knows them. Further keys are the task's own."""

Kind = Literal["image", "mask", "audio"]


@dataclass(frozen=True)
class Attachment:
    """A medium within an answer: an array that a writer puts on disk, a server sends and a page shows.

    Args:
        data: ``image``: ``[H, W]`` or ``[H, W, 3]`` uint8; ``mask``: ``[H, W]`` uint8 or uint16, a number for each class;
            ``audio``: ``[samples]`` float in -1 … 1 or int16.
        kind: Which.
        rate: Of audio, samples a second.
        note: What it shows, in a word or two.
    """

    data: NDArray[Any]
    kind: Kind
    rate: int = 16_000
    note: str = ""

    @property
    def suffix(self) -> str:
        """The ending of its file."""
        return ".wav" if self.kind == "audio" else ".png"

    @property
    def media_type(self) -> str:
        """As HTTP names it."""
        return "audio/wav" if self.kind == "audio" else "image/png"


def attachments(value: Any) -> list[Attachment]:
    """Every attachment of an answer, in order."""
    if isinstance(value, Attachment):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [found for part in parts for found in attachments(part)]


def light(value: Any) -> Any:
    """An answer with a word in place of each attachment, to be kept for rows by the thousand."""
    return changed(value, lambda one: f"<{one.note or one.kind}>")


def own(value: Any) -> Any:
    """An answer whose attachments have memory of their own, so that keeping one row keeps nothing of its batch."""
    return changed(value, lambda one: replace(one, data=one.data.copy()))


def changed(value: Any, change: Callable[[Attachment], Any]) -> Any:
    """An answer with something in the place of each attachment."""
    if isinstance(value, Attachment):
        return change(value)
    if isinstance(value, dict):
        return {key: changed(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [changed(item, change) for item in value]
    return value


def finite(answer: Any) -> bool:
    """Whether every number of an answer is one: where a network gives NaN, the class it names means nothing."""
    if isinstance(answer, float):
        return math.isfinite(answer)
    if isinstance(answer, Attachment):
        return bool(np.isfinite(answer.data).all())
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, (list, tuple)) else ()
    return all(finite(part) for part in parts)


def margin(answer: Answer) -> float | None:
    """How sure an answer is, 0 to 1: the chance of the first class less the second's; of labels, the mean distance from a
    coin; else what the task says of its confidence. None where it says nothing."""
    chances = list(answer.get("probabilities", {}).values())
    if isinstance(answer["value"], list) and chances:
        return float(np.mean([abs(2 * p - 1) for p in chances]))
    if len(chances) >= 2:
        first, second = sorted(chances, reverse=True)[:2]
        return float(first - second)
    confidence = answer.get("confidence")
    return None if confidence is None else float(confidence)
