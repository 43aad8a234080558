"""Ablation of the objectives ``balance`` and ``impute`` and of the heads of a classifier.

    python -m benchmarks.objectives DATA results.jsonl [--what impute] [--sets starved,mustard] [--seeds 0,1,2]

``DATA`` holds the sets as for ``benchmarks.results``; ``starved`` and ``echo`` are generated. One line is appended for
every fit; ``--table results.jsonl`` prints the means, with all streams and with each subset of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

import sensorium as sm
from benchmarks.results import SETS, read, tables
from sensorium.data.tables.table import Table

WHOLE = "objectives=[{kind: supervised, subsets: 0}]"
BALANCE = {
    "whole rows only": (WHOLE,),
    "subsets (default)": (),
    "balance": ("objectives=[{kind: supervised, subsets: 0}, balance]",),
    "subsets and balance": ("objectives=[supervised, balance]",),
}
IMPUTE = {
    f"{how}, {fusion}{', objective' if extra else ''}": (
        f"model.fusion={{kind: stream_imputation, how: {how}, fusion: {fusion}}}",
        *(("objectives=[supervised, impute]",) if extra else ()),
    )
    for fusion in ("gated", "concat")
    for how, extra in (("zero", 0), ("mean", 0), ("token", 0), ("generate", 0), ("generate", 1))
}
HEADS = {
    "linear": (),
    "mlp": ("model.tasks={label: {kind: classification, hidden: 64}}",),
    "svm, linear": ("model.tasks={label: {kind: svm, kernel: linear}}",),
    "svm, rbf": ("model.tasks={label: svm}",),
}
VARIANTS = {"balance": BALANCE, "impute": IMPUTE, "heads": HEADS}


def starved(seed: int, train: int = 400, test: int = 1000) -> tuple[dict[str, Table], dict[str, tuple[str, ...]]]:
    """Return tables with a stream that is quickly memorised and a series that is slow to learn but nearly sufficient.

    ``table``: a category that equals the class in 70 % of the rows, and twelve random numbers, by which rows can be
    memorised. ``wave``: two tones in noise, whose pitches and order determine the class.
    """
    results = {}
    for name, rows in (("train", train), ("test", test)):
        rng = np.random.default_rng([seed, rows])
        label = rng.integers(0, 4, rows)
        hint = np.where(rng.random(rows) < 0.6, label, rng.integers(0, 4, rows))
        cells: dict[str, list[Any]] = {"label": [f"c{k}" for k in label], "hint": [f"h{k}" for k in hint]}
        for i in range(12):
            cells[f"n{i}"] = rng.standard_normal(rows).tolist()
        cells["wave"] = [_wave(int(k), rng) for k in label]
        results[name] = Table(cells, source=name)
    return results, {"table": ("hint", *(f"n{i}" for i in range(12))), "wave": ("wave",)}


def echo(seed: int, train: int = 500, test: int = 1000) -> tuple[dict[str, Table], dict[str, tuple[str, ...]]]:
    """Return tables with a stream ``table`` and a sensor that depend on the same four latent numbers.

    Each is missing in 40 % of the rows, never both. The class depends on the sign of the product of two of the numbers and
    on which of the other two is larger.
    """
    mix = np.random.default_rng(99).standard_normal((2, 4, 6))
    results = {}
    for name, rows in (("train", train), ("test", test)):
        rng = np.random.default_rng([seed, rows, 1])
        hidden = rng.standard_normal((rows, 4))
        label = 2 * (hidden[:, 0] * hidden[:, 1] > 0) + (hidden[:, 2] > hidden[:, 3])
        numbers, levels = (hidden @ m + 0.5 * rng.standard_normal((rows, 6)) for m in mix)
        gone = rng.random(rows)
        cells: dict[str, list[Any]] = {"label": [f"c{k}" for k in label]}
        for i in range(6):
            cells[f"n{i}"] = [None if g < 0.4 else float(x) for g, x in zip(gone, numbers[:, i], strict=True)]
        noise = 0.5 * rng.standard_normal((rows, 16, 6))
        series = (levels[:, None] + noise).astype(np.float32)
        cells["sensor"] = [None if g > 0.6 else x for g, x in zip(gone, series, strict=True)]
        results[name] = Table(cells, source=name)
    return results, {"table": tuple(f"n{i}" for i in range(6)), "sensor": ("sensor",)}


MADE = {"starved": starved, "echo": echo}


def _wave(label: int, rng: np.random.Generator) -> Any:
    time_ = np.arange(96)
    tones = [(0.25, 0.4), (0.4, 0.25), (0.25, 0.55), (0.55, 0.25)][label]
    cut = rng.integers(40, 56)
    pitch = np.where(time_ < cut, *tones)
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / 2 + rng.uniform(0, 2 * np.pi))
    return (wave + 0.5 * rng.standard_normal(96))[:, None].astype(np.float32)


def measured(name: str, seed: int, streams: tuple[str, ...], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Train on these streams; return the scores with every subset of them at test time, and the CPU seconds."""
    if name in MADE:
        parts, every = MADE[name](seed)
        train, test, metric, ignore, group = parts["train"], parts["test"], "accuracy", (), None
    else:
        which = SETS[name]
        every, metric, ignore, group = which.streams, which.metric, which.ignore, which.group
        _, train, test = next(iter(tables(which, ROOT, seed)))
    left_out = [column for stream, columns in every.items() if stream not in streams for column in columns]
    began = time.process_time()
    model = sm.fit(
        train,
        target="label",
        ignore=[c for c in (*ignore, *left_out) if train.has(c)],
        group=group,
        seed=seed,
        overrides=overrides,
        quiet=True,
    )
    spent = time.process_time() - began
    evaluation = model.evaluate(test).targets["label"]
    return {
        "score": evaluation.metrics[metric],
        "subsets": {subset: scores[metric] for subset, scores in evaluation.subsets.items()},
        "cpu": round(spent, 1),
    }


