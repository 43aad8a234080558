"""Table cells as self-contained HTML: images, audio players, line plots or text."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.reporting.charts import sparkline

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

SIDE = 320  # pixels
SECONDS = 12  # of sound
LETTERS = 400
CELLS = 60
"""Maximum number of tabular cells shown for a row."""
TABLE = ("number", "category", "ordinal", "datetime", "tags", "missing")


def chosen(kinds: Mapping[str, str]) -> list[str]:
    """Return the columns to show (``kinds`` by column): all text and media, and the first ``CELLS`` tabular ones."""
    table = [name for name, kind in kinds.items() if kind in TABLE]
    hidden = set(table[CELLS:])
    return [name for name in kinds if name not in hidden]


def shown(cell: Any, kind: str, data: bytes | None, *, name: str) -> str:
    """Render one cell as HTML.

    Args:
        cell: The cell of the table.
        kind: The kind of its column: ``image``, ``audio``, ``series``; anything else is shown as text.
        data: The bytes of a media cell, if available.
        name: The column, used in alternative texts.
    """
    if cell is None and data is None:
        return '<span class="none">missing</span>'
    try:
        if kind == "image" and data is not None:
            return _image(data, name)
        if kind == "audio" and data is not None:
            return _audio(data, name)
        if kind == "series":
            return sparkline(_series(cell, data), title=f"{name}: a series")
    except (OSError, ValueError, RuntimeError) as error:
        # A damaged file explains a high loss, so it is shown rather than skipped.
        return f'<span class="none">cannot be shown: {escape(str(error)[:120])}</span>'
    return _words(cell)


def _words(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.6g}"
    if isinstance(cell, (bytes, bytearray)):
        return f'<span class="none">{len(cell):,} bytes</span>'
    text = str(cell)
    return escape(text if len(text) <= LETTERS else text[:LETTERS] + " …")


def _source(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def _image(data: bytes, name: str) -> str:
    """A thumbnail in a format that browsers display."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.draft("RGB", (SIDE, SIDE))
            upright = ImageOps.exif_transpose(opened)
            clear = "A" in upright.getbands() or "transparency" in upright.info
            picture = _eight_bit(upright).convert("RGBA" if clear else "RGB")
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"a damaged picture ({error})") from error
    picture.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    exact = clear or max(picture.size) <= 64
    if exact:
        picture.save(out, "PNG")
    else:
        picture.save(out, "JPEG", quality=82)
    source = _source("image/png" if exact else "image/jpeg", out.getvalue())
    return f'<img src="{source}" alt="{escape(name)}: a picture" loading="lazy">'


def _eight_bit(picture: PILImage) -> PILImage:
    """Scale 16-bit and floating-point images (medical, depth) to 8 bits by their minimum and maximum."""
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;"):
        return picture
    from PIL import Image

    deep = np.asarray(picture, dtype=np.float64)
    span = float(deep.max() - deep.min()) or 1.0
    return Image.fromarray(((deep - deep.min()) / span * 255).astype(np.uint8))


def _audio(data: bytes, name: str) -> str:
    """The first seconds as WAV, which every browser can play."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(data)) as opened:
        rate = opened.samplerate
        sound = opened.read(frames=rate * SECONDS, dtype="float32", always_2d=True).mean(axis=1)
    out = io.BytesIO()
    soundfile.write(out, sound, rate, format="WAV", subtype="PCM_16")
    line = sparkline(_envelope(sound), title=f"{name}: its waveform")
    label = f'aria-label="{escape(name)}: a sound"'
    return f'{line}<audio controls {label} preload="none" src="{_source("audio/wav", out.getvalue())}"></audio>'


def _envelope(sound: np.ndarray[Any, Any], points: int = 80) -> list[float]:
    """The minimum and maximum of each segment, for drawing a waveform."""
    parts = [part for part in np.array_split(sound, min(points, max(1, len(sound)))) if len(part)]
    return [float(edge) for part in parts for edge in (part.min(), part.max())]


_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def _series(cell: Any, data: bytes | None) -> Sequence[float]:
    """The first channel of a series: an array, a list, numbers in a text, or a ``.npy`` or ``.csv`` file."""
    if data is not None and data[:6] == b"\x93NUMPY":
        cell = np.load(io.BytesIO(data), allow_pickle=False)
    elif data is not None:
        rows = [_NUMBER.findall(line) for line in data.decode("utf-8", "replace").splitlines()]
        cell = [float(row[-1]) for row in rows if row]
    elif isinstance(cell, str):
        text = cell.strip()
        cell = json.loads(text) if text.startswith("[") else [float(match) for match in _NUMBER.findall(text)]
    values = np.asarray(cell, dtype=np.float64)
    if values.size == 0:
        raise ValueError("an empty series")
    flat: list[float] = (values if values.ndim == 1 else values.reshape(values.shape[0], -1)[:, 0]).tolist()
    return flat
