"""What experts cost: ``--quality fast`` beside scikit-learn, and the default beside the network alone, on the same rows.

The default is network and experts with a final fit on all rows. For ``fast``, the reference is what the league calls
``linear`` and ``forest``, one after the other: TF-IDF of words, pairs of words and letters, imputed and standardised
numbers, one-hot categories, a logistic regression with its penalty by cross-validation, and 300 extremely randomised trees.
``fast`` fits a model for every set of streams, weighs them, and fits them once more.

    OMP_NUM_THREADS=1 python -m benchmarks.floor [--data DATA] [--quality fast] [--smoke]

With several threads, those of the libraries that spin while they wait are counted, mostly for the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

import sensorium
from benchmarks.league_rivals import Plain, answer
from benchmarks.league_sets import Set, Sources
from benchmarks.measure import Results, Settings, Skipped, compared, cost, interleaved

SETS = ("clothing", "petfinder", "mustard")
ALONE = ("model.experts=[]", "training.refit=none")
ASKED = 50
"""Number of rows that the reference predicts, since it fits and predicts in one call."""


def trained(which: Set, quality: Literal["fast", "good"], *overrides: str) -> None:
    """Train and evaluate a model, starting from cells."""
    columns = [*which.kinds, which.target]
    table = {name: which.table.column(name) for name in columns}
    sensorium.fit(table, target=which.target, quality=quality, overrides=list(overrides), quiet=True)


def plain(which: Set) -> None:
    """Fit the reference on the same cells, feature extraction included."""
    answers = np.array(which.table.column(which.target), dtype=object)
    rows = np.arange(len(which.table))
    for way in ("linear", "forest"):
        answer(way, Plain(which), which, rows, rows[:ASKED], answers, sorted(set(answers)), seed=0)


def run(settings: Settings, qualities: Collection[str] = ("fast", "good")) -> Results:
    results: Results = []
    for name in SETS:
        if not (settings.data / name / "train.csv").is_file():
            results.append(Skipped(name, f"no {name} in {settings.data}"))
            continue
        by_name = Sources(data=settings.data, only=frozenset({name})).sets()
        which = by_name[name].thinned(settings.few(2_000, 120))
        pairs = {
            "fast": (partial(trained, which, "fast"), partial(plain, which), 2.0, "linear and forest of scikit-learn"),
            "good": (partial(trained, which, "good"), partial(trained, which, "good", *ALONE), 1.5, "the network alone"),
        }
        for quality in qualities:
            own, other, most, beside = pairs[quality]
            ours, reference = interleaved(partial(cost, own), partial(cost, other), settings.few(3, 1))
            costs = ([timing.cpu for timing in ours], [timing.cpu for timing in reference])
            note = f"{len(which.table)} rows, beside {beside}"
            results.append(compared(f"{quality}, {name}", "CPU s", *costs, at_most=most, note=note))
    return results


if __name__ == "__main__":
    from benchmarks.__main__ import table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Settings().data, help=f"the folder with {', '.join(SETS)}")
    parser.add_argument("--smoke", action="store_true", help="few rows, once")
    parser.add_argument("--quality", choices=("fast", "good"), nargs="+", default=["fast", "good"])
    arguments = parser.parse_args()
    print(table(run(Settings(data=arguments.data, smoke=arguments.smoke), arguments.quality)))
