"""Time of ten epochs on pictures and recordings of 1,500 digits, from raw files with an empty store; and the time to an
accuracy of 0.75, and to the best accuracy that a hand-written script (``by_hand.py``) reaches in as many epochs."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Measure, Results, Settings, Skipped, child, compared, python

TARGET = 0.75

CODE = """
import json, sys, time
start = time.process_time()
import sensorium
import sensorium.evaluation.evaluate, sensorium.reporting.report, sensorium.training.callbacks, sensorium.training.fit
from sensorium.training.lightning_module import TrainingModule
import PIL.Image, PIL.JpegImagePlugin, PIL.PngImagePlugin, soundfile, soxr
imports = time.process_time() - start
score = TrainingModule.on_validation_epoch_end
passed = []
def scored(self):
    score(self)
    passed.append((time.process_time() - began[0], time.perf_counter() - began[1], self.history[-1]))
TrainingModule.on_validation_epoch_end = scored
train, valid, target, ignore, cache, epochs, seed = sys.argv[1:]
began = (time.process_time(), time.perf_counter())
sensorium.fit(
    train, target=target, valid=valid, ignore=ignore.split(","), cache=cache, quiet=True, seed=int(seed),
    overrides=[f"training.epochs={epochs}", "training.batch_size=32", "training.patience=1000", "model.size=small"],
)
cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
key = f"valid_accuracy_{target}"
print(json.dumps({"imports": imports, "cpu": cpu, "wall": wall, "epochs": [(c, w, r[key]) for c, w, r in passed]}))
"""


def run(settings: Settings) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        if settings.smoke:
            from sensorium.data.synthetic import make

            tables = make(at, rows=60, valid=0.2, test=0.0, holes=0.0)
            train, valid, target, ignore = tables["train"], tables["valid"], "event", "when,room,note,sensor,temperature"
            senses = "photo", "sound"
        else:
            train, valid = settings.data / "av_hard" / "train.csv", settings.data / "av_hard" / "valid.csv"
            target, ignore, senses = "label", "id,speaker", ("image", "audio")
            if not (train.is_file() and valid.is_file()):
                return [Skipped("av_hard", f"there is no {train} (name the folder of the data with --data)")]
        epochs = settings.few(10, 2)
        collected: list[dict[str, Any]] = []
        scripts: list[list[tuple[float, float, float]]] = []
        for seed in range(settings.few(3, 1)):
            arguments = (str(train), str(valid), target, ignore, str(at / f"cache{seed}"), str(epochs), str(seed))
            _, printed = python(CODE, *arguments, OMP_NUM_THREADS="1")
            collected.append(json.loads(printed.splitlines()[-1]))
            arguments = (str(train), str(valid), target, *senses, str(epochs), str(seed))
            scripts.append(
                json.loads(child([sys.executable, "-m", "benchmarks.by_hand", *arguments], OMP_NUM_THREADS="1")[1])
            )

    def middle(name: str, unit: str, values: list[float], limit: float | None = None, note: str = "") -> Measure:
        return Measure(name, unit, statistics.median(values), spread=(min(values), max(values)), at_most=limit, note=note)

    best = [max(score for _, _, score in f["epochs"]) for f in collected]
    results: Results = [
        middle(
            f"av_hard, {epochs} epochs, cpu", "CPU s", [f["cpu"] for f in collected], 11.0, "raw files to evaluated model"
        ),
        middle(f"av_hard, {epochs} epochs, wall", "s", [f["wall"] for f in collected]),
        middle("av_hard, imports", "CPU s", [f["imports"] for f in collected]),
        middle(f"av_hard, best accuracy in {epochs} epochs", "", best),
    ]
    way = [next(((c, w) for c, w, score in f["epochs"] if score >= TARGET), None) for f in collected]
    arrived = [pair for pair in way if pair is not None]
    if arrived:
        note = f"{len(arrived)} of {len(way)} seeds got there"
        results.append(middle(f"av_hard, to {TARGET}, cpu", "CPU s", [pair[0] for pair in arrived], note=note))
        results.append(middle(f"av_hard, to {TARGET}, wall", "s", [pair[1] for pair in arrived]))
    elif not settings.smoke:
        results.append(Skipped(f"av_hard, to {TARGET}", f"no seed got there in {epochs} epochs"))
    return results + _beside(collected, scripts)


def _beside(collected: list[dict[str, Any]], scripts: list[list[tuple[float, float, float]]]) -> Results:
    """Compare the time to the script's best accuracy, where sensorium reached it."""
    results: Results = []
    best = [max(score for _, _, score in script) for script in scripts]
    for at, clock in enumerate(("cpu", "wall")):
        ours, theirs = [], []
        for run, script, goal in zip(collected, scripts, best, strict=True):
            available = next((passed[at] for passed in run["epochs"] if passed[2] >= goal), None)
            if available is not None:
                ours.append(available)
                theirs.append(next(passed[at] for passed in script if passed[2] >= goal))
        if ours:
            reached = f"{len(ours)} of {len(best)} seeds got there"
            note = f"{statistics.median(best):.2f} ({min(best):.2f} to {max(best):.2f}); {reached}"
            name = f"av_hard, to the best accuracy of a script by hand, {clock}"
            results.append(compared(name, "s", ours, theirs, at_most=1.0, note=note))
    return results
