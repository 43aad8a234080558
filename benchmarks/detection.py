"""``python -m benchmarks.detection FOLDER [--seeds 3]``: boxes of blood cells.

FOLDER holds ``train.json``, ``valid.json`` and ``test.json`` as COCO writes them (bccd). Prints a JSON line for each seed:
scores on the test images, average precision of each class, the error of counting beside that of the mean count, the scores
of the mean boxes of the training rows, the best score on the validation images, and the CPU seconds of training.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = ("columns.image.flip=both", "training.batch_size=4", "training.epochs=40")
"""Settings used unless others are given: cells have no upright; 2,080 steps fit into four CPU minutes."""


def counts(path: Path) -> list[Counter[str]]:
    """Return the number of boxes of each class in every image of a COCO file."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in document["categories"]}
    labels: dict[Any, Counter[str]] = {one["id"]: Counter() for one in document["images"]}
    for one in document["annotations"]:
        labels[one["image_id"]][names[one["category_id"]]] += 1
    return list(labels.values())


def counting_errors(folder: Path, model: Any) -> dict[str, dict[str, float]]:
    """The mean absolute error of the number of boxes of each class in a test image, of the model and of the mean count."""
    true, seen = counts(folder / "test.json"), counts(folder / "train.json")
    answered = [prediction.targets["boxes"]["counts"] for prediction in model.predict(folder / "test.json")]
    results = {}
    for name in sorted({name for count in seen for name in count}):
        usual = float(np.mean([count[name] for count in seen]))
        results[name] = {
            "model": float(np.mean([abs(a[name] - t[name]) for a, t in zip(answered, true, strict=True)])),
            "mean count": float(np.mean([abs(usual - t[name]) for t in true])),
        }
    return results


def measured(
    folder: Path, seed: int, overrides: Sequence[str], out: Path | None = None, *, robustness: bool = False
) -> dict[str, Any]:
    """Return the scores of one seed.

    Args:
        folder: As on the command line.
        seed: Random seed.
        overrides: Settings of the recipe.
        out: Where the model is kept.
        robustness: Whether the scores with corrupted and removed streams are measured too.
    """
    import sensorium as sm

    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()
    model = sm.fit(
        folder / "train.json",
        valid=folder / "valid.json",
        task="detection",
        seed=seed,
        overrides=list(overrides),
        quiet=True,
        out=out,
    )
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    evaluated = model.evaluate(folder / "test.json", robustness=robustness)
    evaluation = evaluated.targets["boxes"]
    table = next(view for view in evaluation.views if view.name == "per_class")
    return {
        "seed": seed,
        "cpu_seconds": round(seconds),
        "wall_seconds": round(time.perf_counter() - begun),
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "metrics": evaluation.metrics,
        "robustness": evaluated.robustness["boxes"].to_json() if robustness else None,
        "intervals": {name: evaluation.intervals[name] for name in ("map", "map50")},
        "per_class": table.to_json(),
        "counting": counting_errors(folder, model),
        "mean_boxes": evaluation.baseline,
        "valid": max(record["valid_map_boxes"] for record in model.history),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.json, valid.json and test.json")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--robustness", action="store_true", help="also with noise, occlusion, blur and half the size")
    parser.add_argument("overrides", nargs="*", help=f"settings of the recipe, as for fit; by default {' '.join(SETTINGS)}")
    options = parser.parse_intermixed_args()
    for seed in range(options.first, options.first + options.seeds):
        print(
            json.dumps(measured(options.folder, seed, options.overrides or SETTINGS, robustness=options.robustness)),
            flush=True,
        )


if __name__ == "__main__":
    main()
