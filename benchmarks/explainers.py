"""Faithfulness of explanations: every explainer for every encoder, by deletion and insertion, beside chance.

    python -m benchmarks.explainers DATA explainers.jsonl [--rows 12] [--seeds 0,1,2] [--cases image,sound] [--work FOLDER]

A line for each encoder, explainer and seed is appended, so a run that was stopped goes on where it was.
``python -m benchmarks.explainers --table explainers.jsonl`` prints the table of ``docs/explain.md``, ``--areas`` that of
``docs/results.md``, and ``--fill explainers.jsonl`` writes both between their marks.

Deletion and insertion are the mean answer (probability) while parts are taken away and put in, over rows that the model
gets right, as many of each class as can be; ``gap`` is insertion less deletion. Beside it stands the mean gap of five maps
of chance of the same row, drawn anew for each row; ``ahead`` is the mean of the difference, with its standard error.
``scrambled`` is the rank correlation with the map of a network whose weights were shuffled.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import sensorium as sm
from benchmarks import digits
from benchmarks.measure import REPOSITORY
from sensorium.core.explainer import Explainer, Probe
from sensorium.core.registry import build, kinds
from sensorium.data.tables.table import Table
from sensorium.evaluation.attribution import probe
from sensorium.evaluation.faithfulness import alike, by_chance, curves, scrambled
from sensorium.trained import Trained

Spec = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One column (or the table) of one set, and the encoders that read it."""

    set: str
    column: str
    encoders: tuple[str, ...]
    epochs: int
    options: Spec = field(default_factory=dict)
    rows: int = 1500
    held: str = "valid"
    inputs: tuple[str, ...] = ()
    seeds: int = 3
    """Maximum number of rows; fewer for slow combinations."""


CELLS = ("age", "quantity", "fee", "photoamt", "type", "breed1", "gender", "color1", "maturitysize", "furlength")
POINTS, GRAPH, VECTOR = {"kind": "points", "augment": "none"}, {"kind": "graph"}, {"kind": "vector"}
CASES = {
    "image": Case("av_digits", "image", ("convnet", "resnet", "patch", "vit"), 6, {"kind": "image"}),
    "image, large": Case("av_digits", "image", ("resnet18", "vit of 5 M"), 6, {"kind": "image"}, seeds=1),
    "sound": Case("av_digits", "audio", ("convnet", "recurrent", "patch"), 8, {"kind": "audio"}, seeds=2),
    "waveform": Case(
        "av_digits", "audio", ("convnet", "statistics"), 8, {"kind": "audio", "features": "waveform"}, seeds=1
    ),
    "text": Case(
        "clothing", "text", ("bag_of_words", "tfidf", "word_vectors", "recurrent", "transformer"), 5, {"kind": "text"}
    ),
    "text, Chinese": Case("chinese", "text", ("bag_of_words", "recurrent", "transformer"), 5, {"kind": "text"}),
    "series": Case("ts_basicmotions", "series", ("convnet", "statistics", "tcn", "recurrent", "patch"), 60, held="test"),
    "table": Case("petfinder", "table", ("mlp", "cells"), 15, inputs=CELLS),
    "points": Case("points", "points", ("pointnet",), 15, POINTS),
    "graph": Case("graph", "graph", ("graph",), 15, GRAPH),
    "vector": Case("vector", "vector", ("vector",), 15, VECTOR),
    "video": Case("film", "film", ("convnet", "frames"), 10, {"kind": "video"}, seeds=1),
}
ENCODERS: dict[str, Spec] = {
    "resnet18": {"kind": "resnet", "variant": "resnet18"},
    "vit of 5 M": {"kind": "vit", "dim": 256, "depth": 6},
}
"""Encoders with options beyond their kind."""
ONCE = "shapley, 1 order"
EXPLAINERS: dict[str, Spec] = {
    **{kind: {"kind": kind} for kind in kinds("explainers")},
    ONCE: {"kind": "shapley", "orders": 1},
}
EXPLAINERS["shapley"]["orders"] = 8
CHANCE = "random"


def folder_of(data: Path, work: Path, name: str) -> Path:
    """Return the folder of a set, which is generated first if it is synthetic."""
    made = work / name
    if name == "chinese":
        return made if (made / "valid.csv").is_file() else digits.chinese(made)
    if name in digits.SHAPES:
        return made if (made / "valid.csv").is_file() else digits.make(data / "av_digits", made, name)
    return data / name


def fitted(case: Case, encoder: str, train: Table, seed: int = 0, cache: Path | None = None) -> Trained:
    """Train a small model of one stream."""
    kept = case.inputs or (case.column,)
    columns: Any = {case.column: {"kind": "series", **case.options}} if not case.inputs else {}
    recipe = sm.Recipe.parse(
        {
            "columns": columns,
            "model": {"size": "small", "encoders": {case.column: ENCODERS.get(encoder, {"kind": encoder})}},
            "training": {"epochs": case.epochs, "patience": case.epochs},
        }
    )
    others = [name for name in train.columns if name not in (*kept, "label")]
    return sm.fit(train, target="label", ignore=others, recipe=recipe, seed=seed, quiet=True, cache=cache)


