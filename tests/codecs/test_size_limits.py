"""Small files with large contents are refused by their headers."""

from __future__ import annotations

import io

import numpy as np
import pytest

from sensorium.codecs import audio, series
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob
from sensorium.data.files.media_access import UPLOADS_ONLY


def test_parquet_values_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(arrow.table({"x": np.zeros(200_000), "y": np.ones(200_000)}), file, compression="zstd")
    data = file.getvalue()
    assert series.read_series(Blob(data, "a"), 10).shape == (200_000, 2)
    assert len(data) < 20_000
    monkeypatch.setattr(series, "VALUES", 399_999)
    with pytest.raises(CellError, match="200000 rows of 2 columns are more than"):
        series.read_series(Blob(data, "a"), 10)


def test_sound_samples_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(100_000), 8000, format="FLAC")
    blob = Blob(file.getvalue(), "a")
    assert len(blob.data) < 20_000
    assert len(audio.read_sound(blob, 60)[0]) == 100_000
    monkeypatch.setattr(audio, "SAMPLES", 99_999)
    with pytest.raises(CellError, match="100000 samples to read"):
        audio.read_sound(blob, 60)
    assert len(audio.read_sound(blob, 1)[0]) == 8000  # only decoded samples count


def test_only_wanted_lines_are_parsed() -> None:
    import tracemalloc

    data = b"\n" * 2_000_000 + b"1,2\r\n\r\n3,4\r" + b"5,6\n" * 500_000
    tracemalloc.start()
    steps = series.read_series(Blob(data, "a"), 3)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(steps[:3], [[1, 2], [3, 4], [5, 6]])
    assert most < 12 * len(data)  # the text is four bytes a character in a StringIO; a list of its lines would be far more


@pytest.mark.parametrize("content", [10**12, "text", [1, 2], 3.5])
def test_media_bytes_must_be_bytes(content: object) -> None:
    with pytest.raises(CellError, match="its bytes are of type"):
        UPLOADS_ONLY.open({"bytes": content, "path": "x"})
    with pytest.raises(CellError):
        UPLOADS_ONLY.open_several([{"bytes": content}])
