"""Every fusion on the same rows with the same encoders and the same budget, over several seeds; a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from sensorium.console import Console
from sensorium.core import registry
from sensorium.core.batch import Field, joined, repeated
from sensorium.core.contracts import Task
from sensorium.core.errors import ConfigError, DataError, SensoriumError, nearest
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Column, Schema
from sensorium.data import rows as encoded
from sensorium.data.media import Under
from sensorium.data.store import Store
from sensorium.data.table import Table
from sensorium.evaluation.charts import save_svg
from sensorium.evaluation.comparison import Comparison, Entry, Way, ranked
from sensorium.evaluation.robustness import STEPS, more_is_better, robustness
from sensorium.evaluation.scores import measure, pair, resample
from sensorium.model import assemble
from sensorium.trained import Trained
from sensorium.training import fit as steps
from sensorium.training.defaults import resolve
from sensorium.training.footprint import training_bytes

TEST_PART = 0.2
"""The share of the table that is set apart where no test table is given."""
RESAMPLES = 500
CURVE_ROWS = 500
"""Test rows behind the robustness area, at most."""


@dataclass(frozen=True)
class Ground:
    """What all runs share: resolved recipe, fitted columns, encoded rows."""

    plan: Recipe
    schema: Schema
    rows: encoded.Rows
    valid: encoded.Rows
    test: encoded.Rows
    store: Store

    @property
    def target(self) -> Column:
        return self.schema.targets[0]

    def narrowed(self, streams: Sequence[str]) -> Ground:
        """The same with only these streams: the other columns are there and not read."""
        if set(streams) == set(self.schema.streams):
            return self
        lost = {c.name for stream, columns in self.schema.streams.items() if stream not in streams for c in columns}
        columns = [
            Column(c.name, "ignore", {"kind": c.spec["kind"]}) if c.name in lost else c
            for c in self.schema.columns.values()
        ]
        rows, valid, test = (
            replace(part, inputs={name: source for name, source in part.inputs.items() if name in streams})
            for part in (self.rows, self.valid, self.test)
        )
        model = self.plan.model
        kept = {
            family: {name: spec for name, spec in getattr(model, family).items() if name in streams}
            for family in ("encoders", "adapters")
        }
        schema = Schema(columns)
        plan = self.plan.model_copy(update={"model": model.model_copy(update=kept), "columns": schema.specs()})
        return Ground(plan, schema, rows, valid, test, self.store)

    def task(self) -> Task[Any]:
        """The target's task, untrained: it measures."""
        dim = self.plan.model.dim
        part: Task[Any] = registry.build("tasks", self.plan.model.tasks[self.target.name], self.target.reader, dim)
        return part


