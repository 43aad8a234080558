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


def drawn(one: Map) -> str:
    """Render the map ``one`` as HTML, or the reason why there is none."""
    if one.note:
        return f'<p class="none">{escape(one.note)}</p>'
    inside = _DRAWN[one.layout](one)
    return f'<figure class="map">{inside}<figcaption>{escape(caption(one))}</figcaption></figure>'


def pictures(one: Map) -> list[str]:
    """Return the map ``one`` overlaid on its input as PNGs (``data:`` URLs), one per image, spectrogram or frame."""
    if one.note or one.layout != "grid" or one.data.ndim < 3:
        return []
    heat = one.values.sum(axis=0)
    top = strongest(heat)
    mean, deviation = one.scale
    if one.data.ndim == 4:
        return [
            png(painted(seen(one.data[:, i], mean, deviation), heat[i], top), side=144) for i in _spread(len(heat), FRAMES)
        ]
    if one.kind == "audio":  # time to the right, high tones above
        return [png(painted(stretched(one.data[0]).T[::-1], heat.T[::-1], top))]
    return [png(painted(seen(one.data, mean, deviation), heat, top))]


def to_json(one: Map) -> dict[str, Any]:
    """Return the map ``one`` as JSON-serialisable data; grids are reduced to at most ``CELLS`` cells per axis."""
    grid = one.layout == "grid" and not one.note
    return {
        "row": one.row,
        "target": one.target,
        "what": one.what,
        "stream": one.stream,
        "kind": one.kind,
        "layout": one.layout,
        "explainer": one.explainer,
        "value": one.value if not one.note else None,
        "blank": one.blank,
        "note": one.note,
        "summary": "" if one.note else summary(one),
        "values": [] if one.note else np.round(coarse(one.values) if grid else one.values, 6).tolist(),
        "scale": scale(one) if one.names else None,
        "names": [[name, round(value, 6)] for name, value in one.named()] if one.names else [],
        "pictures": pictures(one),
        "html": drawn(one),
    }


def coarse(values: Values, most: int = CELLS) -> Values:
    """Reduce the grid ``values`` to at most ``most`` cells per axis by summing neighbours, which preserves the total."""
    for axis in range(1, values.ndim):
        starts = np.unique(np.linspace(0, values.shape[axis], min(most, values.shape[axis]), endpoint=False).astype(int))
        values = np.add.reduceat(values, starts, axis=axis)
    return values


def caption(one: Map) -> str:
    """Return the caption of the map ``one``: its summary, the method and what the values sum to."""
    without = "without it" if one.explainer == "shapley" and one.layout != "grid" else "with a blank input"
    sums = f"sums to {one.value:.3f} minus {one.blank:.3f} {without}" if one.blank is not None else "ranks only"
    return f"{FOR_IT} {summary(one)} ({one.explainer}, all other streams held fixed: {sums})"


def summary(one: Map) -> str:
    """Return a sentence that names the strongest parts of the map ``one``."""
    if one.names:
        named = one.named()
        informative = [pair for pair in named if one.layout != "ids" or _is_word(pair[0])]
        ranked = sorted(informative, key=lambda pair: -abs(pair[1]))
        strong = [f"{name.strip()} {value:+.3f}" for name, value in ranked[:3] if value]
        if not strong and any(value for _, value in named):
            return "Only punctuation affects the prediction."
        return f"Strongest: {', '.join(strong)}." if strong else "Nothing affects the prediction."
    if one.layout != "grid":
        place = int(np.abs(one.values).argmax())
        return f"Strongest: {'node' if one.layout == 'graph' else 'point'} {place + 1}, {one.values[place]:+.3f}."
    heat = np.abs(coarse(one.values, 8)).sum(axis=0) if one.values.ndim > 2 else np.abs(coarse(one.values, 8))
    if not heat.any():
        return "Nothing affects the prediction."
    cell = [int(p) for p in np.unravel_index(int(heat.argmax()), heat.shape)]
    share = [f"{100 * p // n} to {100 * (p + 1) // n} %" for p, n in zip(cell, heat.shape, strict=True)]
    if one.values.ndim == 2:
        channel = f"channel {cell[0] + 1}, " if heat.shape[0] > 1 else ""
        return f"Strongest: {channel}{share[1]} of the length."
    if one.kind == "audio":
        return f"Strongest: {share[0]} of the time, {share[1]} of the frequency range."
    frame = f"frame {cell[0] + 1}, " if heat.ndim == 3 else ""
    return f"Strongest: {frame}{share[-2]} from the top, {share[-1]} from the left."


