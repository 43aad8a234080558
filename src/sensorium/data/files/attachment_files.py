"""Media within answers as files: PNG and WAV, and as ``data:`` URLs where an answer must be one document."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from sensorium.core.answer import Attachment, changed


def encoded(one: Attachment) -> bytes:
    """The bytes of its file. Numbers of a mask are kept as they are; a palette makes people see colours."""
    out = io.BytesIO()
    if one.kind == "audio":
        import soundfile

        soundfile.write(out, one.data, one.rate, format="WAV", subtype="PCM_16")
        return out.getvalue()
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(one.data))
    if one.kind == "mask" and one.data.dtype == np.uint8:
        picture.putpalette(_palette())
    picture.save(out, format="PNG")
    return out.getvalue()


def _palette() -> list[int]:
    """A colour for each of 256 numbers, neighbours far apart: the bits of the number dealt out to red, green and blue."""
    each = ((number, channel) for number in range(256) for channel in range(3))
    return [sum((n >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for n, channel in each]


def address(one: Attachment) -> str:
    """As a ``data:`` URL."""
    return f"data:{one.media_type};base64,{base64.b64encode(encoded(one)).decode('ascii')}"


def plain(value: Any) -> Any:
    """An answer with its attachments as ``data:`` URLs: JSON all through."""
    return changed(value, address)
