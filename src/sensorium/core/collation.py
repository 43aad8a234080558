"""Collation of cells of several rows into fields: cells of a table side by side, and the coordinate frames of media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sensorium.core.batch import Field
from sensorium.core.modality import Array, Modality


def side_by_side(readers: Mapping[str, Modality], samples: Sequence[Mapping[Any, Array | None]]) -> Field:
    """The cells of a table stream in ``samples``, read by ``readers``, as one field: the result of ``Field.join``,
    computed at once for thousands of columns."""
    blanks = {name: modality.blank() for name, modality in readers.items()}
    data = [
        np.concatenate([blank if (cell := sample.get(name)) is None else cell for name, blank in blanks.items()])
        for sample in samples
    ]
    present = np.array([[sample.get(name) is not None for name in readers] for sample in samples], dtype=np.bool_)
    present = present.reshape(len(samples), len(readers))
    real = present | np.array([modality.fills for modality in readers.values()])
    wide = np.repeat(real, [len(blank) for blank in blanks.values()], axis=1)
    stacked = np.stack(data) if data else np.zeros((0, wide.shape[1]), np.float32)
    return Field(torch.from_numpy(stacked), torch.from_numpy(present.any(axis=1)), torch.from_numpy(wide))


def with_frames(field: Field, modality: Modality, extents: Sequence[Array | None]) -> Field:
    """The stored ``field`` of ``modality`` with the coordinate frame of its originals, where any of ``extents`` is
    known."""
    known = next((extent for extent in extents if extent is not None), None)
    if known is None:
        return field
    # Nothing lies on the missing cell of a row, so any extent is valid.
    stacked = np.stack([known if extent is None else extent for extent in extents]).astype(np.float32)
    frame = torch.from_numpy(modality.framing(stacked).astype(np.float32))
    return replace(field, frame=frame, extent=torch.from_numpy(stacked))
