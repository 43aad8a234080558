"""The feature maps that a task on places of an image reads: the pyramid of its encoder, or tokens on a grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.errors import ConfigError


def place_maps(part: Encoded, pyramid: bool, task: str, on: str) -> Sequence[Tensor]:
    """Return the feature maps of an image, ``[B, C, h, w]`` each, from fine to coarse.

    Args:
        part: The encoded image.
        pyramid: Whether its encoder gives a pyramid.
        task: The task's name, for messages.
        on: The stream of the image.

    Raises:
        ConfigError: The encoder has neither a pyramid nor tokens on a grid.
    """
    if pyramid:
        return part.pyramid
    rows, _, width = part.tokens.shape
    if len(part.grid) == 2:
        return (part.tokens.transpose(1, 2).reshape(rows, width, *part.grid),)
    if bool(part.present.any()):
        raise ConfigError(
            f"task {task!r} reads places of {on!r}, and its encoder has none", fix=f"model.encoders.{on}=convnet"
        )
    return (part.tokens.new_zeros(rows, width, 1, 1),)
