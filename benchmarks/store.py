"""Speed of filling the store, compared with a bare loop that decodes and resizes or resamples the same files.

Both use the same number of threads. The bare loop stores nothing; filling the store also looks up cached cells, verifies
what it reads, writes and indexes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Cost, Results, Settings, compared, cost, interleaved, photos, sounds
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import encode
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table

Decode = Callable[[Path], Any]


def picture(size: tuple[int, int], mode: str, path: Path) -> Any:
    """Return a picture of ``size`` (width, height), decoded at reduced size if it is a JPEG, then resized."""
    from PIL import Image

    with Image.open(path) as file:
        file.draft(None, (2 * size[0], 2 * size[1]))
        image = file.convert(mode)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.asarray(image)


def sound(rate: int, path: Path) -> Any:
    """Return a mono recording at ``rate`` (Hz) as int16."""
    import soundfile
    import soxr

    samples, result = soundfile.read(path, dtype="float32")
    if result != rate:
        samples = soxr.resample(samples, result, rate)
    return (samples * 32768).round().clip(-32768, 32767).astype(np.int16)


def compare(
    name: str, kind: str, folder: Path, files: list[str], bare: Callable[[Any], Decode], settings: Settings
) -> Results:
    """Return two measures: CPU time and wall time."""
    table = Table.read({"cell": files}, root=folder)
    media = LocalFiles(folder, anywhere=True)
    schema = Schema.declare({"cell": kind})
    reader = schema.inputs[0].reader
    reader.fit([media.open(name) for name in files[:64]])
    workers = os.cpu_count() or 1
    decode = bare(reader.state)

    def ours() -> Cost:
        with tempfile.TemporaryDirectory() as empty:
            store = Store(Path(empty))
            return cost(lambda: encode(schema, table, media=media, store=store, workers=workers))

    def reference() -> Cost:
        def loop() -> None:
            with ThreadPoolExecutor(workers) as pool:
                for _ in pool.map(decode, [folder / name for name in files]):
                    pass

        return cost(loop)

    reference(), ours()
    mine, other = interleaved(ours, reference, settings.few(7, 1))
    scale = 1e6 / len(files)
    note = f"speed against the bare loop, {len(files)} files, {workers} threads"
    return [
        compared(
            f"store, {name}, {clock}",
            "µs a file",
            [getattr(c, clock) * scale for c in mine],
            [getattr(c, clock) * scale for c in other],
            inverse=True,
            at_least=0.85,
            note=note if clock == "wall" else "",
        )
        for clock in ("cpu", "wall")
    ]


def run(settings: Settings) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        large = photos(at / "jpg", settings.few(240, 4), (640, 480), ".jpg")
        small = photos(at / "png", settings.few(2000, 8), (28, 28), ".png")
        recordings = sounds(at / "wav", settings.few(1500, 8), 1.0, 16_000)

        def shrink(mode: str) -> Callable[[Any], Decode]:
            return lambda state: partial(picture, (state["width"], state["height"]), mode)

        return [
            *compare("JPEG 640×480", "image", at / "jpg", large, shrink("RGB"), settings),
            *compare("PNG 28×28", "image", at / "png", small, shrink("L"), settings),
            *compare("WAV of 1 s", "audio", at / "wav", recordings, lambda state: partial(sound, state["rate"]), settings),
        ]
