"""Which maps can be believed: every explainer of every encoder, by deletion and insertion, beside chance.

    python -m benchmarks.explainers DATA explainers.jsonl [--rows 24] [--cases image,sound,text,series,table]

A line for each encoder and explainer is appended, so a run that was stopped goes on where it was.
``python -m benchmarks.explainers --table explainers.jsonl`` prints the table of ``docs/explain.md``.

Columns: deletion and insertion are the mean answer (probability) while parts are taken away and put in, over rows that the
model gets right; ``gap`` is insertion less deletion, with its standard error over rows; ``beats chance`` the share of rows
whose gap is larger than the mean of five maps of chance; ``scrambled`` the rank correlation with the map of a network whose
weights were shuffled; ``lost`` how far the values are from adding up, at the worst row.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import sensorium as sm
from sensorium.core.explainer import Explainer, Probe
from sensorium.core.registry import build, kinds
from sensorium.data.table import Table
from sensorium.evaluation.faith import by_chance, curves, sanity, scrambled
from sensorium.evaluation.where import probe
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


CELLS = ("age", "quantity", "fee", "photoamt", "type", "breed1", "gender", "color1", "maturitysize", "furlength")
CASES = {
    "image": Case("av_digits", "image", ("convnet", "resnet", "patch", "vit"), 6, {"kind": "image"}),
    "photo": Case("av_digits", "sign_image", ("convnet", "patch"), 10, {"kind": "image"}),
    "sound": Case("av_digits", "audio", ("convnet", "recurrent", "patch"), 10, {"kind": "audio"}),
    "wave": Case("av_digits", "audio", ("convnet",), 10, {"kind": "audio", "features": "waveform"}),
    "text": Case("clothing", "text", ("bag", "tfidf", "wordvectors", "recurrent", "transformer"), 5, {"kind": "text"}),
    "series": Case("ts_basicmotions", "series", ("convnet", "statistics", "tcn", "recurrent", "patch"), 60, held="test"),
    "table": Case("petfinder", "table", ("mlp", "cells"), 15, inputs=CELLS),
}


def fitted(case: Case, encoder: str, train: Table, seed: int = 0) -> Trained:
    """A small model of one stream."""
    kept = case.inputs or (case.column,)
    columns: Any = {case.column: {"kind": "series", **case.options}} if not case.inputs else {}
    kind: Spec = {"kind": encoder}
    recipe = sm.Recipe.parse(
        {
            "columns": columns,
            "model": {"size": "small", "encoders": {case.column: kind}},
            "training": {"epochs": case.epochs, "patience": case.epochs},
        }
    )
    others = [name for name in train.columns if name not in (*kept, "label")]
    return sm.fit(train, target="label", ignore=others, recipe=recipe, seed=seed, quiet=True)


def probes(model: Trained, table: Table, count: int) -> list[tuple[Probe, Probe]]:
    """Rows that the model gets right, each before the encoder and before a scrambled copy of it."""
    found: list[tuple[Probe, Probe]] = []
    network, (stream, *_) = model.predictor.model, model.model.streams
    other = scrambled(network.encoders[stream])
    plain = network.encoders[stream]
    for i, answer in enumerate(model.predict(table)):
        if len(found) == count:
            break
        if answer.value != str(table.row(i)["label"]):
            continue
        (batch,) = model.batches(model.encode(table.take([i])))
        with torch.no_grad():
            parts = network.encode(batch)
        if not bool(parts[stream].present[0]):
            continue
        real = probe(network, model.schema, batch, parts, stream, "label", answer.value)
        network.encoders.add_module(network.encoders._escape(stream), other)
        blind = probe(network, model.schema, batch, parts, stream, "label", answer.value)
        network.encoders.add_module(network.encoders._escape(stream), plain)
        found.append((real, blind))
    return found


def measured(explainer: Explainer, given: list[tuple[Probe, Probe]], chances: list[float]) -> dict[str, Any]:
    """An explainer over these rows."""
    gaps, wins, deletions, insertions, lost, seconds = [], [], [], [], [], []
    for (real, _), chance in zip(given, chances, strict=True):
        began = time.process_time()
        heat = explainer.explain(real)
        seconds.append(time.process_time() - began)
        told = curves(real, heat.values)
        gaps.append(told.gap)
        wins.append(told.gap > chance)
        deletions.append(told.deletion_area)
        insertions.append(told.insertion_area)
        if heat.blank is not None:
            change = real.value - heat.blank
            lost.append(abs(float(heat.values.sum()) - change) / max(abs(change), 1e-3))
    return {
        "rows": len(gaps),
        "deletion": mean(deletions),
        "insertion": mean(insertions),
        "gap": mean(gaps),
        "error": stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else None,
        "wins": mean(wins),
        "lost": max(lost) if lost else None,
        "scrambled": sanity(explainer, given[:8]),
        "cpu_ms": 1000 * mean(seconds),
    }


def run(data: Path, out: Path, names: list[str], rows: int) -> None:
    done = {(r["case"], r["encoder"], r["explainer"]) for r in read(out)} if out.exists() else set()
    torch.set_num_threads(1)
    for name in names:
        case = CASES[name]
        train = Table.read(data / case.set / "train.csv")
        train = train.take(range(min(len(train), case.rows)))
        held = Table.read(data / case.set / f"{case.held}.csv")
        for encoder in case.encoders:
            wanted = [kind for kind in kinds("explainers") if (name, encoder, kind) not in done]
            if not wanted:
                continue
            model = fitted(case, encoder, train)
            given = probes(model, held, rows)
            chances = [by_chance(real).gap for real, _ in given]
            for kind in wanted:
                explainer: Explainer = build("explainers", kind)
                told = explainer.refuses(given[0][0])
                found = {"refuses": told} if told else measured(explainer, given, chances)
                line = {"case": name, "set": case.set, "encoder": encoder, "explainer": kind, **found}
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def table(rows: list[dict[str, Any]]) -> str:
    """The measured lines as Markdown."""
    head = [
        "sense",
        "encoder",
        "explainer",
        "deletion ↓",
        "insertion ↑",
        "gap",
        "beats chance",
        "scrambled",
        "lost",
        "ms a row",
    ]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for r in rows:
        if "refuses" in r:
            continue
        gap = f"{r['gap']:+.3f} ± {r['error']:.3f}"
        lost = "" if r["lost"] is None else f"{100 * r['lost']:.1f} %"
        values = [
            f"{r['deletion']:.3f}",
            f"{r['insertion']:.3f}",
            gap,
            f"{100 * r['wins']:.0f} %",
            f"{r['scrambled']:+.2f}",
        ]
        lines.append(" | ".join([r["case"], r["encoder"], r["explainer"], *values, lost, f"{r['cpu_ms']:.0f}"]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--table", type=Path)
    told = parser.parse_args()
    if told.table is not None:
        sys.stdout.write(table(read(told.table)) + "\n")
        return
    if told.data is None or told.out is None:
        parser.error("DATA and a file for the lines are needed")
    run(told.data, told.out, told.cases.split(","), told.rows)


if __name__ == "__main__":
    main()
