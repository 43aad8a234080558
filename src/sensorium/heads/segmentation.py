"""What tasks on masks share: logits of a coarse grid compared with masks of a finer one, or drawn in the user's pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.answer import Attachment
from sensorium.core.batch import Field
from sensorium.core.modality import Array
from sensorium.metrics.segmentation import pixel_counts
from sensorium.nn.overlap_loss import cross_entropy_per_row, soft_dice_per_row
from sensorium.signal.geometry import compose, identity, resample

NUMBERS = 1 << 24
"""Most logits that are held at the size of masks at once."""


class MaskReader(Protocol):
    """What a task needs of the modality of its masks, as ``modalities/mask.py`` has it."""

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""

    @property
    def background(self) -> int | None:
        """The index of the class that is not foreground; None where all are."""

    def picture(self, codes: Array, note: str = "mask") -> Attachment:
        """Class indices ``codes`` as a picture like the training masks, described by ``note``."""

    def codes_of(self, pixels: Array) -> Array:
        """The class indices of ``pixels`` as ``picture`` has them; 255 is no class."""


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate ``logits`` ``[B, K, h, w]`` to ``size``."""
    if tuple(logits.shape[2:]) == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def segmentation_loss(logits: Tensor, classes: Tensor, dice: float) -> Tensor:
    """Return the mean of cross-entropy and ``dice`` times the soft Dice loss of each row, ``[B]``.

    Args:
        logits: ``[B, K, h, w]``, interpolated to the masks.
        classes: Class indices ``[B, H, W]``; K and more is unknown.
        dice: Weight of the Dice loss relative to the cross-entropy.
    """

    def each(some: Tensor, codes: Tensor) -> Tensor:
        large = resized(some, (codes.shape[1], codes.shape[2])).float()
        loss = cross_entropy_per_row(large, codes)
        return loss + dice * soft_dice_per_row(large, codes) if dice > 0 else loss

    return _by_rows(each, logits, classes.long()) / (1 + dice)


def counted_pixels(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the ``pixel_counts`` ``[B, K, 3]`` of the most probable classes.

    Args:
        logits: ``[B, K, h, w]``, interpolated to the masks.
        classes: True class indices ``[B, H, W]``; K and more is unknown.
    """

    def each(some: Tensor, codes: Tensor) -> Tensor:
        answered = resized(some, (codes.shape[1], codes.shape[2])).argmax(dim=1)
        return pixel_counts(answered, codes, logits.shape[1])

    return _by_rows(each, logits, classes.long())


def _by_rows(each: Callable[[Tensor, Tensor], Tensor], logits: Tensor, classes: Tensor) -> Tensor:
    """``each`` of some rows at a time, so that memory does not grow with the batch where no gradient needs it all."""
    per_row = max(1, logits.shape[1] * classes.shape[1] * classes.shape[2])
    rows = len(logits) if torch.is_grad_enabled() else max(1, NUMBERS // per_row)
    if rows >= len(logits):
        return each(logits, classes)
    return torch.cat([each(*some) for some in zip(torch.split(logits, rows), torch.split(classes, rows), strict=True)])


def in_user_pixels(logits: Tensor, size: tuple[int, int], field: Field, row: int, outside: int) -> tuple[Tensor, float]:
    """Return the most probable class of every pixel of the user's image, and the mean of the probabilities of these.

    Args:
        logits: ``[K, h, w]`` of one row.
        size: Height and width of the prepared image on which the logits lie.
        field: The prepared images, with frame and extent.
        row: The row among them.
        outside: The class of pixels that were cropped off and never seen.

    Returns:
        Class indices ``[H, W]`` uint8, and the probability from 0 to 1.
    """
    assert field.frame is not None
    assert field.extent is not None
    wide, high = (max(1, int(n)) for n in field.extent[row].tolist())
    frame = field.frame[row : row + 1].float().cpu()
    ratio = [logits.shape[2] / size[1], logits.shape[1] / size[0]]
    own = compose(frame.new_tensor([[ratio[0], 0, 0], [0, ratio[1], 0]])[None], frame)
    whole = logits[None].detach().float().cpu()
    codes = torch.empty(high, wide, dtype=torch.uint8)
    certain = 0.0
    band = max(1, NUMBERS // (len(logits) * wide))
    for top in range(0, high, band):
        rows = min(band, high - top)
        grid = identity(1, 2, frame).clone()
        grid[:, 1, 2] = -top
        sampled = resample(whole, own, grid, (rows, wide), mode="bilinear", fill=torch.nan)[0]
        chances, which = sampled.softmax(dim=0).max(dim=0)
        unseen = sampled[0].isnan()
        codes[top : top + rows] = torch.where(unseen, outside, which).to(torch.uint8)
        certain += float(torch.where(unseen, 0.0, chances).sum())
    return codes, certain / (high * wide)