def mixed(table: Table, seed: int) -> list[int]:
    """Return all row numbers in random order with alternating classes, since tables are often sorted by class."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(table.column("label")):
        places[str(label)].append(i)
    draw = random.Random(seed)
    for rows in places.values():
        draw.shuffle(rows)
    return [i for turn in zip_longest(*(places[name] for name in sorted(places))) for i in turn if i is not None]


def probes(model: Trained, table: Table, count: int, seed: int) -> list[tuple[Probe, Probe]]:
    """Return probes of rows that the model answers correctly: through its encoder and through a scrambled copy of it."""
    results: list[tuple[Probe, Probe]] = []
    network, (stream, *_) = model.predictor.model, model.model.streams
    other = scrambled(network.encoders[stream])
    plain = network.encoders[stream]
    for i in mixed(table, seed)[: 20 * count]:
        if len(results) == count:
            break
        row_table = table.take([i])
        (answer,) = model.predict(row_table)
        if answer.value != str(row_table.row(0)["label"]):
            continue
        (batch,) = model.batches(model.encode(row_table))
        with torch.no_grad():
            parts = network.encode(batch)
        if not bool(parts[stream].present[0]):
            continue
        real = probe(network, model.schema, batch, parts, stream, "label", answer.value)
        network.encoders.add_module(network.encoders._escape(stream), other)
        blind = probe(network, model.schema, batch, parts, stream, "label", answer.value)
        network.encoders.add_module(network.encoders._escape(stream), plain)
        results.append((real, blind))
    return results


def measured(spec: Spec, settings: Sequence[tuple[Probe, Probe]], chances: Sequence[float], seed: int) -> dict[str, Any]:
    """Evaluate an explainer on these rows: the areas under its curves, and the error of the sum of its values."""
    rows: list[dict[str, Any]] = []
    for i, ((real, blind), chance) in enumerate(zip(settings, chances, strict=True)):
        # Random maps are drawn separately for each row, and differ from those they are compared with.
        drawn = {"seed": 100_000 + 1000 * seed + i} if spec["kind"] == CHANCE else {}
        explainer: Explainer = build("explainers", {**spec, **drawn})
        began = time.process_time()
        heat = explainer.explain(real)
        seconds = time.process_time() - began
        result = curves(real, heat.values)
        lost = None
        if heat.blank is not None:
            change = real.value - heat.blank
            lost = abs(float(heat.values.double().sum()) - change) / max(abs(change), 1e-3)
        same = alike(real, heat.values, explainer.explain(blind).values) if i < 8 else None
        rows.append(
            {
                "deletion": result.deletion_area,
                "insertion": result.insertion_area,
                "gap": result.gap,
                "chance": chance,
                "lost": lost,
                "same": None if same is None or same != same else same,
                "ms": 1000 * seconds,
            }
        )
    return {"rows": rows}


def run(data: Path, out: Path, names: Sequence[str], rows: int, seeds: Sequence[int], work: Path) -> None:
    """Compute the lines that ``out`` does not contain yet, seed by seed."""
    done = {(r["case"], r["encoder"], r["explainer"], r["seed"]) for r in read(out)} if out.exists() else set()
    torch.set_num_threads(1)
    for seed in seeds:
        for name in names:
            case = CASES[name]
            if seed >= case.seeds:
                continue
            at = folder_of(data, work, case.set)
            train = Table.read(at / "train.csv")
            train = train.take(range(min(len(train), case.rows)))
            held = Table.read(at / f"{case.held}.csv")
            for encoder in case.encoders:
                pending = [kind for kind in EXPLAINERS if (name, encoder, kind, seed) not in done]
                if not pending:
                    continue
                began = time.process_time()
                model = fitted(case, encoder, train, seed, work / "cache")
                values = probes(model, held, rows, seed)
                chances = [by_chance(real, seed=1000 * seed + i).gap for i, (real, _) in enumerate(values)]
                for kind in pending:
                    explainer: Explainer = build("explainers", EXPLAINERS[kind])
                    result = explainer.refuses(values[0][0]) if values else "no row was answered correctly"
                    results = {"refuses": result} if result else measured(EXPLAINERS[kind], values, chances, seed)
                    line = {"case": name, "encoder": encoder, "explainer": kind, "seed": seed, **results}
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                seconds = time.process_time() - began
                print(f"{name}, {encoder}, seed {seed}: {len(values)} rows, {seconds:.0f} CPU s", flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


@dataclass(frozen=True)
class Line:
    """A line of the table: mean areas over rows, and their difference from chance with its standard error."""

    rows: Sequence[dict[str, Any]]

    def mean(self, name: str) -> float:
        return mean(row[name] for row in self.rows)

    @property
    def ahead(self) -> tuple[float, float]:
        over = [row["gap"] - row["chance"] for row in self.rows]
        return mean(over), stdev(over) / len(over) ** 0.5 if len(over) > 1 else float("inf")

    @property
    def beats(self) -> bool:
        """Ahead of chance by more than two standard errors."""
        over, error = self.ahead
        return over > 2 * error

    def areas(self) -> list[str]:
        over, error = self.ahead
        cells = [f"{self.mean('deletion'):.3f}", f"{self.mean('insertion'):.3f}", f"{self.mean('gap'):+.3f}"]
        return [*cells, f"{self.mean('chance'):+.3f}", f"{over:+.3f} ± {error:.3f}"]

    @property
    def scrambled(self) -> str:
        known = [row["same"] for row in self.rows if row["same"] is not None]
        return f"{mean(known):+.2f}" if known else "–"

    @property
    def adds(self) -> str:
        """Return the largest error of any row's sum of values, and the number of rows whose values do not sum at all."""
        known = [row["lost"] for row in self.rows if row["lost"] is not None]
        if not known:
            return "all rank only"
        most = f"{100 * max(known):.1f} %"
        return (
            most if len(known) == len(self.rows) else f"{most}; {len(self.rows) - len(known)} of {len(self.rows)} rank only"
        )


