"""Share of padding and cost of a step in batches of rows of similar length, compared with batches of random rows.

Texts and series are synthetic, with the skewed lengths of real data: many short, a few long. The real sets are those whose
texts, series or sounds differ in length; missing ones are skipped.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Measure, Results, Settings, Skipped, compared, cost, interleaved
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console
from sensorium.training.network_training import build
from sensorium.training.padding_report import WINDOW, padding_shares
from sensorium.training.prepare import prepare
from sensorium.training.step_timing import Job, StepTimer
from sensorium.training.training_request import Request

STEPS = 10
"""Steps in a round; with fewer, differences between batches would dominate."""
REAL = (
    ("clothing, bags of words", "clothing", ["rating", "id"], []),
    ("clothing, text under a transformer", "clothing", ["rating", "id", "title"], ["model.encoders.text=transformer"]),
    ("ts_japanesevowels", "ts_japanesevowels", ["id"], []),
    ("av_hard, the sound alone", "av_hard", ["id", "speaker", "image"], []),
)


def texts(folder: Path, rows: int) -> Path:
    """Write a table of texts of 4 to 200 words, whose lengths are log-normal like those of reviews."""
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(3.3, 0.8, rows)).clip(4, 200).astype(int)
    path = folder / "texts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for length in lengths.tolist():
            words = rng.integers(0, 2000, length)
            table.writerow([" ".join(f"w{word}" for word in words), "ab"[int(words.mean() > 1000)]])
    return path


def series(folder: Path, rows: int) -> Path:
    """Write a table of series of two channels and 10 to 300 steps."""
    rng = np.random.default_rng(1)
    (folder / "series").mkdir()
    path = folder / "series.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sensor", "label"])
        for i in range(rows):
            length = int(np.exp(rng.normal(4.0, 0.7)).clip(10, 300))
            tone = np.sin(np.arange(length)[:, None] / (3 + 2 * (i % 2))) + rng.normal(0, 0.3, (length, 2))
            np.save(folder / "series" / f"{i}.npy", tone.astype(np.float32))
            table.writerow([f"series/{i}.npy", "ab"[i % 2]])
    return path


def job(path: Path, ignore: list[str], overrides: list[str], cache: Path) -> tuple[Job, Any]:
    """Return the model that ``fit`` would train on a table, and its resolved recipe."""
    quiet = Console(quiet=True)
    table = Table.read(path)
    known = [name for name in ignore if table.has(name)]
    options = ["training.threads=1", *overrides]
    request = Request.of(path, target="label", ignore=known, overrides=options, cache=cache)
    ready = prepare(request, quiet)
    torch.manual_seed(0)
    model, objectives = build(ready.plan, ready.schema, ready.rows, quiet)
    return Job(model, objectives, ready.schema, ready.rows, 0, torch.device("cpu")), ready.plan


def compare(name: str, held: Job, plan: Any, settings: Settings) -> Results:
    """Measure padding and time of both kinds of batches on the same rows."""
    spec = plan.training
    result = padding_shares(held.schema, held.rows, spec, 0)
    if result is None:
        return [Skipped(name, "no stream has varying length")]
    random_shares, sorted_shares = result
    with StepTimer(held, spec) as unbucketed, StepTimer(held, spec.model_copy(update={"bucket": WINDOW})) as bucketed:
        unbucketed.steps(2), bucketed.steps(2)
        count = settings.few(STEPS, 2)
        mine, theirs = interleaved(
            lambda: cost(lambda: bucketed.steps(count)), lambda: cost(lambda: unbucketed.steps(count)), settings.few(8, 2)
        )
    note = f"{len(held.rows)} rows in batches of {spec.batch_size}, rows of like length among {WINDOW} batches"
    return [
        Measure(
            f"padding, {name}",
            "of cells",
            sorted_shares.share,
            random_shares.share,
            sorted_shares.share / max(random_shares.share, 1e-9),
            note=note,
        ),
        # CPU time, of one thread: wall time would include that of other programs.
        compared(f"step, {name}", "CPU ms", [1e3 * c.cpu / count for c in mine], [1e3 * c.cpu / count for c in theirs]),
    ]


def run(settings: Settings) -> Results:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
            at, rows = Path(folder), settings.few(2000, 200)
            made = (
                ("texts, transformer", texts(at, rows), ["model.encoders.text=transformer"]),
                ("texts, bag of words", at / "texts.csv", []),
                ("series, recurrent", series(at, rows), ["model.encoders.sensor=recurrent"]),
                ("series, convnet", at / "series.csv", []),
            )
            size = ["model.size=tiny"] if settings.smoke else []
            results: Results = []
            for name, path, overrides in made:
                results += compare(name, *job(path, [], [*overrides, *size], at / "cache"), settings)
            for name, which, ignore, overrides in () if settings.smoke else REAL:
                path = settings.data / which / "train.csv"
                if not path.is_file():
                    results.append(Skipped(f"padding, {name}", f"no {path}"))
                    continue
                results += compare(name, *job(path, ignore, overrides, at / "cache"), settings)
            return results
    finally:
        torch.set_num_threads(before)
