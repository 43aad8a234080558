"""``compare``: train fusions, encoders or augmentations on the same rows and budget, over several seeds; resumable."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from sensorium.core.errors import ConfigError, SensoriumError, nearest
from sensorium.core.plurals import counted
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.scorer import Kept, Scorer, plain_scores
from sensorium.core.task import Task
from sensorium.data import encoded_rows as encoded
from sensorium.data.inspection.column_groups import Patterns
from sensorium.data.loader import Loader
from sensorium.evaluation.bootstrap import resample
from sensorium.evaluation.comparison import Comparison, Entry, Variant, ranked
from sensorium.evaluation.robustness import STEPS, more_is_better, robustness
from sensorium.reporting.charts import save_svg
from sensorium.reporting.console import Console
from sensorium.training.base_model import bases_loaded_once
from sensorium.training.comparison_choices import ComparisonRequest, buildable
from sensorium.training.comparison_setup import ComparisonSetup, prepare
from sensorium.training.expert_fitting import fit_experts
from sensorium.training.fit import train_network
from sensorium.training.memory_footprint import training_bytes
from sensorium.training.output_folder import for_comparison
from sensorium.training.run_log import RunLog
from sensorium.training.scored_rows import score_rows
from sensorium.training.training_request import RecipeSource, Request, Target

RESAMPLES = 500
"""Bootstrap resamples of the test rows behind each difference."""
CURVE_ROWS = 500
"""Maximum number of test rows for the robustness area."""


@bases_loaded_once()
def compare(
    train: Any = None,
    *,
    target: Target = None,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    test: Any = None,
    fusions: str | Sequence[str] | None = None,
    encoders: Mapping[str, str | Sequence[Spec]] | None = None,
    augment: Mapping[str, str | Sequence[str]] | None = None,
    experts: str | Sequence[str | Sequence[Spec]] | None = None,
    seeds: int = 3,
    metric: str | None = None,
    leave_out: bool = False,
    recipe: RecipeSource = None,
    columns: Mapping[str, str] | None = None,
    streams: Patterns | None = None,
    ignore: Iterable[str] = (),
    group: str | None = None,
    weight: str | None = None,
    media: str | Path | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    size: str | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    time_limit: float | None = None,
    out: str | Path = "compare",
    overwrite: bool = False,
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train fusions, encoders, augmentations or sets of experts on the same rows and budget, and compare their test scores.

    Rows are split and decoded once; seeds differ in initial weights and row order. Everything that is not compared is the
    same in all runs; of several compared parts, every combination is trained. A comparison of fusions also trains each
    stream alone. Every finished run is recorded, so that the same call resumes a stopped comparison.

    Args:
        train: The training table, as for ``fit``.
        target: The target column, as for ``fit``; ``task`` and ``options`` too.
        test: The test table; by default a fifth of ``train``, which no run uses for training or early stopping.
        fusions: ``all``, or names. By default all, if nothing else is compared; otherwise the recipe's fusion is used.
        encoders: By stream, ``all`` that can read it, or some: ``{"photo": ["convnet", {"kind": "vit", "depth": 6}]}``.
        augment: By column, ``all`` or some values of its option ``augment``: ``{"photo": ["none", "light"]}``.
        experts: Sets of experts beside the network: ``["none", "linear", "linear+forest"]``, or ``all``: none, each alone,
            and all together.
        seeds: Number of runs of each variant.
        metric: The metric to compare; by default the task's headline metric.
        leave_out: Also train without each stream, as reference lines for three streams or more.
        recipe: All other settings, as for ``fit``; ``columns``, ``streams``, ``ignore``, ``group``, ``weight``, ``media``,
            ``overrides``, ``seed`` and ``cache`` too.
        epochs: As for ``fit``, for every run; ``lr``, ``batch_size`` and ``size`` too.
        time_limit: Maximum training time in seconds of all runs together, divided evenly.
        out: Folder for runs, table, chart and the winner's recipe.
        overwrite: Replace another comparison in ``out``, which is otherwise refused.
        quiet: Print warnings only.

    Raises:
        SensoriumError: Before training starts, naming file, row, column and the fix; or no run could be trained.
    """
    request = Request.of(
        train,
        target=target,
        task=task,
        options=options,
        recipe=recipe,
        columns=columns,
        streams=streams,
        ignore=ignore,
        group=group,
        weight=weight,
        media=media,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        size=size,
        overrides=overrides,
        seed=seed,
        cache=cache,
    )
    if seeds < 1:
        raise ConfigError(f"a comparison needs at least one seed, not {seeds}", fix="--seeds 3")
    comparison = ComparisonRequest.of(fusions, encoders, augment, experts)
    folder = Path(out)
    with for_comparison(folder, overwrite=overwrite), Console(quiet) as console:
        setup, where = prepare(request, test, console, comparison.factors)
        factors = comparison.factors(setup.schema, setup.plan)
        ways, skipped = buildable(setup, factors, leave_out)
        if time_limit is not None:
            setup, ways = setup.with_time_limit(time_limit / (len(ways) * seeds), ways)
        folder.mkdir(parents=True, exist_ok=True)
        log = RunLog(folder, setup.identity(metric, fusions=comparison.fusions is not None))
        if setup.plan.training.time_limit is not None and not log.lines:
            warm_up(setup)
        failed = run_all(ways, log, seeds, metric, console)
        result = summarise(setup, [way for way in ways if way.name not in failed], log, seeds, metric, where)
        result.skipped = skipped | failed
        result.what = factors[0].label if len(factors) == 1 else "way"
        write_results(result, folder, request.with_source(ways[result.best.way].plan))
    return result