def _is_word(word: str) -> bool:
    """Whether a text holds more than spaces and punctuation."""
    return any(unicodedata.category(letter)[0] not in "PZC" for letter in word)


def _grid(one: Map) -> str:
    if one.data.ndim == 2:
        return _vector(one) if one.data.shape[1] == 1 else _series(one)
    title = escape(f"{one.stream}: {summary(one)}")
    made = "".join(f'<img src="{picture}" alt="{title}">' for picture in pictures(one))
    if one.kind != "audio":
        return f'<div class="frames">{made}</div>'
    line = one.sound if one.sound.size else one.data[0].mean(axis=1)
    return made + coloured_line(envelope(line), one.values.sum(axis=(0, 2)), title=f"{one.stream} along its waveform")


def _series(one: Map) -> str:
    shown = np.argsort(-np.abs(one.values).sum(axis=1), kind="stable")[:CHANNELS]
    top = float(np.abs(coarse(one.values, 64)).max(initial=0.0))
    wave = one.kind == "audio"
    lines = []
    for channel in sorted(shown.tolist()):
        name = f"{one.stream} along its waveform" if wave else f"{one.stream}, channel {channel + 1}"
        line = envelope(one.data[channel]) if wave else one.data[channel].tolist()
        label = "" if wave or len(one.data) == 1 else str(channel + 1)
        heat = one.values[channel if len(one.values) > 1 else 0]
        lines.append(coloured_line(line, heat, title=name, top=top, label=label))
    return "".join(lines)


def _vector(one: Map) -> str:
    return _bars(one, [f"number {i + 1}" for i in range(len(one.values))], one.values[:, 0])


def scale(one: Map) -> float:
    """Return the value that gets the darkest colour in the text map ``one``, so that weak words stay pale.

    It is the difference between the output and the baseline output, and at least ``LEAST`` of the output; if values only
    rank words, or a single word exceeds it, it is the largest value.
    """
    strong = max((abs(value) for _, value in one.named()), default=0.0)
    if not one.measured and one.blank is None:
        return strong
    blank = one.value if one.blank is None else one.blank
    return max(strong, abs(one.value - blank), LEAST * max(abs(one.value), abs(blank)))


def _words(one: Map) -> str:
    named, top = one.named(), scale(one)
    marks = "".join(
        f'<span style="background:{rgba(value, top, faint=0.0)}" title="{value:+.4f}">{escape(name)}</span>'
        for name, value in named
    )
    return f'<p class="marked">{marks}</p>'


def _cells(one: Map) -> str:
    named = one.named()
    return _bars(one, [name for name, _ in named], np.array([value for _, value in named]))


def _nodes(one: Map) -> str:
    return _bars(one, [f"node {i + 1}" for i in range(len(one.values))], one.values)


def _bars(one: Map, names: Sequence[str], values: Values) -> str:
    best = np.argsort(-np.abs(values), kind="stable")[:BARS].tolist()
    return bar_chart([Bar(names[i], float(values[i])) for i in best], title=f"{one.stream}: {summary(one)}", signed=True)


def _points(one: Map) -> str:
    top = float(np.abs(one.values).max(initial=0.0))
    colours = [rgba(value, top) for value in one.values.tolist()]
    views = [(0, 1, "side view"), (0, 2, "top view")]
    return "".join(
        dots(one.data[:, a].tolist(), one.data[:, b].tolist(), colours, title=f"{one.stream} {name}: {summary(one)}")
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
