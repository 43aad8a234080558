"""Time per row of prediction from raw files, for one row and for batches of 64, by a warm predictor and by a hand-written
script (Pillow, soundfile, the same network)."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Cost, Results, Settings, compared, interleaved
from benchmarks.store import picture, sound

BATCH = 64


def run(settings: Settings) -> Results:
    import torch

    import sensorium as sm
    from sensorium.core.batch import Batch, Field
    from sensorium.data.files.media_access import LocalFiles
    from sensorium.data.synthetic import make
    from sensorium.data.tables.table import Table

    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        tables = make(at / "data", rows=settings.few(300, 60), holes=0.0, valid=0.2, test=0.2)
        trained = sm.fit(
            tables["train"],
            target="event",
            valid=tables["valid"],
            ignore=["when", "room", "note", "sensor", "temperature"],
            overrides=["training.epochs=1", "model.size=small"],
            cache=at / "cache",
            quiet=True,
        )
        root = tables["test"].parent
        test = Table.read(tables["test"])
        rows = [{name: test.row(i)[name] for name in ("photo", "sound")} for i in range(len(test))]
        predictor, schema, model = trained.predictor, trained.schema, trained.model
        media = LocalFiles(root, anywhere=True)
        image_state, sound_state = schema.columns["photo"].reader.state, schema.columns["sound"].reader.state
        mode = "L" if image_state["channels"] == 1 else "RGB"

        def by_hand(batch_rows: list[dict[str, Any]]) -> list[list[float]]:
            pixels, waves = [], []
            for row in batch_rows:
                pixel_array = picture((image_state["width"], image_state["height"]), mode, root / row["photo"])
                pixels.append(pixel_array.reshape(image_state["height"], image_state["width"], -1).transpose(2, 0, 1))
                waves.append(sound(sound_state["rate"], root / row["sound"])[: sound_state["length"]])
            lengths = np.array([len(wave) for wave in waves])
            samples = np.zeros((len(batch_rows), lengths.max()), waves[0].dtype)
            for wave, into in zip(waves, samples, strict=True):
                into[: len(wave)] = wave
            present, real = torch.ones(len(batch_rows), dtype=torch.bool), np.arange(lengths.max()) < lengths[:, None]
            batch = Batch(
                {
                    "photo": Field(torch.from_numpy(np.stack(pixels)), present),
                    "sound": Field(torch.from_numpy(samples), present, torch.from_numpy(real)),
                },
                {},
                torch.ones(len(batch_rows)),
            )
            with torch.inference_mode():
                chances: list[list[float]] = model(schema.prepare(batch))["event"].softmax(dim=1).tolist()
            return chances

        for batch_rows in (rows[:1], rows[:8]):
            answers = [p.targets["event"]["probabilities"] for p in predictor.predict(batch_rows, media=media)]
            if not np.allclose([list(answer.values()) for answer in answers], by_hand(batch_rows), atol=1e-4):
                raise AssertionError("the predictor and the script answer differently")

        def timed(work: Any, size: int) -> Cost:
            cpu, wall = time.process_time(), time.perf_counter()
            for start in range(0, len(rows), size):
                work(rows[start : start + size])
            return Cost((time.process_time() - cpu) / len(rows), (time.perf_counter() - wall) / len(rows))

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            costs = {
                size: interleaved(
                    partial(timed, lambda batch_rows: predictor.predict(batch_rows, media=media), size),
                    partial(timed, by_hand, size),
                    settings.few(15, 1),
                )
                for size in (1, BATCH)
            }
        finally:
            torch.set_num_threads(before)
    note = "picture and sound, small preset, one torch thread; the reference decodes and runs the same network by hand"
    return [
        compared(
            f"{'one row' if size == 1 else f'a row, {size} at a time'}, warm, {clock}",
            "ms",
            [1000 * getattr(c, clock) for c in mine],
            [1000 * getattr(c, clock) for c in other],
            at_most=1.5,
            note=note if clock == "wall" and size == 1 else "",
        )
        for size, (mine, other) in costs.items()
        for clock in ("cpu", "wall")
    ]
