"""``python -m benchmarks.transcription DATA [settings] [--seeds 3] [--streams sound,strip,noisy]``: spoken and written
digits.

``DATA`` holds ``train.csv``, ``valid.csv`` and ``valid_noisy.csv`` with the columns ``audio``, ``strip`` and ``text``
(``asr_digits``). ``sound`` and ``strip`` are trained with default settings and scored on ``valid.csv``; ``noisy`` reads
both, is trained with noise of its own, and is scored on ``valid_noisy.csv`` with the sound, with the strip and with both.
With ``--held-out`` the last fifth of ``train.csv`` takes the place of the other tables, to choose settings by. Prints one
JSON line for each model: word error rates with intervals, of the constant transcript, and the CPU seconds of training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sensorium as sm

NOISE = ["columns.audio.snr_db=-5", "columns.audio.voices=4", "columns.strip.noise=1.0"]
"""Noise in training, for rows that will be noisy: of their kind, up to a little louder, and not tuned."""
WAYS: dict[str, tuple[tuple[str, ...], Sequence[str]]] = {
    "sound": (("audio",), ()),
    "strip": (("strip",), ()),
    "noisy": (("audio", "strip"), NOISE),
}


def score(model: Any, table: Any, streams: Sequence[str]) -> dict[str, Any]:
    """Word and character error rates of ``model`` on ``table``, of which only ``streams`` are kept."""
    kept = sm.Table.read(table) if isinstance(table, Path) else table
    for name in set(model.schema.streams) - set(streams):
        kept = kept.with_column(name, [None] * len(kept))
    target = model.evaluate(kept).targets["text"]
    return {
        "wer": target.metrics["wer"],
        "interval": target.intervals["wer"],
        "cer": target.metrics["cer"],
        "constant": target.baseline["wer"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transcription", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--streams", default=",".join(WAYS), help="models, separated by commas")
    parser.add_argument("--held-out", action="store_true", help="score on the last fifth of the training rows")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_intermixed_args()
    train = sm.Table.read(options.data / "train.csv")
    cut = len(train) * 4 // 5
    known, held_out = train.take(range(cut)), train.take(range(cut, len(train)))
    for seed in range(options.seeds):
        for name in options.streams.split(","):
            streams, settings = WAYS[name]
            table: Any = options.data / ("valid_noisy.csv" if name == "noisy" else "valid.csv")
            rows, scored = (known, held_out) if options.held_out else (train, table)
            before = time.process_time()
            model = sm.fit(
                rows,
                target="text",
                task="transcription",
                ignore=[column for column in train.columns if column not in (*streams, "text")],
                overrides=[*settings, *options.overrides],
                seed=seed,
                quiet=True,
            )
            result: dict[str, Any] = {"model": name, "seed": seed, "cpu_seconds": round(time.process_time() - before)}
            for part in [*([one] for one in streams), *([list(streams)] if len(streams) > 1 else [])]:
                result["+".join(part)] = score(model, scored, part)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
