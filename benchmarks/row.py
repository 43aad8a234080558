"""One row from raw files to an answer, by a warm predictor and by hand: Pillow, soundfile, the same network."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Cost, Results, Settings, compared, interleaved
from benchmarks.store import picture, sound


def run(settings: Settings) -> Results:
    import torch

    import sensorium as sm
    from sensorium.core.batch import Batch, Field
    from sensorium.data.media import Under
    from sensorium.data.synthetic import make
    from sensorium.data.table import Table

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
        media = Under(root, anywhere=True)
        seen, heard = schema.columns["photo"].reader.state, schema.columns["sound"].reader.state
        mode = "L" if seen["channels"] == 1 else "RGB"
        yes, one = torch.ones(1, dtype=torch.bool), torch.ones(1)

        def by_hand(row: dict[str, Any]) -> list[float]:
            pixels = picture((seen["width"], seen["height"]), mode, root / row["photo"])
            pixels = pixels.reshape(seen["height"], seen["width"], -1).transpose(2, 0, 1)
            samples = sound(heard["rate"], root / row["sound"])[: heard["length"]]
            batch = Batch(
                {
                    "photo": Field(torch.from_numpy(np.ascontiguousarray(pixels))[None], yes),
                    "sound": Field(torch.from_numpy(samples)[None], yes, torch.ones(1, len(samples), dtype=torch.bool)),
                },
                {},
                one,
            )
            with torch.inference_mode():
                chances: list[float] = model(schema.prepare(batch))["event"].softmax(dim=1)[0].tolist()
            return chances

        for row in rows[:8]:
            answer = predictor.predict([row], media=media)[0].targets["event"]["probabilities"]
            if not np.allclose(list(answer.values()), by_hand(row), atol=1e-4):
                raise AssertionError("the two ways answer differently")

        def timed(work: Any) -> Cost:
            cpu, wall = time.process_time(), time.perf_counter()
            for row in rows:
                work(row)
            return Cost((time.process_time() - cpu) / len(rows), (time.perf_counter() - wall) / len(rows))

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            mine, other = interleaved(
                lambda: timed(lambda row: predictor.predict([row], media=media)),
                lambda: timed(by_hand),
                settings.few(15, 1),
            )
        finally:
            torch.set_num_threads(before)
    note = "picture and sound, small preset, one torch thread; the reference decodes and runs the same network by hand"
    return [
        compared(
            f"one row, warm, {clock}",
            "ms",
            [1000 * getattr(c, clock) for c in mine],
            [1000 * getattr(c, clock) for c in other],
            at_most=1.5,
            note=note if clock == "wall" else "",
        )
        for clock in ("cpu", "wall")
    ]
