"""``python -m benchmarks.segmentation FOLDER [--seeds 3]``: masks of chest X-rays with default settings.

FOLDER holds ``train.csv``, ``valid.csv`` and ``test.csv`` with the columns ``image`` and ``mask`` (covid_seg). Prints one
JSON line for each seed: scores on the test rows, as the model reports them and again in the pixels of the files themselves,
those of the position prior (the mean mask of the training rows), and the CPU seconds of training.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


def intersection_over_union(true: Sequence[Numbers], answered: Sequence[Numbers]) -> dict[int, float]:
    """The IoU of each class over the pixels of all images together, from masks of class numbers."""
    both = [(np.asarray(t).ravel(), np.asarray(a).ravel()) for t, a in zip(true, answered, strict=True)]
    results = {}
    for value in np.unique(np.concatenate([part for pair in both for part in pair])).tolist():
        shared = sum(int(((t == value) & (a == value)).sum()) for t, a in both)
        either = sum(int(((t == value) | (a == value)).sum()) for t, a in both)
        results[value] = shared / either
    return results


def in_user_pixels(folder: Path, model: Any) -> dict[str, float]:
    """The IoU of the answers in the pixels of the user's own files."""
    import csv

    from PIL import Image

    with (folder / "test.csv").open(newline="", encoding="utf-8") as file:
        true = [np.array(Image.open(folder / row["mask"])) for row in csv.DictReader(file)]
    answered = [prediction.targets["mask"]["value"].data for prediction in model.predict(folder / "test.csv")]
    each = intersection_over_union(true, answered)
    return {"mean_iou": float(np.mean(list(each.values()))), **{f"iou_{value}": score for value, score in each.items()}}


def measured(folder: Path, seed: int, overrides: Sequence[str], *, robustness: bool = False) -> dict[str, Any]:
    """The scores of one seed; ``robustness``: also those with corrupted and removed streams."""
    import sensorium as sm

    ignored = ["id", "opacity_mask", "patient"]
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()
    model = sm.fit(
        folder / "train.csv",
        valid=folder / "valid.csv",
        target="mask",
        ignore=ignored,
        seed=seed,
        overrides=list(overrides),
        quiet=True,
    )
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    evaluated = model.evaluate(folder / "test.csv", robustness=robustness)
    evaluation = evaluated.targets["mask"]
    return {
        "seed": seed,
        "cpu_seconds": round(seconds),
        "wall_seconds": round(time.perf_counter() - begun),
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "metrics": evaluation.metrics,
        "robustness": evaluated.robustness["mask"].to_json() if robustness else None,
        "interval": evaluation.intervals["mean_iou"],
        "position_prior": evaluation.baseline,
        "in_user_pixels": in_user_pixels(folder, model),
        "valid": max(record["valid_mean_iou_mask"] for record in model.history),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segmentation", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.csv, valid.csv and test.csv")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--robustness", action="store_true", help="also with noise, occlusion, blur and half the size")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_intermixed_args()
    for seed in range(options.seeds):
        print(json.dumps(measured(options.folder, seed, options.overrides, robustness=options.robustness)), flush=True)


if __name__ == "__main__":
    main()
