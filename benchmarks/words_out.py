"""``python -m benchmarks.words_out DATA [settings] [--sets easy_vqa,nlvr] [--seeds 3]``: answers and captions in words.

``easy_vqa`` (``image``, ``question``, ``label``): the answer is generated; beside it the same question with the
picture of another row, and of a model that has no picture. ``nlvr`` (``image``, ``text``, ``label``): captions are the
sentences that are true of their picture. Prints one JSON line for each set and seed: scores on held-out rows, those of
the controls with the intervals of the gains, and the CPU seconds of training.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sensorium as sm


def true_pairs(path: Path) -> sm.Table:
    """The rows whose sentence is true of their picture."""
    table = sm.Table.read(path)
    labels = [str(cell).strip().lower() for cell in table.column("label")]
    return table.take([i for i, label in enumerate(labels) if label in ("true", "1")])


def fit(train: Any, overrides: Sequence[str], **options: Any) -> tuple[Any, int]:
    """A model, and the CPU seconds of its training."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    model = sm.fit(train, overrides=list(overrides), quiet=True, **options)
    return model, round(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)


def scores(model: Any, table: Any) -> dict[str, Any]:
    """Scores of the only target, with those of the controls."""
    (target,) = model.evaluate(table).targets.values()
    return {
        "metrics": target.metrics,
        "interval": target.intervals[target.headline],
        "constant": target.baseline,
        "controls": {name: {"metrics": c.metrics, "gain": c.gain} for name, c in target.controls.items()},
    }


def questions(root: Path, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Questions about pictures."""
    common = {"target": "label", "task": "answering", "options": {"prompt": "question"}, "seed": seed}
    ignored = [name for name in sm.Table.read(root / "train.csv").columns if name not in ("image", "question", "label")]
    model, seconds = fit(root / "train.csv", overrides, ignore=ignored, **common)
    result = {"cpu_seconds": seconds, **scores(model, root / "valid.csv")}
    blind = sm.fit(
        root / "train.csv",
        target="label",
        ignore=[*ignored, "image"],
        columns={"question": "text"},
        seed=seed,
        overrides=list(overrides),
        quiet=True,
    )
    result["blind_accuracy"] = blind.evaluate(root / "valid.csv").targets["label"].metrics["accuracy"]
    return result


def captions(root: Path, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Captions of pictures of boxes."""
    train = true_pairs(root / "train.jsonl")
    ignored = [name for name in train.columns if name not in ("image", "text")]
    model, seconds = fit(train, overrides, target="text", task="captioning", ignore=ignored, seed=seed)
    return {"cpu_seconds": seconds, **scores(model, true_pairs(root / "valid.jsonl"))}


WAYS = {"easy_vqa": questions, "nlvr": captions}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words_out", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the sets")
    parser.add_argument("--sets", default=",".join(WAYS), help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_args()
    for name in options.sets.split(","):
        for seed in range(options.seeds):
            result = WAYS[name](options.data / name, seed, options.overrides)
            print(json.dumps({"set": name, "seed": seed, **result}), flush=True)


if __name__ == "__main__":
    main()