def run(out: Path, what: str, names: list[str], seeds: list[int], variants: list[str]) -> None:
    """Run the fits whose lines ``out`` does not contain yet."""
    done = {tuple(line["key"]) for line in read(out)}
    for name in names:
        streams = tuple(MADE[name](0, 2, 2)[1] if name in MADE else SETS[name].streams)
        for seed in seeds:
            plan = [(variant, streams, VARIANTS[what][variant]) for variant in VARIANTS[what]]
            if what == "balance":
                plan += [(f"{stream} alone", (stream,), ()) for stream in streams]
            for variant, used, overrides in plan:
                key = (what, name, variant, seed)
                if key in done or (variants and variant not in variants):
                    continue
                line = {"key": key, **measured(name, seed, used, overrides)}
                with open(out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{key}: {line['score']:.3f} in {line['cpu']:.0f} s", file=sys.stderr, flush=True)


def table(path: Path) -> str:
    """Return a Markdown table: mean and deviation over the seeds, with all streams and with each subset."""
    results: dict[Any, list[Any]] = defaultdict(list)
    for line in read(path):
        results[tuple(line["key"][:3])].append(line)
    lines = ["| | set | variant | seeds | all | subsets of streams at test time |", "|---|---|---|---|---|---|"]
    for (what, name, variant), runs in results.items():
        scores = [run["score"] for run in runs]
        spread = f"{mean(scores):.3f}" + (f" ± {stdev(scores):.3f}" if len(scores) > 1 else "")
        subsets = {s: mean(run["subsets"][s] for run in runs) for s in runs[0]["subsets"]}
        result = ", ".join(f"{s} {score:.3f}" for s, score in subsets.items())
        lines.append(f"| {what} | {name} | {variant} | {len(runs)} | {spread} | {result} |")
    return "\n".join(lines)


ROOT = Path()


def main() -> None:
    """The command line."""
    global ROOT
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--what", default="balance", choices=tuple(VARIANTS))
    parser.add_argument("--sets", default="starved")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--variants", default="", help="names, separated by |")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_intermixed_args()
    if arguments.table is not None:
        print(table(arguments.table))
        return
    if arguments.data is None or arguments.out is None:
        parser.error("give the folder of the data and the file for the results")
    csv.field_size_limit(1 << 26)
    ROOT = arguments.data
    variants = [v for v in arguments.variants.split("|") if v]
    run(arguments.out, arguments.what, arguments.sets.split(","), [int(s) for s in arguments.seeds.split(",")], variants)


if __name__ == "__main__":
    main()
