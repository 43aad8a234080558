"""Large images are converted in bands, bit-identically to a conversion at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensorium.codecs import image
from sensorium.codecs.audio import sound_length
from sensorium.core.modality import Blob
from sensorium.signal import bit_depth

MODES = ("RGBA", "LA", "RGB", "L", "P", "CMYK", "1", "YCbCr")


def pictures() -> list[Any]:
    base = Image.fromarray(np.random.default_rng(0).integers(0, 255, (97, 61, 4), np.uint8), "RGBA")
    converted = [base.convert(mode) for mode in MODES]
    few = base.convert("RGB").quantize(50)
    for clear in (3, bytes(range(50))):
        one = few.copy()
        one.info["transparency"] = clear
        converted.append(one)
    for mode, colour in (("RGB", (1, 2, 3)), ("L", 7)):
        one = base.convert(mode)
        one.info["transparency"] = colour
        converted.append(one)
    return converted


def test_mode_conversion_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in pictures():
        whole = image._plain(one, None)
        with monkeypatch.context() as patch:
            patch.setattr(image, "_BAND", 100)
            banded = image._plain(one, None)
        assert (whole.mode, whole.size) == (banded.mode, banded.size)
        assert whole.tobytes() == banded.tobytes(), one.mode


def test_bit_depth_conversion_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    floats = draw.normal(size=(31, 17)).astype(np.float32)
    floats[0, 0], floats[3, 3], floats[4, 4] = np.nan, np.inf, -np.inf
    for values in (
        draw.integers(0, 65535, (31, 17), np.uint16),
        draw.integers(-5, 2**31 - 1, (31, 17)).astype(np.int32),
        floats,
        floats * 1000,
        draw.random((31, 17, 1)),
        np.zeros((0, 3), np.uint16),
    ):
        whole = bit_depth.alone(values), bit_depth.to_uint8(values, (3.0, 900.0))
        with monkeypatch.context() as patch:
            patch.setattr(bit_depth, "_BAND", 50)
            banded = bit_depth.alone(values), bit_depth.to_uint8(values, (3.0, 900.0))
        for one, other in zip(whole, banded, strict=True):
            np.testing.assert_array_equal(one, other)


def test_png_size_is_read_from_the_header() -> None:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (70_000).to_bytes(4, "big") + (3).to_bytes(4, "big")
    assert image.pixel_count(Blob(head, "a.png")) == 210_000
    assert image.pixel_count(Blob(head[:20], "a.png")) == 0


def test_sound_length_counts_all_channels() -> None:
    import io

    import soundfile

    for kind in ("WAV", "FLAC"):
        file = io.BytesIO()
        soundfile.write(file, np.zeros((4000, 2), np.int16), 8000, format=kind)
        assert sound_length(Blob(file.getvalue(), "a")) == (0.5, 8000)
    assert sound_length(Blob(b"nothing", "a")) == (0.0, 0)
