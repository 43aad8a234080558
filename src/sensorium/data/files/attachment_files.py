"""Media in answers as PNG or WAV files, or as ``data:`` URLs where the answer must be a single document."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from sensorium.core.answer import Attachment, map_attachments


def encode_attachment(attachment: Attachment) -> bytes:
    """Encode ``attachment`` as the bytes of a PNG or WAV file. Masks keep their numbers, with a palette for display."""
    out = io.BytesIO()
    if attachment.kind == "audio":
        import soundfile

        soundfile.write(out, attachment.data, attachment.rate, format="WAV", subtype="PCM_16")
        return out.getvalue()
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(attachment.data))
    if attachment.kind == "mask" and attachment.data.dtype == np.uint8:
        picture.putpalette(_palette())
    picture.save(out, format="PNG")
    return out.getvalue()


def _palette() -> list[int]:
    """256 colours, neighbours far apart: the bits of the number alternate between red, green and blue."""
    entries = ((number, channel) for number in range(256) for channel in range(3))
    return [sum((n >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for n, channel in entries]


def data_url(attachment: Attachment) -> str:
    """Return ``attachment`` as a ``data:`` URL."""
    return f"data:{attachment.media_type};base64,{base64.b64encode(encode_attachment(attachment)).decode('ascii')}"


def with_data_urls(value: Any) -> Any:
    """Return the answer ``value`` with its attachments as ``data:`` URLs, so that it is plain JSON."""
    return map_attachments(value, data_url)
