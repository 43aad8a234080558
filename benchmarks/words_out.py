"""``python -m benchmarks.words_out DATA [settings] [--sets easy_vqa,nlvr,scenes] [--seeds 3]``: sentences generated.

``easy_vqa`` (``image``, ``question``, ``label``): the answer is generated; beside it the same question with the
picture of another row, and the answer of a classifier that has no picture. ``nlvr`` (``image``, ``text``, ``label``):
captions are the sentences that are true of their picture. ``scenes`` are drawn by ``sensorium.data.synthetic_captions``,
1,200 to learn from and 400 to score, with full sentences; they need no data. Prints one JSON line for each set and seed:
scores on held-out rows with their intervals, those of the controls with the intervals of the gains, and the CPU seconds
of training. With ``--held-out`` the last fifth of the training rows is scored instead, to choose settings by.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sensorium as sm
from sensorium.data.synthetic_captions import make


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
        "intervals": target.intervals,
        "constant": target.baseline,
        "controls": {name: {"metrics": c.metrics, "gain": c.gain} for name, c in target.controls.items()},
    }


def tables(train: sm.Table, held_out: sm.Table | None) -> tuple[sm.Table, sm.Table]:
    """Rows to learn from and to score: ``train`` itself is divided where there are no ``held_out`` rows."""
    if held_out is not None:
        return train, held_out
    cut = len(train) * 4 // 5
    return train.take(range(cut)), train.take(range(cut, len(train)))


def questions(root: Path, seed: int, overrides: Sequence[str], within: bool) -> dict[str, Any]:
    """Questions about pictures."""
    train, scored = tables(sm.Table.read(root / "train.csv"), None if within else sm.Table.read(root / "valid.csv"))
    common = {"target": "label", "task": "answering", "options": {"prompt": "question"}, "seed": seed}
    ignored = [name for name in train.columns if name not in ("image", "question", "label")]
    model, seconds = fit(train, overrides, ignore=ignored, **common)
    result = {"cpu_seconds": seconds, **scores(model, scored)}
    blind, _ = fit(train, (), target="label", ignore=[*ignored, "image"], columns={"question": "text"}, seed=seed)
    result["blind_accuracy"] = blind.evaluate(scored).targets["label"].metrics["accuracy"]
    return result


def captions(root: Path, seed: int, overrides: Sequence[str], within: bool) -> dict[str, Any]:
    """Captions of pictures of boxes."""
    train, scored = tables(true_pairs(root / "train.jsonl"), None if within else true_pairs(root / "valid.jsonl"))
    ignored = [name for name in train.columns if name not in ("image", "text")]
    model, seconds = fit(train, overrides, target="text", task="captioning", ignore=ignored, seed=seed)
    return {"cpu_seconds": seconds, **scores(model, scored)}


def scenes(_: Path, seed: int, overrides: Sequence[str], within: bool) -> dict[str, Any]:
    """Captions of drawn pictures, of which each seed has its own."""
    with TemporaryDirectory() as folder:
        paths = make(folder, rows=1600, seed=seed, sentences=True)
        train, scored = tables(sm.Table.read(paths["train"]), None if within else sm.Table.read(paths["test"]))
        ignored = ["question", "answer"]
        model, seconds = fit(train, overrides, target="caption", task="captioning", ignore=ignored, seed=seed)
        return {"cpu_seconds": seconds, **scores(model, scored)}


WAYS = {"easy_vqa": questions, "nlvr": captions, "scenes": scenes}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words_out", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the sets")
    parser.add_argument("--sets", default=",".join(WAYS), help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--held-out", action="store_true", help="score the last fifth of the training rows")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_intermixed_args()
    for name in options.sets.split(","):
        for seed in range(options.seeds):
            result = WAYS[name](options.data / name, seed, options.overrides, options.held_out)
            print(json.dumps({"set": name, "seed": seed, **result}), flush=True)


if __name__ == "__main__":
    main()
