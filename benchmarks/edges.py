"""``python -m benchmarks.edges {drawn,FOLDER} [--seeds 3]``: edges of images beside the gradient, with default settings.

``drawn`` are scenes with several simulated annotators. FOLDER holds ``train.csv``, ``valid.csv`` and ``test.csv`` with
the columns ``image`` and ``mask`` (covid_seg), whose boundaries are the edges. Prints one JSON line for each
seed: scores on the test rows, those of the gradient of the image and of the mean edge map, and the CPU seconds of training.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROWS = 300


def measured(
    tables: Mapping[str, Path], target: str, seed: int, settings: Sequence[str], *, robustness: bool = False
) -> dict[str, Any]:
    """The scores of one seed; ``robustness``: also those with corrupted and removed streams."""
    import sensorium as sm

    ignored = ["id", "opacity_mask", "patient"] if target == "mask" else []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    options: dict[str, Any] = {"valid": tables.get("valid"), "target": target, "ignore": ignored, "seed": seed}
    model = sm.fit(tables["train"], overrides=list(settings), quiet=True, **options)
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    evaluated = model.evaluate(tables["test"], robustness=robustness)
    evaluation = evaluated.targets[target]
    controls = {name: control.metrics for name, control in evaluation.controls.items()}
    return {
        "seed": seed,
        "cpu_seconds": round(seconds),
        "metrics": evaluation.metrics,
        "robustness": evaluated.robustness[target].to_json() if robustness else None,
        "interval": evaluation.intervals["ods"],
        "gradient": next(iter(controls.values())),
        "mean_map": evaluation.baseline,
        "valid": max(record[f"valid_ods_{target}"] for record in model.history),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edges", description=__doc__.splitlines()[0])
    parser.add_argument("data", help="drawn, or a folder with train.csv, valid.csv and test.csv")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--robustness", action="store_true", help="also with noise, occlusion, blur and half the size")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_intermixed_args()
    for seed in range(options.seeds):
        if options.data == "drawn":
            from sensorium.data.synthetic_edges import make

            with TemporaryDirectory() as folder:
                tables = make(folder, rows=ROWS, seed=100 + seed)
                settings = ["columns.edges=edges", *options.overrides]
                result = measured(tables, "edges", seed, settings, robustness=options.robustness)
        else:
            folder_of = Path(options.data)
            settings = ["columns.mask={kind: edges, boundaries: true}", *options.overrides]
            tables = {name: folder_of / f"{name}.csv" for name in ("train", "valid", "test")}
            result = measured(tables, "mask", seed, settings, robustness=options.robustness)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
