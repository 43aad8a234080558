"""Forecasts of ts_basicmotions: the last 20 of 100 steps of 6 channels from the first 80.

``python -m benchmarks.forecasting DATA`` reads ``train.csv``, ``valid.csv`` and ``test.csv`` of the folder ``DATA``.
Training windows are cut from training and validation recordings; two recordings of each class are held out, by seed.
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import sensorium as sm

PAST, AHEAD, FIRST, STRIDE = 80, 20, 50, 1
HELD_OUT = 2
SETTINGS = ["training.epochs=10", "training.lr=0.003", "training.batch_size=64", "model.size=tiny"]


def recordings(folder: Path, name: str) -> list[tuple[Any, str]]:
    """Return the recordings ``[100, 6]`` of the table ``name`` in ``folder``, each with its class."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [(np.load(folder / row["series"]), row["label"]) for row in csv.DictReader(file)]


def windows(every: list[Any], first: int) -> list[dict[str, Any]]:
    """Return the windows of the recordings ``every`` whose forecasts start at the steps ``first`` to 80."""
    ends = range(PAST, first - 1, -STRIDE)
    return [{"past": x[:end].tolist(), "future": x[end : end + AHEAD].tolist()} for x in every for end in ends]


def run(folder: Path, seed: int) -> dict[str, float]:
    """Return scores on the test recordings of ``folder``, CPU seconds, and the MASE of simple methods, for ``seed``."""
    every = recordings(folder, "train") + recordings(folder, "valid")
    draw = np.random.default_rng(seed)
    held: set[int] = set()
    for label in sorted({label for _, label in every}):
        held |= set(draw.permutation([i for i, recording in enumerate(every) if recording[1] == label])[:HELD_OUT].tolist())
    train = windows([x for i, (x, _) in enumerate(every) if i not in held], FIRST)
    valid = windows([x for i, (x, _) in enumerate(every) if i in held], FIRST)
    start = time.process_time()
    model = sm.fit(train, valid=valid, target="future", task="forecasting", seed=seed, overrides=SETTINGS, quiet=True)
    seconds = time.process_time() - start
    evaluation = model.evaluate(windows([x for x, _ in recordings(folder, "test")], PAST)).targets["future"]
    simple = next(view for view in evaluation.views if view.name == "simple_methods").to_json()
    return {**evaluation.metrics, "seconds": seconds, **{row["method"]: row["MASE"] for row in simple[1:]}}


def main() -> None:
    """Print the scores of three seeds, then mean and spread."""
    scores = [run(Path(sys.argv[1]), seed) for seed in range(3)]
    for name in scores[0]:
        values = [result[name] for result in scores]
        listed = ", ".join(f"{value:.3f}" for value in values)
        print(f"{name:16} {statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}   ({listed})")


if __name__ == "__main__":
    main()
