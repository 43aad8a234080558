"""What the last convolutions of each stream saw in one row: their strongest channels, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorium.core.batch import Batch
from sensorium.core.layout import Grid
from sensorium.core.schema import Schema
from sensorium.model import Model
from sensorium.nn.feature_hooks import grids
from sensorium.reporting.charts import shades
from sensorium.reporting.overlay import png, stretched

Values = NDArray[Any]
SHOWN = 8


def feature_maps(model: Model, schema: Schema, batch: Batch, most: int = SHOWN) -> dict[str, Values]:
    """By stream, the ``most`` strongest channels ``[C, *cells]`` of the last convolutions, of a single row.

    The strongest are those of the largest mean size. Streams that the row lacks and encoders without a grid are left out.
    """
    found = {}
    for stream in model.encoders:
        layout, field = schema.layout(stream), batch.inputs[stream]
        if not isinstance(layout, Grid) or not bool(field.present[0]):
            continue
        with torch.no_grad(), grids(model.encoders[stream], len(layout.size)) as seen:
            model.encoders[stream](field.data, field.mask)
        if seen:
            last = seen[-1][0].float().cpu().numpy()
            best = np.argsort(-np.abs(last).reshape(len(last), -1).mean(axis=1), kind="stable")[:most]
            found[stream] = last[best]
    return found


def pictured(maps: Mapping[str, Values], kinds: Mapping[str, str]) -> str:
    """Feature maps as safe HTML: a heading for each stream; light is strong.

    Args:
        kinds: The kind of each stream: of sound time goes to the right.
    """
    parts = []
    for stream, channels in maps.items():
        name = escape(stream)
        if channels.ndim == 2:
            inside = shades(channels.tolist(), [], title=f"feature maps of {stream}: a row a channel, over its length")
        else:
            flat = channels if channels.ndim == 3 else channels.mean(axis=1)
            turned = [one.T[::-1] if kinds.get(stream) == "audio" else one for one in flat]
            shown = [np.repeat((stretched(one) * 255).astype(np.uint8)[..., None], 3, axis=2) for one in turned]
            inside = "".join(
                f'<img src="{png(one, side=96)}" alt="{name}: strong channel {i + 1} of the last convolutions">'
                for i, one in enumerate(shown)
            )
        parts.append(f'<h3>{name}</h3><div class="frames">{inside}</div>')
    return "".join(parts)
