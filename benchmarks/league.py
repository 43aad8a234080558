"""The league: sensorium with default settings and three models of scikit-learn on small public tables of every kind.

    python -m benchmarks.league [--sets a,b] [--folds 5] [--seeds 1] [--ways default,linear,forest,boosting]
        [--out league.jsonl] [--quality good] [--set training.epochs=20] [--rows N] [--data DATA] [--part train]
        [--statsmodels WHEEL] [--sktime WHEEL] [--aeon WHEEL]
    python -m benchmarks.league --table league.jsonl [more.jsonl ...]

The wheels come from ``pip download --no-deps statsmodels sktime aeon``; none of their code is run. One line is appended to
``--out`` for every set, method ("way"), seed and fold, so an interrupted run is continued, and two processes may share the
sets. ``--name`` adds another version or other settings to the same table; ``--beside`` takes the rivals from an older file.

All methods see the same folds, which are stratified by class or hold whole groups. Nothing is chosen on the rows that are
scored. The score is AUROC for two classes, accuracy for more, and R² for numbers. The difference is paired, fold by fold,
to the rival whose mean is best *on these folds*, which favours the rivals a little; its standard error is over folds and
seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import sensorium as sm
from benchmarks import league_rivals as rivals
from benchmarks.league_sets import Set, Sources, described
from sensorium.data.splitting import folds

Array = NDArray[Any]
DEFAULT = "default"
FLOOR = 1e-6
"""Lower bound of probabilities in the log loss, for every method."""


class TrainingSettings(NamedTuple):
    """Training settings of sensorium, and the name of its results in the table."""

    name: str = DEFAULT
    quality: str | None = None
    overrides: tuple[str, ...] = ()


def ours(which: Set, learn: Array, check: Array, names: Sequence[str], seed: int, result: TrainingSettings) -> Array:
    """Return the predictions of sensorium for the rows ``check``: probabilities in the order of ``names``, or numbers.

    The target and the ignored columns are given; the kinds of the inputs are inferred.
    """
    group = which.group if which.group not in which.kinds else None
    with tempfile.TemporaryDirectory(prefix="league-") as cache:
        model = sm.fit(
            which.table.take(learn),
            target=which.target,
            columns={which.target: "category" if which.classes else "number"},
            ignore=which.ignore,
            group=group,
            overrides=result.overrides,
            quality=result.quality,
            seed=seed,
            cache=cache,
            quiet=True,
        )
        requested = which.table.take(check)
        inputs = [prediction.targets[which.target] for prediction in model.predict(requested)]
    if not which.classes:
        return np.array([answer["value"] for answer in inputs], dtype=np.float64)
    return np.array([[answer["probabilities"].get(name, 0.0) for name in names] for answer in inputs])


def scores(which: Set, truth: Array, predicted: Array, names: Sequence[str]) -> dict[str, float]:
    """Return all metrics of predictions; the first is the headline."""
    from sklearn import metrics

    if not which.classes:
        results = {"r2": metrics.r2_score(truth, predicted), "mae": metrics.mean_absolute_error(truth, predicted)}
        return {name: float(value) for name, value in results.items()}
    codes = np.array([list(names).index(name) for name in truth])
    best = predicted.argmax(axis=1)
    chances = np.clip(predicted, FLOOR, None)
    right = (chances / chances.sum(axis=1, keepdims=True))[np.arange(len(codes)), codes]
    results = {} if len(names) > 2 else {"auroc": metrics.roc_auc_score(codes == 1, predicted[:, 1])}
    results |= {"accuracy": (best == codes).mean(), "log_loss": -np.log(right).mean()}
    results["macro_f1"] = metrics.f1_score(codes, best, average="macro", zero_division=0.0)
    return {name: float(value) for name, value in results.items()}


def run(
    sets: Iterable[Set],
    out: Path,
    ways: Sequence[str],
    count: int,
    seeds: int,
    outcome: TrainingSettings,
    beside: Sequence[Path] = (),
) -> None:
    """Compute the lines that neither ``out`` nor the files ``beside`` contain yet."""
    done = {tuple(line["key"]) for path in (*beside, out) for line in read(path)}
    for module in ("sensorium.training.fit", "sklearn.ensemble", "sklearn.model_selection", "sklearn.metrics"):
        import_module(module)  # so that no fold pays for them
    for which in sets:
        answers = which.table.column(which.target)
        truth = np.array([str(cell) for cell in answers], dtype=object) if which.classes else np.array(answers, np.float64)
        names = sorted(set(truth.tolist())) if which.classes else []
        plain: rivals.Plain | None = None
        for seed in range(seeds):
            kind: Any = "group" if which.group else "random"
            target = which.target if which.classes else None
            split = folds(which.table, count, kind=kind, by=which.group, target=target, seed=seed)
            for way in ways:
                name = outcome.name if way == DEFAULT else way
                for fold, (learn, check) in enumerate(split):
                    key = (which.name, name, len(which.table), count, seed, fold)
                    if key in done:
                        continue
                    if way != DEFAULT and plain is None:
                        plain = rivals.Plain(which)
                    began = time.perf_counter()
                    if plain is not None and way != DEFAULT:
                        predicted = rivals.answer(way, plain, which, learn, check, truth, names, seed)
                    else:
                        predicted = ours(which, learn, check, names, seed, outcome)
                    seconds = round(time.perf_counter() - began, 2)
                    result = scores(which, truth[check], predicted, names)
                    line: dict[str, Any] = {"key": key, "scores": result, "seconds": seconds}
                    if way == DEFAULT:
                        line |= {"quality": outcome.quality, "overrides": outcome.overrides}
                    out.parent.mkdir(parents=True, exist_ok=True)
                    with open(out, "a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    measure, score = next(iter(result.items()))
                    print(f"{'/'.join(map(str, key))}: {measure} {score:.3f} in {seconds} s", file=sys.stderr, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a results file; none if it does not exist."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


class Standing(NamedTuple):
    """Row of the table for one set: the headline metric, and the scores and costs on the folds that all methods have."""

    measure: str
    scores: dict[str, Array]
    more: dict[str, dict[str, float]]
    seconds: dict[str, float]

    @property
    def ranks(self) -> dict[str, float]:
        """Return ranks, 1 for the best; ties share their ranks."""
        means = {way: round(float(results.mean()), 9) for way, results in self.scores.items()}
        above = {way: sum(other > mean for other in means.values()) for way, mean in means.items()}
        level = {way: sum(other == mean for other in means.values()) for way, mean in means.items()}
        return {way: above[way] + (level[way] + 1) / 2 for way in means}

    def difference(self, way: str) -> tuple[str, float, float] | None:
        """Return the best rival, the lead of ``way`` over it, and its standard error; None without a rival."""
        others = {name: results for name, results in self.scores.items() if name in rivals.WAYS}
        if not others or way not in self.scores:
            return None
        best = max(others, key=lambda name: float(others[name].mean()))
        ahead = self.scores[way] - others[best]
        error = float(ahead.std(ddof=1)) / len(ahead) ** 0.5 if len(ahead) > 1 else float("nan")
        return best, float(ahead.mean()), error


def standings(lines: Iterable[dict[str, Any]]) -> dict[str, Standing]:
    """Return the standings by set, over the seeds and folds for which every method has results."""
    by_set: dict[str, dict[str, dict[tuple[int, ...], dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        name, way, *fold = line["key"]
        by_set[name][way][tuple(fold)] = line
    results = {}
    for name, ways in by_set.items():
        shared = sorted(set.intersection(*(set(by_fold) for by_fold in ways.values())))
        if not shared:
            continue
        kept = {way: [by_fold[fold] for fold in shared] for way, by_fold in ways.items()}
        measures = list(next(iter(kept.values()))[0]["scores"])
        more = {
            way: {m: float(np.mean([line["scores"][m] for line in folded])) for m in measures[1:]}
            for way, folded in kept.items()
        }
        values = {way: np.array([line["scores"][measures[0]] for line in folded]) for way, folded in kept.items()}
        seconds = {way: float(np.mean([line["seconds"] for line in folded])) for way, folded in kept.items()}
        results[name] = Standing(measures[0], values, more, seconds)
    return results


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Return Markdown tables of the scores and of the other metrics, then the mean ranks and the sets where sensorium is
    behind."""
    result = standings(lines)
    named = list(dict.fromkeys(way for standing in result.values() for way in standing.scores))
    ways = [way for way in named if way not in rivals.WAYS] + [way for way in rivals.WAYS if way in named]
    mine = [way for way in ways if way not in rivals.WAYS]
    titles = ["set", "score", *ways, *(f"{way} − best rival" for way in mine), *(f"rank of {way}" for way in mine)]
    text = ["| " + " | ".join(titles) + " | seconds a fold |", "|---" * (len(titles) + 1) + "|"]
    other = ["| set | measure | " + " | ".join(ways) + " |", "|---" * (len(ways) + 2) + "|"]
    behind: dict[str, list[str]] = {way: [] for way in mine}
    for name, standing in result.items():
        best = max(float(values.mean()) for values in standing.scores.values())
        cells = []
        for way in ways:
            values = standing.scores.get(way)
            if values is None:
                cells.append("–")
                continue
            spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            mark = "**" if float(values.mean()) == best else ""
            cells.append(f"{mark}{values.mean():.3f}{mark}{spread}")
        for way in mine:
            paired = standing.difference(way)
            cells.append("–" if paired is None else f"{paired[1]:+.3f} ± {paired[2]:.3f} ({paired[0]})")
            if paired is not None and paired[1] < -paired[2]:
                behind[way].append(f"{name} ({paired[1]:+.3f} ± {paired[2]:.3f})")
        cells += [f"{standing.ranks[way]:g}" if way in standing.ranks else "–" for way in mine]
        cells.append(" / ".join(f"{standing.seconds[way]:.1f}" if way in standing.seconds else "–" for way in ways))
        text.append(f"| {name} | {standing.measure} | " + " | ".join(cells) + " |")
        for measure in next(iter(standing.more.values())):
            values_of = [f"{standing.more[way][measure]:.3f}" if way in standing.more else "–" for way in ways]
            other.append(f"| {name} | {measure} | " + " | ".join(values_of) + " |")
    complete = [standing for standing in result.values() if set(standing.scores) == set(ways)]
    ranks = [f"{way} {np.mean([standing.ranks[way] for standing in complete]):.2f}" for way in ways] if complete else ["–"]
    last = [f"Mean rank of {len(ways)} over the {len(complete)} sets with results of all: {', '.join(ranks)}."]
    for way in mine:
        listed = ", ".join(behind[way]) or "none"
        last.append(f"Sets where {way} is more than one standard error below the best rival: {listed}.")
    return "\n".join([*text, "", *other, "", *last])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="", help="names, separated by commas [default: all available]")
    parser.add_argument("--ways", default=",".join((DEFAULT, *rivals.WAYS)))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1, help="number of fold assignments, each with its own training seed")
    parser.add_argument("--rows", type=int, help="maximum number of rows of a set")
    parser.add_argument("--out", type=Path, default=Path("league.jsonl"))
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="older results that need not be computed again")
    parser.add_argument("--name", default=DEFAULT, help="name of sensorium's lines")
    parser.add_argument("--quality", choices=("fast", "good", "best"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="OPTION=VALUE")
    parser.add_argument(
        "--data", type=Path, help="folder of more sets (clothing, covid_cxr, ...), as for benchmarks.results"
    )
    parser.add_argument("--part", default="train", help="which table of those [train]")
    for package in ("statsmodels", "sktime", "aeon"):
        parser.add_argument(f"--{package}", type=Path, help="its wheel or folder, if it is not installed")
    parser.add_argument("--list", action="store_true", help="only list the available sets")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="only print the tables of these results")
    args = parser.parse_args(arguments)
    if args.table is not None:
        print(table([line for path in args.table for line in read(path)]))
        return
    ways = args.ways.split(",")
    if unknown := [way for way in ways if way not in (DEFAULT, *rivals.WAYS)]:
        parser.error(f"no way named {unknown[0]!r}; there are: {', '.join((DEFAULT, *rivals.WAYS))}")
    if args.name in rivals.WAYS:
        parser.error(f"--name {args.name}: that is a rival")
    csv.field_size_limit(1 << 26)
    only = frozenset(args.sets.split(",")) if args.sets else frozenset()
    sources = Sources(args.statsmodels, args.sktime, args.aeon, args.data, args.part, only)
    sets = [which.thinned(args.rows) for which in sources.sets().values()]
    if args.list:
        print(described(sets))
        return
    options = TrainingSettings(args.name, args.quality, tuple(args.overrides))
    run(sets, args.out, ways, args.folds, args.seeds, options, args.beside)
    print(table([line for path in (*args.beside, args.out) for line in read(path)]))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="sensorium")
    main()
