"""``python -m benchmarks.labelling FOLDER [--seeds 3]``: sequence labelling of speakers, with default settings.

FOLDER holds ``train.csv``, ``valid.csv`` and ``test.csv`` with the columns ``series`` and ``label`` (ts_japanesevowels):
recordings of one speaker each. Recordings of a table are concatenated into sequences of several speakers; every test
recording is used once. Prints one JSON line for each seed: scores on the test sequences, those of a logistic regression for
each step with the same transitions (Viterbi), and the CPU seconds of training.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Rows = dict[str, list[Any]]


def recordings(path: Path) -> list[tuple[np.ndarray[Any, Any], str]]:
    """Return the series ``[T, C]`` of a table with their labels."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(np.load(path.parent / row["series"]), row["label"]) for row in csv.DictReader(file)]


def joined(parts: Sequence[tuple[np.ndarray[Any, Any], str]], count: int | None, seed: int) -> Rows:
    """Concatenate three to eight random recordings into each of ``count`` sequences; None: use each recording once."""
    rng = np.random.default_rng(seed)
    order = list(rng.permutation(len(parts))) if count is None else []
    rows: Rows = {"signal": [], "labels": []}
    while order if count is None else len(rows["signal"]) < count:
        size = int(rng.integers(3, 9))
        chosen = [order.pop() for _ in range(min(size, len(order)))] if count is None else rng.integers(0, len(parts), size)
        members = [parts[i] for i in chosen]
        ends = np.cumsum([0, *(len(series) for series, _ in members)]).tolist()
        rows["signal"].append(np.concatenate([series for series, _ in members]))
        rows["labels"].append([[ends[i], ends[i + 1], label] for i, (_, label) in enumerate(members)])
    return rows


def per_step(rows: Rows) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[int]]:
    """Return all steps of ``rows``, their labels, and the length of each sequence."""
    labels = [np.repeat([s[2] for s in spans], [s[1] - s[0] for s in spans]) for spans in rows["labels"]]
    return np.concatenate(rows["signal"]), np.concatenate(labels), [len(part) for part in labels]


def floor(train: Rows, test: Rows) -> dict[str, float]:
    """Return the scores of a logistic regression of each step, decoded with the transitions of the training rows."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sensorium.metrics.segments import count_segments, pooled_f1
    from sensorium.nn.viterbi import order_and_lengths, transition_scores, viterbi

    x, y, lengths = per_step(train)
    names, codes = np.unique(y, return_inverse=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, codes)
    spans = [[(int(np.searchsorted(names, name)), end - start) for start, end, name in row] for row in train["labels"]]
    transitions = transition_scores(*order_and_lengths(spans, len(names)))
    x, y, lengths = per_step(test)
    scores = torch.from_numpy(model.predict_log_proba(x)).split(lengths)
    true = torch.from_numpy(np.searchsorted(names, y)).split(lengths)
    paths = [viterbi(s[None], transitions, torch.ones(1, len(s), dtype=torch.bool))[0] for s in scores]
    counts = torch.stack([count_segments(p.tolist(), t.tolist(), None) for p, t in zip(paths, true, strict=True)])
    right = sum(int((p == t).sum()) for p, t in zip(paths, true, strict=True))
    return {
        "segment_f1_50": float(pooled_f1(counts[:, 2], torch.ones(1, len(counts), dtype=torch.float64))),
        "step_accuracy": right / sum(lengths),
    }


def measured(folder: Path, seed: int, sequences: int, overrides: Sequence[str], on: str) -> dict[str, Any]:
    """Train with one seed; return the scores on the table ``on``."""
    import sensorium as sm

    train = joined(recordings(folder / "train.csv"), sequences, seed)
    valid = joined(recordings(folder / "valid.csv"), None, seed)
    test = joined(recordings(folder / f"{on}.csv"), None, 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    model = sm.fit(train, valid=valid, target="labels", seed=seed, overrides=list(overrides), quiet=True)
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    scores = model.evaluate(test).targets["labels"]
    return {
        "seed": seed,
        "cpu_seconds": round(seconds),
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "metrics": scores.metrics,
        "interval": scores.intervals["segment_f1_50"],
        "constant": scores.baseline,
        "logistic": floor(train, test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.csv, valid.csv and test.csv")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--sequences", type=int, default=200, help="number of training sequences")
    parser.add_argument("--on", default="test", choices=("valid", "test"), help="the table that is scored")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_intermixed_args()
    for seed in range(options.seeds):
        scores = measured(options.folder, seed, options.sequences, options.overrides, options.on)
        print(json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
