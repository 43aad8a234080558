"""Survival analysis on two public tables: sensorium with default settings and Cox regression, on the same rows.

    python -m benchmarks.survival DATA survival.jsonl [--sets deepsurv_support,support2] [--ways cox,fast,good]
        [--seeds 0,1,2] [--folds 5]
    python -m benchmarks.survival --table survival.jsonl

``DATA`` holds the sets as their README describes them: ``deepsurv_support`` is fitted on ``train.csv`` and scored on
``test.csv``, as published; ``support2`` is split into folds of the rows of ``train.csv``, anew for each seed. ``cox`` is
lifelines' ``CoxPHFitter`` (``pip install lifelines``) with a ridge penalty of 0.01 on standardised numbers, gaps filled
with medians and categories one-hot encoded, all learnt on the training rows. One line is appended for every fit, so a
stopped run is continued. Nothing is chosen on the rows that are scored.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

import sensorium as sm
from sensorium.data.splitting import folds
from sensorium.data.tables.table import Table

TARGET = {"time": "time", "event": "event"}
SETS = ("deepsurv_support", "support2")
FOLDED = ("support2",)
MEASURES = ("c_index", "uno_c_index", "brier", "calibration_error")


def tables(name: str, root: Path, seed: int, count: int) -> Iterator[tuple[int, Table, Table]]:
    """Yield fold number, training and test rows: as published, or ``count`` folds of the training rows."""
    train = Table.read(root / name / "train.csv")
    if name not in FOLDED:
        yield 0, train, Table.read(root / name / "test.csv")
        return
    for number, (learn, check) in enumerate(folds(train, count, seed=seed, target="event")):
        yield number, train.take(learn), train.take(check)


def ours(quality: str, train: Table, test: Table, seed: int) -> dict[str, float]:
    """Return the scores of a fit with default settings, of one constant curve for all rows, and the seconds of scoring."""
    with tempfile.TemporaryDirectory(prefix="survival-") as cache:
        model = sm.fit(
            train, task="survival", target=TARGET, ignore=["id"], seed=seed, quality=quality, cache=cache, quiet=True
        )
        began = time.process_time()
        evaluation = model.evaluate(test).targets["survival"]
    plain = {f"constant {measure}": value for measure, value in (evaluation.baseline or {}).items()}
    return {measure: evaluation.metrics[measure] for measure in MEASURES} | plain | {"scoring": time.process_time() - began}


def cox(train: Table, test: Table) -> dict[str, float]:
    """Return Harrell's concordance of lifelines' Cox regression."""
    import pandas as pd
    from lifelines import CoxPHFitter
    from lifelines.utils import concordance_index

    sides = [
        pd.DataFrame({c: table.column(c) for c in table.columns if c != "id"}).replace("", None) for table in (train, test)
    ]
    both = pd.concat(sides, keys=["train", "test"])
    for column in both:
        number = pd.to_numeric(both[column], errors="coerce")
        if number.notna().sum() == both[column].notna().sum():
            both[column] = number
            if column not in TARGET.values():
                learnt = number.loc["train"]
                both[column] = (number.fillna(learnt.median()) - learnt.mean()) / max(learnt.std(), 1e-9)
    both = pd.get_dummies(both, drop_first=True, dtype=float)
    both = both.loc[:, both.loc["train"].nunique() > 1]
    model = CoxPHFitter(penalizer=0.01).fit(both.loc["train"], "time", "event")
    risk = model.predict_partial_hazard(both.loc["test"])
    return {"c_index": float(concordance_index(both.loc["test"]["time"], -risk, both.loc["test"]["event"]))}


def run(root: Path, out: Path, sets: list[str], ways: list[str], seeds: list[int], count: int) -> None:
    """Run the fits whose lines ``out`` does not contain yet."""
    done = {tuple(line["key"]) for line in read(out)}
    for name in sets:
        for way in ways:
            # Cox regression is deterministic: seeds matter only where they change the folds.
            for seed in seeds if way != "cox" or name in FOLDED else seeds[:1]:
                for fold, train, test in tables(name, root, seed, count):
                    key = (name, way, seed, fold)
                    if key in done:
                        continue
                    began = time.process_time()
                    scores = cox(train, test) if way == "cox" else ours(way, train, test, seed)
                    cpu = time.process_time() - began - scores.pop("scoring", 0.0)
                    line = {"key": key, "scores": scores, "rows": [len(train), len(test)], "cpu": round(cpu, 1)}
                    with open(out, "a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    print(f"{key}: C {scores['c_index']:.4f}, {cpu:.0f} CPU s", file=sys.stderr, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a results file; none if it does not exist."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(path: Path) -> str:
    """Return a Markdown table: mean over seeds (of the means over folds) ± spread, and the paired difference to Cox."""
    results: dict[tuple[str, str], dict[int, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for line in read(path):
        name, way, seed, fold = line["key"]
        results[name, way][seed][fold] = line
    lines = [
        "| set | way | seeds × folds | C (Harrell) | C (Uno) | Brier | calibration error | C above Cox | CPU s a fit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, way), seeds in results.items():

        def spread(measure: str, seeds: Any = seeds) -> str:
            values = [mean(f["scores"].get(measure, np.nan) for f in part.values()) for part in seeds.values()]
            if not np.isfinite(values).all():
                return "–"
            return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")

        rival = results.get((name, "cox"), {})
        gains = []
        for seed, part in seeds.items():
            cox_folds = rival.get(seed, {}) if name in FOLDED else next(iter(rival.values()), {})
            gains += [f["scores"]["c_index"] - cox_folds[i]["scores"]["c_index"] for i, f in part.items() if i in cox_folds]
        gain = (
            f"{mean(gains):+.4f}, ahead in {sum(g > 0 for g in gains)} of {len(gains)}" if gains and way != "cox" else "–"
        )
        count = f"{len(seeds)} × {max(len(part) for part in seeds.values())}"
        cpu = mean(f["cpu"] for part in seeds.values() for f in part.values())
        cells = " | ".join(spread(measure) for measure in MEASURES)
        lines.append(f"| {name} | {way} | {count} | {cells} | {gain} | {cpu:.0f} |")
        if way != "cox":
            cells = " | ".join(spread(f"constant {measure}") for measure in MEASURES)
            lines.append(f"| {name} | one curve for all | {count} | {cells} | – | – |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--ways", default="cox,fast,good", help="cox, or a quality: fast, good, best")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_intermixed_args()
    if arguments.table is not None:
        print(table(arguments.table))
        return
    if arguments.data is None or arguments.out is None:
        parser.error("give the folder of the data and the file for the results")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    run(arguments.data, arguments.out, arguments.sets.split(","), arguments.ways.split(","), seeds, arguments.folds)


if __name__ == "__main__":
    main()
