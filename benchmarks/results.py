"""The table of ``docs/results.md``: every data set with default settings, each modality alone beside the whole.

    python -m benchmarks.results DATA results.jsonl [--seeds 0,1,2] [--sets "av_hard|easy_vqa"] [--depth whole]

``DATA`` holds the sets as their README describes them. One line is appended for every fit, so a run that was
stopped goes on where it was. ``python -m benchmarks.results --table results.jsonl`` prints the tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

import sensorium as sm
from sensorium.data.splitting import folds
from sensorium.data.tables.table import Table


@dataclass(frozen=True)
class Set:
    """One data set: what to read, what to predict, what to leave out, how the score is named."""

    folder: str
    train: str
    test: str
    metric: str
    streams: dict[str, tuple[str, ...]]
    ignore: tuple[str, ...] = ()
    group: str | None = None
    folds: int = 0
    more: tuple[str, ...] = ()
    only: tuple[str, ...] = field(default=())


CLOTHING = ("age", "feedback", "division", "department", "class")
PET = ("age", "quantity", "fee", "videoamt", "photoamt", "type", "breed1", "gender", "color1", "color2", "maturitysize")
PET += ("furlength", "vaccinated", "dewormed", "sterilized", "health", "state")
LABS = ("sex", "age", "view", "offset_days", "temperature", "pO2_saturation", "leukocyte_count", "neutrophil_count")
LABS += ("lymphocyte_count",)
LEAKS = ("id", "notes", "finding", "label_multi", "survival", "intubated", "went_icu", "needed_O2", "licence")

SETS = {
    "av_hard": Set(
        "av_hard", "train.csv", "valid.csv", "accuracy", {"image": ("image",), "audio": ("audio",)}, ("id", "speaker")
    ),
    "av_hard, holes": Set(
        "av_hard", "train_holes.csv", "valid.csv", "accuracy", {"image": ("image",), "audio": ("audio",)}, ("id", "speaker")
    ),
    "av_digits": Set(
        "av_digits",
        "train.csv",
        "valid.csv",
        "accuracy",
        {"image": ("image",), "audio": ("audio",), "sign_image": ("sign_image",)},
        ("id", "speaker"),
    ),
    "easy_vqa": Set(
        "easy_vqa", "train.csv", "test.csv", "accuracy", {"image": ("image",), "question": ("question",)}, ("id",)
    ),
    "nlvr": Set(
        "nlvr", "train.jsonl", "valid.jsonl", "accuracy", {"image": ("image",), "text": ("text",)}, ("id", "scene"), "group"
    ),
    "clothing": Set(
        "clothing",
        "train.csv",
        "test.csv",
        "auroc",
        {"title": ("title",), "text": ("text",), "table": CLOTHING},
        ("id", "rating"),
    ),
    "petfinder": Set(
        "petfinder", "train.csv", "test.csv", "f1", {"name": ("name",), "text": ("text",), "table": PET}, ("id",)
    ),
    "mustard": Set(
        "mustard",
        "train.csv",
        "test.csv",
        "accuracy",
        {"text": ("text",), "context": ("context",), "table": ("speaker", "show")},
        ("id",),
    ),
    "covid_cxr": Set(
        "covid_cxr",
        "train.csv",
        "train.csv",
        "auroc",
        {"image": ("image",), "notes_masked": ("notes_masked",), "table": LABS},
        LEAKS,
        "patient",
        5,
        ("valid.csv",),
    ),
    "ts_basicmotions": Set("ts_basicmotions", "train.csv", "test.csv", "accuracy", {"series": ("series",)}, ("id",)),
    "ts_japanesevowels": Set("ts_japanesevowels", "train.csv", "test.csv", "accuracy", {"series": ("series",)}, ("id",)),
}


SIZES: dict[str, Callable[[int, int], bool]] = {
    "whole": lambda size, streams: False,
    "single": lambda size, streams: size == 1,
    "without": lambda size, streams: size == streams - 1,
    "every": lambda size, streams: True,
}
"""Which smaller subsets are trained on, beside all streams: none, each stream alone, all but one stream, or all."""


def parts(which: Set, depth: str) -> Iterator[tuple[str, ...]]:
    """Subsets of streams to train on: all, then smaller ones; ``SIZES`` says which by ``depth``."""
    names = tuple(which.streams)
    for size in range(len(names), 0, -1):
        if size == len(names) or SIZES[depth](size, len(names)):
            yield from combinations(names, size)


def tables(which: Set, root: Path, seed: int) -> Iterator[tuple[int, Table, Table]]:
    """Training and test rows: as given, or the folds of all rows by group."""
    folder = root / which.folder
    train = Table.read(folder / which.train)
    if not which.folds:
        yield 0, train, Table.read(folder / which.test)
        return
    for other in which.more:
        table = Table.read(folder / other)
        cells = {name: train.column(name) + table.column(name) for name in train.columns}
        train = Table(cells, source=train.source, root=folder)
    split = folds(train, which.folds, kind="group", by=which.group, seed=seed, target="label")
    for number, (learn, check) in enumerate(split):
        yield number, train.take(learn), train.take(check)


def one(which: Set, streams: tuple[str, ...], train: Table, test: Table, seed: int, quality: str | None) -> dict[str, Any]:
    """One fit without settings on some streams, and its scores with every subset of them at test time."""
    left_out = [column for stream, columns in which.streams.items() if stream not in streams for column in columns]
    began, cpu = time.monotonic(), time.process_time()
    ignore = [name for name in (*which.ignore, *left_out) if train.has(name)]
    model = sm.fit(train, target="label", ignore=ignore, group=which.group, seed=seed, quality=quality, quiet=True)
    seconds, spent = time.monotonic() - began, time.process_time() - cpu
    evaluation = model.evaluate(test).targets["label"]
    scores = {subset: scores[which.metric] for subset, scores in evaluation.subsets.items()}
    floor = evaluation.floor
    return {
        "score": evaluation.metrics[which.metric],
        "subsets": scores,
        "baseline": (evaluation.baseline or {}).get(which.metric),
        "rows": [len(train), len(test)],
        "seconds": round(seconds, 1),
        "cpu": round(spent, 1),
        "parameters": sum(p.numel() for p in model.model.parameters()),
        "epochs": len(model.history),
        **({} if floor is None else {"parts": floor.scores, "of": floor.metric, "calibration": floor.calibration}),
    }


def run(root: Path, out: Path, seeds: list[int], names: list[str], depth: str, quality: str | None = None) -> None:
    """Every fit that ``out`` does not hold yet."""
    done = {tuple(line["key"]) for line in read(out)}
    for seed in seeds:
        for name in names:
            which = SETS[name]
            for fold, train, test in tables(which, root, seed):
                for streams in parts(which, depth):
                    key = (name, seed, fold, "+".join(streams), *([] if quality is None else [quality]))
                    if key in done:
                        continue
                    line = {"key": key, **one(which, streams, train, test, seed, quality)}
                    with open(out, "a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    print(f"{key}: {line['score']:.3f} in {line['seconds']:.0f} s", file=sys.stderr, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _subset(scores: dict[str, float], streams: str) -> float:
    """The score of some streams, whatever order they stand in."""
    return next(value for name, value in scores.items() if set(name.split("+")) == set(streams.split("+")))


def table(path: Path) -> str:
    """Markdown: the whole beside each modality and the majority; then what is lost when a modality is missing."""
    by_set: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for line in read(path):
        name, seed, _, streams, *quality = line["key"]
        name += "".join(f" ({setting})" for setting in quality)
        by_set[name][streams][seed].append(line)
    lines = [
        "| set | measure | seeds | all | each modality alone (own model) | no input | CPU s a fit |",
        "|---|---|---|---|---|---|---|",
    ]
    margins = [
        "| set | removed at test time | all-modality model without it | best model trained without it | margin |",
        "|---|---|---|---|---|",
    ]
    for name, result in by_set.items():
        which = SETS[name.partition(" (")[0]]
        names = tuple(which.streams)
        whole = result["+".join(names)]

        def spread(streams: str, key: str = "score", result: Any = result) -> str:
            values = [mean(line[key] for line in fold) for fold in result[streams].values()]
            return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")

        alone = ", ".join(f"{s} {spread(s)}" for s in names if s in result) if len(names) > 1 else "–"
        cpu = mean(line["cpu"] for fold in whole.values() for line in fold)
        plain, score = spread("+".join(names), "baseline"), spread("+".join(names))
        lines.append(f"| {name} | {which.metric} | {len(whole)} | **{score}** | {alone} | {plain} | {cpu:.0f} |")
        for gone in names if len(names) > 1 else ():
            rest = "+".join(s for s in names if s != gone)
            if rest not in result:
                continue
            seeds = sorted(set(whole) & set(result[rest]))
            left = [mean(_subset(line["subsets"], rest) for line in whole[seed]) for seed in seeds]
            # The best of the models trained on the rest, or on a part of it.
            subsets = [s for s in result if set(s.split("+")) <= set(rest.split("+"))]
            best = [
                max(mean(line["score"] for line in result[s][seed]) for s in subsets if seed in result[s]) for seed in seeds
            ]
            margin = np.subtract(best, left)
            margins.append(f"| {name} | {gone} | {mean(left):.3f} | {mean(best):.3f} | {100 * margin.mean():+.1f} points |")
    return "\n".join([*lines, "", *margins])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sets", default="|".join(SETS), help="names, separated by |")
    parser.add_argument("--depth", choices=tuple(SIZES), default="every", help="subsets to train on")
    parser.add_argument("--quality", choices=("fast", "good", "best"), help="instead of the default settings")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(arguments.table))
        return
    if arguments.data is None or arguments.out is None:
        parser.error("give the folder of the data and the file for the results")
    csv.field_size_limit(1 << 26)
    run(
        arguments.data,
        arguments.out,
        [int(s) for s in arguments.seeds.split(",")],
        arguments.sets.split("|"),
        arguments.depth,
        arguments.quality,
    )


if __name__ == "__main__":
    main()