def warm_up(setup: ComparisonSetup) -> None:
    """Train a few steps of ``setup``, so that one-time costs do not count against the first run's time limit."""
    training = setup.plan.training.model_copy(update={"epochs": 1, "time_limit": None})
    plan = setup.plan.model_copy(update={"training": training})
    few = np.arange(min(len(setup.rows), 2 * (training.batch_size or 32)), dtype=np.int64)
    few_valid = np.arange(min(len(setup.valid), 32), dtype=np.int64)
    with contextlib.suppress(SensoriumError):  # a problem will be reported by the runs themselves
        train_network(
            plan, setup.schema, setup.rows.take(few), setup.valid.take(few_valid), setup.store, None, False, Console(True)
        )


def run_all(
    ways: Mapping[Variant, ComparisonSetup],
    log: RunLog,
    seeds: int,
    metric: str | None,
    console: Console,
) -> dict[str, str]:
    """Train and record the runs of all variants that are not finished yet.

    Args:
        ways: The setup of each variant.
        log: The finished runs; gets the others.
        seeds: Number of runs of each variant.
        metric: The metric of the robustness curves; None for the task's headline metric.
        console: Where progress is printed.

    Returns:
        The reason why it could not be trained, by variant.
    """
    total = len(ways) * seeds
    failed: dict[str, str] = {}
    for done, (number, way) in enumerate((number, way) for number in range(seeds) for way in ways):
        console.step("comparing", done, total, f"{way.name}, seed {number + 1} of {seeds}")
        if way.name in failed or log.has(way.name, number):
            continue
        try:
            log.add(way.name, number, *run_one(ways[way], number, metric))
        except SensoriumError as error:
            failed[way.name] = error.problem
    console.step("comparing", total, total)
    return failed


def run_one(setup: ComparisonSetup, number: int, metric: str | None) -> tuple[dict[str, Any], Kept]:
    """Train a variant's ``setup`` with seed ``number`` and score it on the test rows.

    Args:
        setup: The setup of the variant.
        number: The seed, counted from 0.
        metric: The metric of the robustness curves; None for the task's headline metric.

    Returns:
        The figures of the run, and the state of its scorer.
    """
    plan = setup.plan.model_copy(update={"seed": setup.plan.seed + number})
    began, cpu = time.monotonic(), time.process_time()
    trained = train_network(plan, setup.schema, setup.rows, setup.valid, setup.store, None, False, Console(quiet=True))
    if setup.plan.model.experts:
        fit_experts(setup.plan, setup.schema, trained.model, setup.rows, setup.valid, Console(quiet=True))
    seconds, spent = time.monotonic() - began, time.process_time() - cpu
    model, name = trained.model, setup.task_name
    kept = score_rows(trained, setup.test).each[name].scorer.kept
    line: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu": round(spent, 2),
        "seconds": round(seconds, 2),
        "epochs": len(trained.history),
        "memory": training_bytes(model, plan, setup.schema, setup.rows),
        "area": None,
        "curves": {},
    }
    if len(setup.schema.streams) > 1:
        chosen_metric = {} if metric is None else {name: metric}
        model.eval()
        curves = robustness(
            trained.predictor.model, setup.schema, setup.test, metrics=chosen_metric, corruptions=False, most=CURVE_ROWS
        )[name]
        line["area"] = curves.removal_area if curves.removal_area == curves.removal_area else None
        line["curves"] = {curve.stream: list(curve.scores) for curve in curves.curves}
    return line, kept


