"""``python -m benchmarks.edges {drawn,FOLDER} [--seeds 3]``: edges of images beside the gradient, with default settings.

``drawn`` are scenes with several simulated annotators. FOLDER holds ``train.csv``, ``valid.csv`` and ``test.csv`` with
the columns ``image`` and ``mask`` (covid_seg), whose boundaries are the edges. Prints one JSON line for each
seed: scores on the test rows, those of the gradient of the image and of the mean edge map, and the CPU seconds of training.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROWS = 300


def measured(
    train: Path, test: Path, valid: Path | None, target: str, seed: int, settings: Sequence[str]
) -> dict[str, Any]:
    """The scores of one seed."""
    import sensorium as sm

    ignored = ["id", "opacity_mask", "patient"] if target == "mask" else []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    model = sm.fit(train, valid=valid, target=target, ignore=ignored, seed=seed, overrides=list(settings), quiet=True)
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    evaluation = model.evaluate(test).targets[target]
    controls = {name: control.metrics for name, control in evaluation.controls.items()}
    return {
        "seed": seed,
        "cpu_seconds": round(seconds),
        "metrics": evaluation.metrics,
        "interval": evaluation.intervals["ods"],
        "gradient": next(iter(controls.values())),
        "mean_map": evaluation.baseline,
        "valid": max(record[f"valid_ods_{target}"] for record in model.history),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edges", description=__doc__.splitlines()[0])
    parser.add_argument("data", help="drawn, or a folder with train.csv, valid.csv and test.csv")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_args()
    for seed in range(options.seeds):
        if options.data == "drawn":
            from sensorium.data.synthetic_edges import make

            with TemporaryDirectory() as folder:
                tables = make(folder, rows=ROWS, seed=100 + seed)
                settings = ["columns.edges=edges", *options.overrides]
                result = measured(tables["train"], tables["test"], None, "edges", seed, settings)
        else:
            folder_of = Path(options.data)
            settings = ["columns.mask={kind: edges, boundaries: true}", *options.overrides]
            tables = {name: folder_of / f"{name}.csv" for name in ("train", "valid", "test")}
            result = measured(tables["train"], tables["test"], tables["valid"], "mask", seed, settings)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
