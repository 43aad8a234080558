"""``python -m benchmarks.keypoints FOLDER [--seeds 3]``: points of a mouse with default settings.

FOLDER holds ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl`` with the columns ``image`` and ``keypoints``, and the names
of the points in ``parts.json`` (mouse_openfield). Prints one JSON line for each seed: scores on the test rows, as the model
reports them and again from its answers and the cells of the table, those of the mean shape of the training rows, and the
CPU seconds of training.
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

WITHIN = 5.0
"""Pixels within which a point counts as found."""


def from_answers(folder: Path, model: Any, names: Sequence[str]) -> dict[str, Any]:
    """The mean error, the share of points within ``WITHIN`` pixels and the error of each point, from answers and cells."""
    with (folder / "test.jsonl").open(encoding="utf-8") as file:
        true = np.array([json.loads(line)["keypoints"] for line in file], np.float64)
    answers = [prediction.targets["keypoints"]["value"] for prediction in model.predict(folder / "test.jsonl")]
    answered = np.array([[[answer[name][axis] for axis in "xy"] for name in names] for answer in answers])
    distance = np.where(true[..., 2] > 0, np.linalg.norm(answered - true[..., :2], axis=2), np.nan)
    return {
        "mean_error": float(np.nanmean(distance)),
        "pck": float(np.nanmean(np.where(np.isnan(distance), np.nan, distance <= WITHIN))),
        "median": float(np.nanmedian(distance)),
        **{name: float(np.nanmean(distance[:, k])) for k, name in enumerate(names)},
    }


def measured(folder: Path, seed: int, overrides: Sequence[str], *, robustness: bool = False) -> dict[str, Any]:
    """The scores of one seed; ``robustness``: also those with corrupted and removed streams."""
    import sensorium as sm

    names = json.loads((folder / "parts.json").read_text(encoding="utf-8"))
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()
    model = sm.fit(
        folder / "train.jsonl",
        valid=folder / "valid.jsonl",
        target="keypoints",
        ignore=["id", "width", "height", "source_size"],
        seed=seed,
        overrides=[f"columns.keypoints={{kind: keypoints, names: {json.dumps(names)}}}", *overrides],
        quiet=True,
    )
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    wall = time.perf_counter() - begun
    evaluated = model.evaluate(folder / "test.jsonl", robustness=robustness)
    evaluation = evaluated.targets["keypoints"]
    return {
        "seed": seed,
        "cpu_seconds": round(seconds),
        "wall_seconds": round(wall),
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "metrics": evaluation.metrics,
        "robustness": evaluated.robustness["keypoints"].to_json() if robustness else None,
        "interval": evaluation.intervals["mean_error"],
        "mean_shape": evaluation.baseline,
        "from_answers": from_answers(folder, model, names),
        "valid": min(record["valid_mean_error_keypoints"] for record in model.history),
        "epochs": len(model.history),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keypoints", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.jsonl, valid.jsonl, test.jsonl and parts.json")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--robustness", action="store_true", help="also with noise, occlusion, blur and half the size")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_intermixed_args()
    for seed in range(options.seeds):
        print(json.dumps(measured(options.folder, seed, options.overrides, robustness=options.robustness)), flush=True)


if __name__ == "__main__":
    main()