def summarise(
    setup: ComparisonSetup,
    ways: Iterable[Variant],
    log: RunLog,
    seeds: int,
    metric: str | None,
    where: str,
) -> Comparison:
    """Build the comparison from the finished runs.

    Args:
        setup: What all runs share.
        ways: The variants.
        log: The finished runs.
        seeds: Number of runs of each variant.
        metric: The metric to compare; None for the task's headline metric.
        where: What the test rows are, in words.
    """
    task = setup.task()
    metric = metric or task.headline
    baseline = _baseline(task, setup)
    entries, draws = [], {}
    for way in ways:
        numbers = [number for number in range(seeds) if log.has(way.name, number)]
        if not numbers:
            continue
        lines = [log.lines[way.name, number] for number in numbers]
        scorers = [_scorer(task, log.scorer_state(way.name, number)) for number in numbers]
        scores = [plain_scores(scorer) for scorer in scorers]
        if metric not in scores[0]:
            raise ConfigError(f"no metric named {metric!r}{nearest(metric, scores[0])}")
        drawn = [resample(scorer, names=[metric], resamples=RESAMPLES)[metric] for scorer in scorers]
        draws[way.name] = torch.stack(drawn)
        entries.append(_entry(way, lines, [score[metric] for score in scores]))
    if all(entry.way.single for entry in entries):
        raise SensoriumError("no run could be trained", fix="train one of them with sensorium fit to see why")
    higher = more_is_better(task.headline, task.higher_is_better, metric)
    fusions, others = ranked(entries, draws, higher)
    spec = setup.plan.training
    longest = "" if spec.time_limit is None else f" and {spec.time_limit:g} s"
    budget = (
        f"{counted(len(setup.rows), 'row')} to learn from, at most {counted(spec.epochs or 0, 'epoch')}{longest} a run, "
        f"{counted(seeds, 'seed')}"
    )
    rows, known = (0, nan) if baseline is None else (baseline.rows, plain_scores(baseline)[metric])
    rows = rows or scorers[0].rows
    return Comparison(setup.task_name, metric, higher, where, rows, seeds, budget, STEPS, fusions, others, known)


def _entry(way: Variant, lines: Sequence[Mapping[str, Any]], scores: list[float]) -> Entry:
    """Return the results of a variant from the figures ``lines`` and the ``scores`` of its runs."""
    areas = [line["area"] for line in lines if line["area"] is not None]
    return Entry(
        way,
        scores,
        lines[0]["parameters"],
        fmean(line["cpu"] for line in lines),
        fmean(line["seconds"] for line in lines),
        lines[0]["memory"],
        fmean(areas) if areas else float("nan"),
        {s: np.mean([line["curves"][s] for line in lines], axis=0).tolist() for s in lines[0]["curves"]},
        fmean(line["epochs"] for line in lines),
    )


def _scorer(task: Task[Any], kept: Kept) -> Scorer[Any]:
    scorer = task.scorer()
    scorer.load(kept)
    return scorer


def _baseline(task: Task[Any], setup: ComparisonSetup) -> Scorer[Any] | None:
    """Score the baseline prediction from the training targets on the test rows; None where the task has none."""
    training = encoded.target_fields(setup.schema, setup.rows, task)
    task.fit(training)
    baseline = task.baseline(training)
    if baseline is None:
        return None
    scorer = task.scorer()
    for batch in Loader(setup.test, 128):
        scorer.update(task.constant(baseline, batch.rows), setup.schema.prepare(batch))
    return scorer


def write_results(result: Comparison, folder: Path, winner: Recipe) -> None:
    """Write ``result`` into ``folder``: page, chart, table and figures, and the recipe ``winner`` for ``fit --recipe``."""
    result.write(folder / "compare.html")
    save_svg(result.chart(), folder / "compare.svg")
    (folder / "compare.md").write_text(result.markdown() + "\n", encoding="utf-8")
    (folder / "compare.json").write_text(json.dumps(result.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "winner.yaml").write_text(winner.to_yaml(), encoding="utf-8")
