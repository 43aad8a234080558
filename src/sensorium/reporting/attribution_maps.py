"""Attribution maps as self-contained HTML, by layout, with a one-sentence summary."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.charts import coloured_line, dots
from sensorium.reporting.overlay import painted, png, rgba, seen, stretched

if TYPE_CHECKING:
    from sensorium.evaluation.attribution import Map

Values = NDArray[Any]
LEAST = 0.2
"""Share of the output that a word must contribute to get the darkest colour if the whole text contributes less."""
CHANNELS, FRAMES, BARS, CELLS = 8, 8, 12, 32
FOR_IT = "Orange supports the prediction, blue opposes it."


def drawn(attribution_map: Map) -> str:
    """Render ``attribution_map`` as HTML, or the reason why there is none."""
    if attribution_map.note:
        return f'<p class="none">{escape(attribution_map.note)}</p>'
    inside = _DRAWN[attribution_map.layout](attribution_map)
    return f'<figure class="map">{inside}<figcaption>{escape(caption(attribution_map))}</figcaption></figure>'


def pictures(attribution_map: Map) -> list[str]:
    """Return ``attribution_map`` overlaid on its input as PNGs (``data:`` URLs), one per image, spectrogram or frame."""
    if attribution_map.note or attribution_map.layout != "grid" or attribution_map.data.ndim < 3:
        return []
    heat = attribution_map.values.sum(axis=0)
    top = strongest(heat)
    mean, deviation = attribution_map.scale
    if attribution_map.data.ndim == 4:
        return [
            png(painted(seen(attribution_map.data[:, i], mean, deviation), heat[i], top), side=144)
            for i in _spread(len(heat), FRAMES)
        ]
    if attribution_map.kind == "audio":  # time to the right, high tones above
        return [png(painted(stretched(attribution_map.data[0]).T[::-1], heat.T[::-1], top))]
    return [png(painted(seen(attribution_map.data, mean, deviation), heat, top))]


def to_json(attribution_map: Map) -> dict[str, Any]:
    """Return ``attribution_map`` as JSON-serialisable data; grids are reduced to at most ``CELLS`` cells per axis."""
    grid = attribution_map.layout == "grid" and not attribution_map.note
    return {
        "row": attribution_map.row,
        "target": attribution_map.target,
        "what": attribution_map.what,
        "stream": attribution_map.stream,
        "kind": attribution_map.kind,
        "layout": attribution_map.layout,
        "explainer": attribution_map.explainer,
        "value": attribution_map.value if not attribution_map.note else None,
        "blank": attribution_map.blank,
        "note": attribution_map.note,
        "summary": "" if attribution_map.note else summary(attribution_map),
        "values": []
        if attribution_map.note
        else np.round(coarse(attribution_map.values) if grid else attribution_map.values, 6).tolist(),
        "scale": scale(attribution_map) if attribution_map.names else None,
        "names": [[name, round(value, 6)] for name, value in attribution_map.named()] if attribution_map.names else [],
        "pictures": pictures(attribution_map),
        "html": drawn(attribution_map),
    }


def coarse(values: Values, most: int = CELLS) -> Values:
    """Reduce the grid ``values`` to at most ``most`` cells per axis by summing neighbours, which preserves the total."""
    for axis in range(1, values.ndim):
        starts = np.unique(np.linspace(0, values.shape[axis], min(most, values.shape[axis]), endpoint=False).astype(int))
        values = np.add.reduceat(values, starts, axis=axis)
    return values


def caption(attribution_map: Map) -> str:
    """Return the caption of ``attribution_map``: its summary, the method and what the values sum to."""
    without = (
        "without it"
        if attribution_map.explainer == "shapley" and attribution_map.layout != "grid"
        else "with a blank input"
    )
    sums = (
        f"sums to {attribution_map.value:.3f} minus {attribution_map.blank:.3f} {without}"
        if attribution_map.blank is not None
        else "ranks only"
    )
    return f"{FOR_IT} {summary(attribution_map)} ({attribution_map.explainer}, all other streams held fixed: {sums})"


def summary(attribution_map: Map) -> str:
    """Return a sentence that names the strongest parts of ``attribution_map``."""
    if attribution_map.names:
        named = attribution_map.named()
        informative = [pair for pair in named if attribution_map.layout != "ids" or _is_word(pair[0])]
        ranked = sorted(informative, key=lambda pair: -abs(pair[1]))
        strong = [f"{name.strip()} {value:+.3f}" for name, value in ranked[:3] if value]
        if not strong and any(value for _, value in named):
            return "Only punctuation affects the prediction."
        return f"Strongest: {', '.join(strong)}." if strong else "Nothing affects the prediction."
    if attribution_map.layout != "grid":
        place = int(np.abs(attribution_map.values).argmax())
        part = "node" if attribution_map.layout == "graph" else "point"
        return f"Strongest: {part} {place + 1}, {attribution_map.values[place]:+.3f}."
    heat = (
        np.abs(coarse(attribution_map.values, 8)).sum(axis=0)
        if attribution_map.values.ndim > 2
        else np.abs(coarse(attribution_map.values, 8))
    )
    if not heat.any():
        return "Nothing affects the prediction."
    cell = [int(p) for p in np.unravel_index(int(heat.argmax()), heat.shape)]
    share = [f"{100 * p // n} to {100 * (p + 1) // n} %" for p, n in zip(cell, heat.shape, strict=True)]
    if attribution_map.values.ndim == 2:
        channel = f"channel {cell[0] + 1}, " if heat.shape[0] > 1 else ""
        return f"Strongest: {channel}{share[1]} of the length."
    if attribution_map.kind == "audio":
        return f"Strongest: {share[0]} of the time, {share[1]} of the frequency range."
    frame = f"frame {cell[0] + 1}, " if heat.ndim == 3 else ""
    return f"Strongest: {frame}{share[-2]} from the top, {share[-1]} from the left."


def _is_word(word: str) -> bool:
    """Whether a text holds more than spaces and punctuation."""
    return any(unicodedata.category(letter)[0] not in "PZC" for letter in word)


def _grid(attribution_map: Map) -> str:
    if attribution_map.data.ndim == 2:
        return _vector(attribution_map) if attribution_map.data.shape[1] == 1 else _series(attribution_map)
    title = escape(f"{attribution_map.stream}: {summary(attribution_map)}")
    made = "".join(f'<img src="{picture}" alt="{title}">' for picture in pictures(attribution_map))
    if attribution_map.kind != "audio":
        return f'<div class="frames">{made}</div>'
    line = attribution_map.sound if attribution_map.sound.size else attribution_map.data[0].mean(axis=1)
    return made + coloured_line(
        envelope(line), attribution_map.values.sum(axis=(0, 2)), title=f"{attribution_map.stream} along its waveform"
    )


def _series(attribution_map: Map) -> str:
    shown = np.argsort(-np.abs(attribution_map.values).sum(axis=1), kind="stable")[:CHANNELS]
    top = float(np.abs(coarse(attribution_map.values, 64)).max(initial=0.0))
    wave = attribution_map.kind == "audio"
    lines = []
    for channel in sorted(shown.tolist()):
        name = (
            f"{attribution_map.stream} along its waveform" if wave else f"{attribution_map.stream}, channel {channel + 1}"
        )
        line = envelope(attribution_map.data[channel]) if wave else attribution_map.data[channel].tolist()
        label = "" if wave or len(attribution_map.data) == 1 else str(channel + 1)
        heat = attribution_map.values[channel if len(attribution_map.values) > 1 else 0]
        lines.append(coloured_line(line, heat, title=name, top=top, label=label))
    return "".join(lines)


def _vector(attribution_map: Map) -> str:
    return _bars(
        attribution_map, [f"number {i + 1}" for i in range(len(attribution_map.values))], attribution_map.values[:, 0]
    )


def scale(attribution_map: Map) -> float:
    """Return the value that gets the darkest colour in the text map ``attribution_map``, so that weak words stay pale.

    It is the difference between the output and the baseline output, and at least ``LEAST`` of the output; if values only
    rank words, or a single word exceeds it, it is the largest value.
    """
    strong = max((abs(value) for _, value in attribution_map.named()), default=0.0)
    if not attribution_map.measured and attribution_map.blank is None:
        return strong
    blank = attribution_map.value if attribution_map.blank is None else attribution_map.blank
    return max(strong, abs(attribution_map.value - blank), LEAST * max(abs(attribution_map.value), abs(blank)))


def _words(attribution_map: Map) -> str:
    named, top = attribution_map.named(), scale(attribution_map)
    marks = "".join(
        f'<span style="background:{rgba(value, top, faint=0.0)}" title="{value:+.4f}">{escape(name)}</span>'
        for name, value in named
    )
    return f'<p class="marked">{marks}</p>'


def _cells(attribution_map: Map) -> str:
    named = attribution_map.named()
    return _bars(attribution_map, [name for name, _ in named], np.array([value for _, value in named]))


def _nodes(attribution_map: Map) -> str:
    return _bars(attribution_map, [f"node {i + 1}" for i in range(len(attribution_map.values))], attribution_map.values)


def _bars(attribution_map: Map, names: Sequence[str], values: Values) -> str:
    best = np.argsort(-np.abs(values), kind="stable")[:BARS].tolist()
    return bar_chart(
        [Bar(names[i], float(values[i])) for i in best],
        title=f"{attribution_map.stream}: {summary(attribution_map)}",
        signed=True,
    )


def _points(attribution_map: Map) -> str:
    top = float(np.abs(attribution_map.values).max(initial=0.0))
    colours = [rgba(value, top) for value in attribution_map.values.tolist()]
    views = [(0, 1, "side view"), (0, 2, "top view")]
    return "".join(
        dots(
            attribution_map.data[:, a].tolist(),
            attribution_map.data[:, b].tolist(),
            colours,
            title=f"{attribution_map.stream} {name}: {summary(attribution_map)}",
        )
        for a, b, name in views
    )


def strongest(heat: Values) -> float:
    """Return the value of ``heat`` that gets the darkest colour: its 99th percentile, which is robust to outliers."""
    size = np.abs(heat[heat != 0])
    return float(np.quantile(size, 0.99)) if size.size else 0.0


def envelope(sound: Values, points: int = 120) -> list[float]:
    """Return the minimum and maximum of ``sound`` in each of ``points`` segments, for drawing a waveform."""
    parts = [part for part in np.array_split(sound, min(points, max(1, len(sound)))) if len(part)]
    return [float(edge) for part in parts for edge in (part.min(), part.max())]


def _spread(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()  # type: ignore[no-any-return]


_DRAWN: dict[str, Callable[[Map], str]] = {
    "grid": _grid,
    "ids": _words,
    "row": _cells,
    "points": _points,
    "graph": _nodes,
}