def compare(
    train: Any = None,
    *,
    target: str | None = None,
    test: Any = None,
    fusions: str | Sequence[str] = "all",
    seeds: int = 3,
    metric: str | None = None,
    leave_out: bool = False,
    recipe: Recipe | str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    group: str | None = None,
    weight: str | None = None,
    media: str | Path | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    time_limit: float | None = None,
    out: str | Path = "compare",
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train every fusion on the same rows, with the same encoders, under the same budget, and hold them against each other.

    Rows are split and decoded once: seeds differ in the weights they start from and in the order of rows. Each modality
    alone is trained too. One line is written for every finished run, so the same call goes on where it was stopped.

    Args:
        train: The training table, as for ``fit``.
        target: The column to predict.
        test: The table to score on; by default a fifth of ``train``, which no run sees in training or in early stopping.
        fusions: ``all``, or names.
        seeds: Runs of each.
        metric: What to compare; by default the task's headline.
        leave_out: Also train without each modality, for the reference lines of three modalities and more.
        time_limit: Seconds of training for all runs together, divided evenly.
        out: The folder for runs, table, picture and the winner's recipe.
    """
    plan = steps.planned(recipe, overrides, seed, None, group)
    source = train if train is not None else plan.data.train
    if source is None:
        raise ConfigError("there is no training table", fix="name one, here or under data.train of the recipe")
    if seeds < 1:
        raise ConfigError(f"{seeds} seeds", fix="one or more")
    names = chosen(fusions)
    folder = Path(out)
    with Console(quiet) as console:
        ground, where = prepare(
            source,
            steps.with_columns(plan, columns),
            target,
            test,
            steps.told_roles(ignore, group, weight),
            media,
            cache,
            console,
        )
        ways, skipped = possible(ground, names, leave_out)
        plans = {way.name: (made, each) for way, (made, each) in ways.items()}
        if time_limit is not None:
            each_run = time_limit / (len(ways) * seeds)
            limited = {"time_limit": round(each_run, 3)}
            plans = {
                name: (p.model_copy(update={"training": p.training.model_copy(update=limited)}), g)
                for name, (p, g) in plans.items()
            }
        folder.mkdir(parents=True, exist_ok=True)
        book = Book(folder, identity(ground, metric, next(iter(plans.values()))[0].training.time_limit))
        total, failed = len(ways) * seeds, {}
        for done, (number, way) in enumerate((number, way) for number in range(seeds) for way in ways):
            console.step("comparing", done, total, f"{way.name}, seed {number + 1} of {seeds}")
            if way.name in failed or book.has(way.name, number):
                continue
            planned, each = plans[way.name]
            try:
                book.add(way.name, number, *one(planned, each, number, metric))
            except SensoriumError as error:
                failed[way.name] = error.problem
        console.step("comparing", total, total)
        result = summed(ground, ways, book, seeds, metric, where, skipped | failed)
        winner = plans[result.best.way.name][0]
    written(result, folder, steps.from_file(winner, source))
    return result


def chosen(fusions: str | Sequence[str]) -> list[str]:
    """The names asked for, all of them known."""
    known = registry.kinds("fusions")
    if fusions == "all":
        return list(known)
    names = [name.strip() for name in fusions.split(",")] if isinstance(fusions, str) else list(fusions)
    for name in names:
        if name not in known:
            raise ConfigError(f"no fusion named {name!r}{nearest(name, known)}")
    return list(dict.fromkeys(names))


def prepare(
    source: Any,
    plan: Recipe,
    target: str | None,
    test: Any,
    roles: Mapping[str, str],
    media: str | Path | None,
    cache: str | Path | None,
    console: Console,
) -> tuple[Ground, str]:
    """Declared, split, learnt, resolved and encoded, once for all runs; and what the test rows are, in words."""
    table = steps.read(source, plan, media)
    schema = steps.declared(table, plan, [] if target is None else [target], roles, console)
    if len(schema.targets) != 1:
        raise ConfigError(f"{len(schema.targets)} targets cannot be compared at once", fix="name one: --target")
    if test is None:
        rest, tested = steps.split_off(steps.with_target(table, schema), schema, plan, TEST_PART)
        where = f"{len(tested):,} rows of {table.source} that no run has seen"
    else:
        rest, tested = table, steps.with_target(Table.read(test, root=media or plan.data.media), schema)
        where = f"the {len(tested):,} rows of {tested.source}"
    training, held_out = steps.parts(rest, plan.data.valid, schema, plan, media, console)
    steps.learn(schema, training, Under(table.root or Path.cwd(), anywhere=True), plan.seed)
    resolved, said = resolve(plan, schema, len(training), steps.class_sizes(schema, training))
    for line in said:
        console.note(f"  {line}")
    store = Store(Path(cache) if cache is not None else None)
    rows, valid = steps.encode_parts(schema, training, held_out, store, console)
    opener = Under(tested.root or Path.cwd(), anywhere=True)
    scored = encoded.encode(schema, tested, media=opener, store=store, tell=console.step)
    if not bool(scored.target(schema.targets[0].name).present.any()):
        raise DataError("no test row has a target that the training rows know", file=tested.source)
    return Ground(resolved, schema, rows, valid, scored, store), where


def possible(
    ground: Ground, names: Sequence[str], leave_out: bool
) -> tuple[dict[Way, tuple[Recipe, Ground]], dict[str, str]]:
    """Every way that can be built, with its recipe and its part of the ground; and why a fusion cannot."""
    streams = tuple(ground.schema.streams)
    found: dict[Way, tuple[Recipe, Ground]] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            plan = fused(ground, name)
            assemble(plan.model, ground.schema)
        except (SensoriumError, ImportError, ValueError, RuntimeError) as error:
            # Too many streams, too large a product, a library that is not there: told in the table.
            skipped[name] = error.problem if isinstance(error, SensoriumError) else str(error)
            continue
        found[Way(name, name, streams, False)] = (plan, ground)
    if not found:
        raise ConfigError(f"no fusion can be built: {'; '.join(f'{n}: {why}' for n, why in skipped.items())}")
    if len(streams) == 1:
        return found, skipped
    for stream in streams:
        alone = ground.narrowed([stream])
        found[Way(f"{stream} alone", "single", (stream,), True)] = (fused(alone, "single"), alone)
    if leave_out and len(streams) > 2:
        usual = (
            next(iter(found)).fusion if ground.plan.model.fusion is None else registry.split(ground.plan.model.fusion)[0]
        )
        for stream in streams:
            kept = tuple(s for s in streams if s != stream)
            rest = ground.narrowed(kept)
            found[Way(f"without {stream}", usual, kept, True)] = (fused(rest, usual), rest)
    return found, skipped


def fused(ground: Ground, fusion: str) -> Recipe:
    """The recipe with another fusion, sized like the rest of the model, and all else as it is."""
    told = ground.plan.model.fusion
    spec = told if told is not None and registry.split(told)[0] == fusion else fusion
    model = ground.plan.model.model_copy(update={"fusion": spec})
    return resolve(ground.plan.model_copy(update={"model": model}), ground.schema, len(ground.rows))[0]


def one(plan: Recipe, ground: Ground, number: int, metric: str | None) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """One run: trained, scored on the test rows. A line of figures, and the predictions as the metrics take them."""
    plan = plan.model_copy(update={"seed": plan.seed + number})
    began, cpu = time.monotonic(), time.process_time()
    trained = steps.finish(plan, ground.schema, ground.rows, ground.valid, ground.store, None, False, Console(quiet=True))
    seconds, spent = time.monotonic() - began, time.process_time() - cpu
    model, name = trained.model, ground.target.name
    prediction, _ = answers(trained, ground.test)
    line: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu": round(spent, 2),
        "seconds": round(seconds, 2),
        "epochs": len(trained.history),
        "memory": training_bytes(model, plan, ground.schema, ground.rows),
        "area": None,
        "curves": {},
    }
    if len(ground.schema.streams) > 1:
        chosen_metric = {} if metric is None else {name: metric}
        model.eval()
        found = robustness(
            trained.predictor.model, ground.schema, ground.test, metrics=chosen_metric, corruptions=False, most=CURVE_ROWS
        )[name]
        line["area"] = found.removal_area if found.removal_area == found.removal_area else None
        line["curves"] = {curve.stream: list(curve.scores) for curve in found.curves}
    return line, prediction


def answers(trained: Trained, rows: encoded.Rows) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Predictions and truths of the rows that have a target, as the metrics take them."""
    name, model = trained.schema.targets[0].name, trained.predictor.model.eval()
    with torch.inference_mode():
        found = [(model(batch)[name], batch.targets[name]) for batch in trained.batches(rows)]
    output, target = joined([output for output, _ in found]), joined([target for _, target in found])
    prediction, truth = pair(model.tasks[name], output, target)
    return prediction.float().numpy(), truth.numpy()


class Book:
    """The runs of a comparison on disk: ``runs.jsonl``, and what each answered in ``answers/``."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self.path = folder / "runs.jsonl"
        self.lines: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self._read():
            if line["comparison"] != identity:
                raise ConfigError(
                    "the folder holds another comparison: its rows, its recipe or its budget differ",
                    file=folder,
                    fix="give the same command to go on, or another --out",
                )
            self.lines[line["name"], line["seed"]] = line

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(text)
            except ValueError:
                continue  # the line that was being written when the run was stopped

    def has(self, name: str, seed: int) -> bool:
        return (name, seed) in self.lines

    def add(self, name: str, seed: int, line: dict[str, Any], answers: np.ndarray[Any, Any]) -> None:
        """Keep a run: first what it answered, then its line, so that a line means a whole run."""
        file = self.answers_of(name, seed)
        file.parent.mkdir(exist_ok=True)
        np.save(file, answers, allow_pickle=False)
        line = {"comparison": self.identity, "name": name, "seed": seed, **line}
        with open(self.path, "a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        self.lines[name, seed] = line

    def answers_of(self, name: str, seed: int) -> Path:
        key = hashlib.sha256(name.encode()).hexdigest()[:12]
        return self.folder / "answers" / f"{key}-{seed}.npy"


def identity(ground: Ground, metric: str | None, limit: float | None) -> str:
    """What two runs must share to stand in one table."""
    plan = ground.plan.model_copy(update={"model": ground.plan.model.model_copy(update={"fusion": None})})
    told = [plan.model_dump(exclude={"data"}), ground.schema.to_json(), metric, limit]
    h = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for part in (ground.rows, ground.valid, ground.test):
        h.update(part.target(ground.target.name).data.numpy().tobytes())
    return h.hexdigest()[:16]


def summed(
    ground: Ground,
    ways: Iterable[Way],
    book: Book,
    seeds: int,
    metric: str | None,
    where: str,
    skipped: dict[str, str],
) -> Comparison:
    """The comparison of the finished runs."""
    task, target = ground.task(), ground.test.target(ground.target.name)
    metric = metric or task.headline
    known, truth = _baseline(task, ground, target)
    entries, draws = [], {}
    for way in ways:
        numbers = [number for number in range(seeds) if book.has(way.name, number)]
        if not numbers:
            continue
        lines = [book.lines[way.name, number] for number in numbers]
        loaded = [np.load(book.answers_of(way.name, number), allow_pickle=False) for number in numbers]
        pairs = [(torch.from_numpy(found), truth) for found in loaded]
        scores = [measure(task, rows) for rows in pairs]
        if metric not in scores[0]:
            raise ConfigError(f"no metric named {metric!r}{nearest(metric, scores[0])}")
        drawn = [resample(task, rows, names=[metric], resamples=RESAMPLES)[metric] for rows in pairs]
        draws[way.name] = torch.stack(drawn)
        areas = [line["area"] for line in lines if line["area"] is not None]
        entries.append(
            Entry(
                way,
                [score[metric] for score in scores],
                lines[0]["parameters"],
                fmean(line["cpu"] for line in lines),
                fmean(line["seconds"] for line in lines),
                lines[0]["memory"],
                fmean(areas) if areas else float("nan"),
                {s: np.mean([line["curves"][s] for line in lines], axis=0).tolist() for s in lines[0]["curves"]},
                fmean(line["epochs"] for line in lines),
            )
        )
    if not any(not entry.way.single for entry in entries):
        raise SensoriumError(f"no fusion could be trained: {'; '.join(f'{n}: {why}' for n, why in skipped.items())}")
    higher = more_is_better(task.headline, task.higher_is_better, metric)
    fusions, others = ranked(entries, draws, higher)
    spec = ground.plan.training
    longest = "" if spec.time_limit is None else f" and {spec.time_limit:g} s"
    budget = f"{len(ground.rows):,} rows to learn from, at most {spec.epochs} epochs{longest} a run, {seeds} seeds"
    name, rows = ground.target.name, int(target.present.sum())
    baseline = measure(task, known)[metric]
    return Comparison(name, metric, higher, where, rows, seeds, budget, STEPS, fusions, others, baseline, skipped)


def _baseline(task: Task[Any], ground: Ground, target: Field) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """What knowing the training targets alone answers on the test rows, with the truths; and the truths by themselves."""
    training = ground.rows.target(ground.target.name)
    task.fit(training)
    known = pair(task, repeated(task.baseline(training, 1), len(ground.test)), target)
    return known, known[1]


def written(result: Comparison, folder: Path, winner: Recipe) -> None:
    """The page, the picture, the figures, and the recipe of the winner as ``fit --recipe`` takes it."""
    result.write(folder / "compare.html")
    save_svg(result.chart(), folder / "compare.svg")
    (folder / "compare.md").write_text(result.markdown() + "\n", encoding="utf-8")
    (folder / "compare.json").write_text(json.dumps(result.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "winner.yaml").write_text(winner.to_yaml(), encoding="utf-8")
