"""Feature maps of the last convolutions of each stream for one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorium.core.batch import Batch
from sensorium.core.layout import Grid
from sensorium.core.schema import Schema
from sensorium.model import Model
from sensorium.nn.feature_hooks import grids

Values = NDArray[Any]
SHOWN = 8


def feature_maps(model: Model, schema: Schema, batch: Batch, most: int = SHOWN) -> dict[str, Values]:
    """Return, by stream, the channels ``[C, *cells]`` of the last convolutions with the largest mean absolute activation.

    Missing streams and encoders without a grid are left out.

    Args:
        model: The model, in evaluation mode.
        schema: Its schema.
        batch: A batch of one prepared row.
        most: Number of channels per stream.
    """
    maps = {}
    for stream in model.encoders:
        layout, field = schema.layout(stream), batch.inputs[stream]
        if not isinstance(layout, Grid) or not bool(field.present[0]):
            continue
        with torch.no_grad(), grids(model.encoders[stream], len(layout.size)) as grids_of_stream:
            model.encoders[stream](field.data, field.mask)
        if grids_of_stream:
            last = grids_of_stream[-1][0].float().cpu().numpy()
            best = np.argsort(-np.abs(last).reshape(len(last), -1).mean(axis=1), kind="stable")[:most]
            maps[stream] = last[best]
    return maps
