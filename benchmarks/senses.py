"""Comparison of every encoder on every modality, with the same rows, number of epochs and three seeds.

    python -m benchmarks.senses DATA senses.jsonl [--senses image,sound,text,series] [--columns image] [--seeds 0,1,2]

One line is appended for every fit, so an interrupted run is continued.
``python -m benchmarks.senses --table senses.jsonl`` prints the table of ``docs/results.md``.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import sensorium as sm
from benchmarks.results import SETS, read
from sensorium.data.tables.table import Table


@dataclass(frozen=True)
class Case:
    """One column of one set, used as the only input."""

    sense: str
    set: str
    column: str
    kind: str


CASES = (
    Case("image", "av_digits", "image", "image"),
    Case("image", "av_digits", "sign_image", "image"),
    Case("image", "av_hard", "image", "image"),
    Case("sound", "av_digits", "audio", "audio"),
    Case("sound", "av_hard", "audio", "audio"),
    Case("text", "clothing", "text", "text"),
    Case("text", "mustard", "text", "text"),
    Case("text", "easy_vqa", "question", "text"),
    Case("text", "petfinder", "text", "text"),
    Case("text", "covid_cxr", "notes_masked", "text"),
    Case("text", "nlvr", "text", "text"),
    Case("series", "ts_basicmotions", "series", "series"),
    Case("series", "ts_japanesevowels", "series", "series"),
)

Spec = dict[str, Any]
WAYS: dict[str, dict[str, tuple[Spec, Spec]]] = {
    "image": {
        kind: ({}, {"kind": kind}) for kind in ("convnet", "vgg", "resnet", "mobilenet", "shufflenet", "patch", "vit")
    },
    "sound": {
        f"{features} × {kind}": ({"features": features}, {"kind": kind})
        for features in ("waveform", "stft", "logmel", "mfcc", "plp")
        for kind in ("convnet", "recurrent", "patch")
    },
    "text": {
        "bag_of_words": ({"length": 64}, {"kind": "bag_of_words"}),
        "tfidf": ({"length": 64}, {"kind": "tfidf"}),
        "word_vectors": ({"length": 64, "tokeniser": "word"}, {"kind": "word_vectors"}),
        **{f"recurrent, {cell}": ({"length": 64}, {"kind": "recurrent", "cell": cell}) for cell in ("rnn", "lstm", "gru")},
        "transformer": ({"length": 64}, {"kind": "transformer"}),
    },
    "series": {kind: ({}, {"kind": kind}) for kind in ("statistics", "tcn", "recurrent", "patch", "convnet")},
}
"""Options of the column and encoder, by modality and name."""


def measured(
    case: Case, modality: Spec, encoder: Spec, train: Table, test: Table, seed: int, epochs: int
) -> dict[str, Any]:
    """Train for a number of epochs; return score, size and cost, and the time to predict one row from its raw cell."""
    which = SETS[case.set]
    others = [name for name in train.columns if name not in (case.column, "label", which.group)]
    columns: Any = {case.column: {"kind": case.kind, **modality}}
    recipe = sm.Recipe.parse(
        {
            "columns": columns,
            "model": {"size": "small", "encoders": {case.column: encoder}},
            "training": {"epochs": epochs, "patience": epochs},
        }
    )
    cpu = time.process_time()
    model = sm.fit(train, target="label", ignore=others, group=which.group, recipe=recipe, seed=seed, quiet=True)
    cpu = time.process_time() - cpu
    evaluation = model.evaluate(test).targets["label"]
    row = {case.column: test.column(case.column)[0]}
    waits = []
    for _ in range(30):
        began = time.perf_counter()
        model.predict([row], media=test.root)
        waits.append(time.perf_counter() - began)
    return {
        "score": evaluation.metrics[which.metric],
        "baseline": (evaluation.baseline or {}).get(which.metric),
        "cpu": round(cpu, 2),
        "row_ms": round(1000 * median(waits[5:]), 3),
        "parameters": sum(p.numel() for p in model.model.encoders[case.column].parameters()),
    }


def todo(
    senses: list[str], columns: list[str], seeds: list[int], done: set[tuple[str, ...]]
) -> Iterator[tuple[Case, str, int]]:
    """Yield what is not measured yet, seed by seed, so that an interrupted run has results for every combination first."""
    for seed in seeds:
        for case in CASES:
            for way in WAYS[case.sense] if case.sense in senses and case.column in columns else ():
                if (case.set, case.column, way, str(seed)) not in done:
                    yield case, way, seed


def run(root: Path, out: Path, senses: list[str], columns: list[str], seeds: list[int], epochs: int) -> None:
    """Run the fits whose lines ``out`` does not contain yet."""
    done = {tuple(line["key"]) for line in read(out)}
    for case, way, seed in todo(senses, columns, seeds, done):
        which, folder = SETS[case.set], root / SETS[case.set].folder
        # A set with folds is used with its first, the validation rows.
        train, test = Table.read(folder / which.train), Table.read(folder / (which.more[0] if which.folds else which.test))
        modality, encoder = WAYS[case.sense][way]
        line = {"key": [case.set, case.column, way, str(seed)], "metric": which.metric}
        line |= measured(case, modality, encoder, train, test, seed, epochs)
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{line['key']}: {line['score']:.3f} in {line['cpu']:.0f} CPU s", file=sys.stderr, flush=True)


def table(path: Path) -> str:
    """Return a Markdown table with a line for each encoder; the best of each column of a set is in bold."""
    results: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in read(path):
        name, column, way, _ = line["key"]
        results[name, column][way].append(line)
    lines = []
    for (name, column), ways in results.items():
        first = next(iter(ways.values()))[0]
        lines += [
            "",
            f"**{name}, `{column}`** ({first['metric']}; no input {first['baseline']:.3f})",
            "",
            "| encoder | score | seeds | parameters | CPU s a fit | ms a row |",
            "|---|---|---|---|---|---|",
        ]
        best = max(mean(line["score"] for line in runs) for runs in ways.values())
        for way, runs in ways.items():
            scores = [line["score"] for line in runs]
            text = f"{mean(scores):.3f}" + (f" ± {stdev(scores):.3f}" if len(scores) > 1 else "")
            text = f"**{text}**" if mean(scores) == best else text
            cpu, row = mean(line["cpu"] for line in runs), median(line["row_ms"] for line in runs)
            lines.append(f"| {way} | {text} | {len(runs)} | {runs[0]['parameters']:,} | {cpu:.0f} | {row:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--senses", default=",".join(WAYS))
    parser.add_argument("--columns", default=",".join(dict.fromkeys(case.column for case in CASES)))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training rows, the same for all")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_intermixed_args()
    if arguments.table is not None:
        print(table(arguments.table))
        return
    if arguments.data is None or arguments.out is None:
        parser.error("give the folder of the data and the file for the results")
    csv.field_size_limit(1 << 26)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    run(arguments.data, arguments.out, arguments.senses.split(","), arguments.columns.split(","), seeds, arguments.epochs)


if __name__ == "__main__":
    main()
