"""Gain from pretraining on unlabelled rows when few rows are labelled, compared with training from scratch.

python -m benchmarks.pretraining digits FOLDER      train.csv and valid.csv with columns image, audio and label
python -m benchmarks.pretraining vowels FOLDER      train.csv, valid.csv, test.csv with columns series (12 channels), label

``digits``: 50 labelled rows (5 of each digit) and 1,400 others without labels, of the training table; the validation table
is scored. ``vowels``: the 12 channels are two streams of 6; 27 labelled rows (3 of each speaker) among 270 without labels,
the training and validation tables; the test table is scored. Each seed draws other rows. Settings were chosen on rows of
the training table alone (docs/pretraining.md).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SEEDS = 3
Rows = list[dict[str, Any]]
PLAIN = ("model.experts=[]", "training.epochs=60")
"""The network alone, for a number of epochs that suits few rows."""


def digits(folder: Path) -> tuple[Rows, Rows, int, dict[str, str]]:
    """Return training and test rows of the digits, the number of labels of each class, and the kinds of the columns."""
    import sensorium as sm

    parts = []
    for name in ("train", "valid"):
        table = sm.Table.read(folder / f"{name}.csv")
        parts.append(
            [
                {"image": str(folder / row["image"]), "audio": str(folder / row["audio"]), "label": str(row["label"])}
                for row in table.rows()
            ]
        )
    return parts[0], parts[1], 5, {"image": "image", "audio": "audio"}


def vowels(folder: Path) -> tuple[Rows, Rows, int, dict[str, str]]:
    """Return the same for the vowels, as two streams of six channels each."""
    import sensorium as sm

    parts: list[Rows] = []
    for names in (("train", "valid"), ("test",)):
        rows: Rows = []
        for name in names:
            for row in sm.Table.read(folder / f"{name}.csv").rows():
                series = np.load(folder / row["series"])
                rows.append({"low": series[:, :6], "high": series[:, 6:], "label": f"speaker {row['label']}"})
        parts.append(rows)
    return parts[0], parts[1], 3, {"low": "series", "high": "series"}


def drawn(rows: Rows, per_class: int, seed: int) -> tuple[Rows, Rows]:
    """Draw ``per_class`` rows of every class by ``seed``; return them and the other rows."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    counts: dict[str, int] = {}
    few: Rows = []
    others: Rows = []
    for i in order:
        label = rows[i]["label"]
        counts[label] = counts.get(label, 0) + 1
        (few if counts[label] <= per_class else others).append(rows[i])
    return few, others


def measure(
    name: str,
    folder: Path,
    methods: list[str] | None,
    epochs: int,
    how: str,
    overrides: list[str],
    seeds: int,
    settings: dict[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Return the scores of every seed with all streams and each alone, from scratch and from a base, and CPU seconds."""
    import sensorium as sm

    train, test, per_class, kinds = {"digits": digits, "vowels": vowels}[name](folder)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        few, others = drawn(train, per_class, seed)
        # There are few vowels, so the labelled rows are used in pretraining too.
        unlabelled = others[:1400] if name == "digits" else few + others
        rows = [{key: row[key] for key in kinds} for row in unlabelled]
        with tempfile.TemporaryDirectory() as out:
            began = time.process_time()
            base = sm.pretrain(
                rows,
                methods=methods,
                columns=kinds,
                epochs=epochs,
                overrides=["training.batch_size=32"],
                seed=seed,
                out=Path(out) / "base",
                quiet=True,
            )
            seconds = time.process_time() - began
            report = base.artifact.report["valid"]["targets"]["pretraining"]
            results.setdefault("base", []).append({**report, "seconds": seconds})
            for start in ("scratch", "base"):
                for kind, chosen in settings.items():
                    began = time.process_time()
                    model = sm.fit(
                        few,
                        target="label",
                        columns=kinds,
                        seed=seed,
                        init=Path(out) / "base" if start == "base" else None,
                        init_how=how if start == "base" else None,
                        overrides=[*chosen, *overrides],
                        quiet=True,
                    )
                    scores = model.evaluate(test).targets["label"]
                    line = {"all": scores.metrics["accuracy"]}
                    line |= {stream: scores.subsets[stream]["accuracy"] for stream in kinds}
                    line["seconds"] = time.process_time() - began
                    results.setdefault(f"{kind}, {start}", []).append(line)
                    print(seed, kind, start, json.dumps(line), flush=True)
    return results


def table(results: dict[str, Any]) -> str:
    """Return means and deviations over the seeds, with a line for each way of training."""
    lines = []
    for name, runs in results.items():
        parts = []
        for key in runs[0]:
            values = [run[key] for run in runs]
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            parts.append(f"{key} {np.mean(values):.3f} ± {spread:.3f}")
        lines.append(f"{name}: {', '.join(parts)}")
    return "\n".join(lines)


def main() -> None:
    """Run one of the two experiments and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("digits", "vowels"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", help="as in sensorium pretrain")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--how", default="full")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", choices=("network", "default"), help="the network alone, or the defaults, with experts")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    methods = args.method.split(",") if args.method else None
    epochs = args.epochs or {"digits": 20, "vowels": 60}[args.name]
    settings: dict[str, tuple[str, ...]] = {"network": PLAIN, "default": ()}
    settings = {kind: chosen for kind, chosen in settings.items() if args.only in (None, kind)}
    print(table(measure(args.name, args.folder, methods, epochs, args.how, args.overrides, args.seeds, settings)))


if __name__ == "__main__":
    main()
