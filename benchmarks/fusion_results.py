"""The comparison of fusions in ``docs/results.md``: every fusion on every multimodal set, with the same encoders, budget
and seeds.

    python -m benchmarks.fusion_results DATA OUT [--sets "av_hard|easy_vqa"] [--fusions all] [--seeds 3]
                                        [--epochs 8] [--seconds 60] [--size small]

``DATA`` holds the sets as their README describes them. Every set has a folder of its own in ``OUT`` with one line for each
finished run, so an interrupted comparison is continued. ``--epochs`` is a budget that does not depend on the load of the
machine; ``--seconds`` is wall time. ``python -m benchmarks.fusion_results --table OUT`` prints the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.results import SETS, Set, tables
from sensorium.training.compare import compare

MULTIMODAL = tuple(name for name, which in SETS.items() if len(which.streams) > 1)


def run(
    root: Path,
    out: Path,
    names: list[str],
    fusions: str,
    seeds: int,
    overrides: list[str],
    most: int | None = None,
    length: int | None = None,
) -> None:
    """Run every comparison that is not finished yet; of sets that come in folds, the first fold.

    ``most``: training rows; ``length``: tokens of a text.
    """
    for name in names:
        which = SETS[name]
        _, train, test = next(iter(tables(which, root, 0)))
        if most is not None and len(train) > most:
            train = train.take(range(0, len(train), -(-len(train) // most)))
        result = compare(
            train,
            target="label",
            test=test,
            fusions=fusions,
            seeds=seeds,
            metric=which.metric,
            ignore=[column for column in which.ignore if train.has(column)],
            group=which.group,
            overrides=[*overrides, *shorter(which, length)],
            out=out / slug(name),
            quiet=True,
        )
        (out / slug(name) / "set.txt").write_text(name, encoding="utf-8")
        print(f"{name}: {result.findings[0]}", file=sys.stderr, flush=True)


TEXTS = ("text", "context", "title", "name", "question", "notes_masked")


def shorter(which: Set, length: int | None) -> list[str]:
    """Return overrides that limit the length of the texts of a set."""
    columns = [column for stream in which.streams.values() for column in stream if column in TEXTS]
    return [] if length is None else [f"columns.{column}={{kind: text, length: {length}}}" for column in columns]


def slug(name: str) -> str:
    """Return the name of a set as a folder name."""
    return re.sub(r"\W+", "_", name)


def table(out: Path) -> str:
    """Return a Markdown table of fusions by sets: score ± spread over the seeds, and the robustness area in brackets."""
    results: dict[str, Any] = {}
    for file in sorted(out.glob("*/set.txt")):
        name = file.read_text(encoding="utf-8")
        results[name] = json.loads((file.parent / "compare.json").read_text(encoding="utf-8"))
    results = {name: results[name] for name in SETS if name in results}
    fused = {n: {r["name"]: r for r in d["runs"] if len(r["streams"]) == len(SETS[n].streams)} for n, d in results.items()}
    rows = sorted({name for by_name in [*fused.values(), *(d["skipped"] for d in results.values())] for name in by_name})
    lines = ["| fusion | " + " | ".join(f"{n} ({d['metric']})" for n, d in results.items()) + " |"]
    lines.append("|---|" + "---|" * len(results))
    for fusion in rows:
        cells = [_cell(fused[name].get(fusion), document["best"]) for name, document in results.items()]
        lines.append(f"| {fusion} | {' | '.join(cells)} |")
    alone = [max((r for r in d["runs"] if len(r["streams"]) == 1), key=lambda r: r["mean"]) for d in results.values()]
    lines.append("| *best modality alone* | " + " | ".join(f"{r['mean']:.3f} ({r['streams'][0]})" for r in alone) + " |")
    lines.append("| *no input* | " + " | ".join(f"{d['baseline']:.3f}" for d in results.values()) + " |")
    budgets = [f"{name}: {document['budget']}, {document['rows']:,} test rows" for name, document in results.items()]
    note = "**bold**: the best; ≈: not significantly different (p ≥ 0.05 after Holm); in brackets the robustness area."
    return "\n".join([*lines, "", note, "", *(f"* {budget}" for budget in budgets)])


def _cell(run: dict[str, Any] | None, best: str) -> str:
    if run is None:
        return "–"
    spread = "" if run["spread"] is None else f" ± {run['spread']:.3f}"
    area = "" if run["robustness_area"] is None else f" ({run['robustness_area']:.2f})"
    score = f"**{run['mean']:.3f}**" if run["name"] == best else f"{run['mean']:.3f}"
    return f"{score}{spread}{area}" + ("" if run["told_apart"] or run["name"] == best else " ≈")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--sets", default="|".join(MULTIMODAL), help="names, separated by |")
    parser.add_argument("--fusions", default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="passes over the training rows a run, at most")
    parser.add_argument("--seconds", type=float, help="of training a run, at most, by the clock")
    parser.add_argument("--size", default="auto", help="tiny, small, base, large [default: by the rows]")
    parser.add_argument("--rows", type=int, help="training rows, at most: evenly taken from more")
    parser.add_argument("--length", type=int, help="tokens of a text, at most")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_intermixed_args()
    if arguments.table is not None:
        print(table(arguments.table))
        return
    if arguments.data is None or arguments.out is None:
        parser.error("give the folder of the data and the folder for the results")
    csv.field_size_limit(1 << 26)
    overrides = [f"model.size={arguments.size}"]
    overrides += [] if arguments.epochs is None else [f"training.epochs={arguments.epochs}"]
    overrides += [] if arguments.seconds is None else [f"training.time_limit={arguments.seconds}"]
    run(
        arguments.data,
        arguments.out,
        arguments.sets.split("|"),
        arguments.fusions,
        arguments.seeds,
        overrides,
        arguments.rows,
        arguments.length,
    )
    print(table(arguments.out))


if __name__ == "__main__":
    main()
