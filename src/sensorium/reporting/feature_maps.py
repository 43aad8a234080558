"""Feature maps as HTML: the strongest channels of each stream's last convolutions as images."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.reporting.charts import shades
from sensorium.reporting.overlay import png, stretched

Values = NDArray[Any]


def pictured(maps: Mapping[str, Values], kinds: Mapping[str, str]) -> str:
    """Render feature maps as safe HTML, with a heading for each stream; lighter is stronger.

    Args:
        maps: By stream, the channels ``[C, *cells]``.
        kinds: The kind of each stream; audio is drawn with time from left to right.
    """
    parts = []
    for stream, channels in maps.items():
        name = escape(stream)
        if channels.ndim == 2:
            inside = shades(channels.tolist(), [], title=f"feature maps of {stream}: one channel per row, along its length")
        else:
            flat = channels if channels.ndim == 3 else channels.mean(axis=1)
            turned = [channel.T[::-1] if kinds.get(stream) == "audio" else channel for channel in flat]
            shown = [np.repeat((stretched(channel) * 255).astype(np.uint8)[..., None], 3, axis=2) for channel in turned]
            inside = "".join(
                f'<img src="{png(channel, side=96)}" alt="{name}: strong channel {i + 1} of the last convolutions">'
                for i, channel in enumerate(shown)
            )
        parts.append(f'<h3>{name}</h3><div class="frames">{inside}</div>')
    return "".join(parts)