def grouped(lines: Sequence[dict[str, Any]], *names: str) -> dict[tuple[str, ...], Line]:
    """Group the rows of all lines by the values of these names, in the order of the lists above, with chance last.

    Refusals are left out.
    """
    cases, explainers = list(CASES), [*(name for name in EXPLAINERS if name != CHANCE), CHANCE]

    def place(line: dict[str, Any]) -> tuple[int, ...]:
        encoders = CASES[line["case"]].encoders
        spots = {
            "case": cases.index(line["case"]),
            "encoder": encoders.index(line["encoder"]),
            "explainer": explainers.index(line["explainer"]),
        }
        return tuple(spots[name] for name in names)

    rows: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for line in sorted((line for line in lines if "rows" in line), key=place):
        rows[tuple(line[name] for name in names)] += line["rows"]
    return {key: Line(members) for key, members in rows.items()}


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    first, *rest = (f"| {' | '.join(line)} |" for line in (head, *lines))
    return "\n".join([first, f"|{'---|' * len(head)}", *rest])


AREAS = ("deletion ↓", "insertion ↑", "gap", "chance's gap", "ahead of chance")


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table with a line for each encoder and explainer."""
    head = ["sense", "encoder", "explainer", "rows", *AREAS, "beats chance", "scrambled", "lost", "ms a row"]
    # Explainers whose values never sum get no entry.
    sums = {group["explainer"] for group in lines for row in group.get("rows", ()) if row["lost"] is not None}
    results = []
    for (case, encoder, explainer), group in grouped(lines, "case", "encoder", "explainer").items():
        lost = group.adds if explainer in sums else ""
        result = [*group.areas(), "yes" if group.beats else "no", group.scrambled, lost, f"{group.mean('ms'):.0f}"]
        results.append([case, encoder, explainer, str(len(group.rows)), *result])
    return markdown(head, results)


def areas(lines: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table with a line for each modality and explainer, over the encoders."""
    by_encoder = grouped(lines, "case", "encoder", "explainer")
    head = ["sense", "explainer", "rows", *AREAS, "beats chance on"]
    results = []
    for (case, explainer), group in grouped(lines, "case", "explainer").items():
        verdicts = {key[1]: member.beats for key, member in by_encoder.items() if (key[0], key[2]) == (case, explainer)}
        share = f"{sum(verdicts.values())} of {len(verdicts)} encoders"
        but = ", ".join(name for name, beats in verdicts.items() if not beats)
        but = f" (not {but})" if but and any(verdicts.values()) else ""
        results.append([case, explainer, str(len(group.rows)), *group.areas(), share + but])
    return markdown(head, results)


def fill(path: Path, mark: str, text: str) -> None:
    """Replace the text between ``<!-- mark -->`` and ``<!-- /mark -->`` of a page."""
    before, start, rest = path.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not (start and end):
        raise ValueError(f"{path} has no mark {mark}")
    path.write_text(f"{before}{start}{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--cases", default=";".join(CASES), help="separated by ;")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--work", type=Path, default=Path("explainers"), help="folder of generated sets and decoded media")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--areas", type=Path)
    parser.add_argument("--fill", type=Path)
    arguments = parser.parse_intermixed_args()
    for path, show in ((arguments.table, table), (arguments.areas, areas)):
        if path is not None:
            sys.stdout.write(show(read(path)) + "\n")
    if arguments.fill is not None:
        fill(REPOSITORY / "docs" / "explain.md", "explainers", table(read(arguments.fill)))
        fill(REPOSITORY / "docs" / "results.md", "explainers", areas(read(arguments.fill)))
    if arguments.table is None and arguments.areas is None and arguments.fill is None:
        if arguments.data is None or arguments.out is None:
            parser.error("DATA and a file for the lines are needed")
        seeds = [int(seed) for seed in arguments.seeds.split(",")]
        run(arguments.data, arguments.out, arguments.cases.split(";"), arguments.rows, seeds, arguments.work)


if __name__ == "__main__":
    main()
