"""From a table to a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensorium.artifact import Artifact
from sensorium.core.batch import Batch
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.files.atomic_write import told
from sensorium.data.inspection.column_groups import Patterns
from sensorium.data.store.store import Store
from sensorium.reporting.console import Console
from sensorium.trained import Trained
from sensorium.training import launch
from sensorium.training import resume as resumable
from sensorium.training.fold_ensemble import FoldEnsemble, train_folds, why_unsuitable
from sensorium.training.output_folder import for_run
from sensorium.training.prepare import PreparedRun, prepare
from sensorium.training.quality_presets import QUALITY
from sensorium.training.table_splits import TableSplits
from sensorium.training.training_request import RecipeSource, Request, Target

if TYPE_CHECKING:
    from sensorium.training.process_group import ProcessGroup
    from sensorium.training.shard_source import ShardSource


def fit(
    train: Any = None,
    *,
    target: Target = None,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    valid: Any = None,
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
    fusion: Spec | None = None,
    size: str | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    time_limit: float | None = None,
    stream: bool = False,
    search: int | None = None,
    quality: str | None = None,
    tune_speed: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Train a model on a table whose cells are numbers, words and media, any of which may be missing.

    Args:
        train: A path (.csv .tsv .jsonl .parquet …), a DataFrame, rows or columns. May stand in the recipe instead.
        target: The column, or columns, to predict. Of a task whose target is several columns, those by their part:
            ``{"time": "days", "event": "died"}``.
        task: The kind of task, where it is not the one usual for the target; without a target one that needs none.
        options: Options of that task.
        valid: A table to choose the best epoch on; by default a part of ``train`` is set apart.
        recipe: Everything else, as a ``Recipe``, a YAML file or a mapping of its sections,
            ``{"training": {"epochs": 20}}``; what it leaves out is chosen from the data.
        columns: What a column is, where the guess is wrong: ``{"photo": "image"}``.
        streams: Groups of table columns, each a stream of its own, by names or patterns: ``{"audio": "audio_*"}``. The
            columns of no group stay together in the stream ``table``.
        ignore: Columns that are not used.
        group: A column whose groups (patients, speakers) must not be on both sides of the split.
        weight: A column of row weights.
        media: The folder that media paths are relative to; by default the table's own.
        epochs: Passes over the training rows, at most: ``training.epochs`` of the recipe.
        lr: Peak learning rate: ``training.lr``.
        batch_size: Rows a step: ``training.batch_size``.
        fusion: How streams become one, by name or with options, ``{"kind": "gated", ...}``: ``model.fusion``.
        size: ``tiny``, ``small``, ``base`` or ``large``: ``model.size``.
        overrides: Anything else in a recipe: ``"model.fusion=gated"``, ``"training.epochs=20"``, as on the command line.
        seed: The same seed gives the same model, bit for bit, on the same machine.
        time_limit: Seconds of training, at most; of a search all trials together.
        stream: The training rows are read from shards as training goes, and neither they nor what is decoded of them are
            kept: for data larger than memory and disk (``data.shards.row_stream`` of the recipe).
        search: So many settings of what the recipe leaves open are trained, and the best on the validation rows is kept.
            The same call goes on where it was stopped.
        quality: ``fast``, ``good`` (as without it) or ``best``: how much is spent (table: ``training/quality_presets.py``).
        tune_speed: Measure first, for some seconds, what makes training faster here (threads, bfloat16, compiling); take
            what does and keeps the results; what would change them is only told of. See docs/speed.md.
        out: Where the model, its report and its logs are written; None keeps the model in memory only.
        resume: Go on from the last checkpoint in ``out``, where there is one. Another table or recipe than it began with is
            refused, with what differs.
        overwrite: Whether this run may replace a finished model, or a training that was stopped, in ``out``; else it is
            refused before any work.
        cache: Where decoded media are kept; by default the user's cache folder.
        quiet: Say nothing but warnings.

    Of several processes (``training.devices``, torchrun, SLURM) the first writes and gives the scored model; the others
    give the trained model and write nothing.

    Raises:
        SensoriumError: naming file, row, column, and how to mend it, before any training starts.
    """
    request = Request.of(
        train,
        target=target,
        task=task,
        options=options,
        valid=valid,
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
        fusion=fusion,
        size=size,
        overrides=overrides,
        seed=seed,
        time_limit=time_limit,
        stream=stream,
        cache=cache,
    )
    request = replace(request, plan=launch.with_processes(request.plan))
    job = launch.job_of(request, out=out, resume=resume, quality=quality)
    folder = Path(out) if out is not None else None
    with _claim_folder(folder, resume, overwrite, search, quality), Console(quiet, mute=not launch.first()) as console:
        check = partial(_check_search, request.plan, request.valid is not None, search, tune_speed)
        ready = prepare(request, console, quality=quality, check=check)
        ready = _check_networks(ready, console)
        networks, limit = ready.plan.model.networks, ready.plan.training.time_limit
        trials = search if search is not None else ready.trials
        folded: FoldEnsemble | None = None
        speed: dict[str, Any] = {}
        if trials is not None:
            # A network takes about as long as a trial.
            share = None if limit is None or networks == 1 else limit / (trials + networks)
            trained = _run_search(ready, trials, limit if share is None else share * trials, folder, console)
            if networks == 1:
                add_experts(trained, ready, console)
            else:
                plan = _with_fit_settings(trained.recipe, ready.plan)
                folded = train_folds(ready, plan, folder, console, resume=True, seconds=share, searched=True)
                assert folded is not None
                folded.trained.artifact.report["search"] = trained.artifact.report["search"]
                trained = folded.trained
        elif networks > 1:
            ready, speed = _tune_speed(ready, folder, resume, console) if tune_speed else (ready, {})
            share = None if limit is None else limit / networks
            folded = train_folds(ready, ready.plan, folder, console, resume=resume, seconds=share)
            if folded is None:
                assert folder is not None
                return Trained(Artifact.load(folder), cache=ready.store.folder)
            trained = folded.trained
        else:
            ready, speed = _tune_speed(ready, folder, resume, console) if tune_speed else (ready, {})
            with launch.process_group(ready.plan.training, job) as processes:
                trained = train_network(
                    ready.plan,
                    ready.schema,
                    ready.rows,
                    ready.valid,
                    ready.store,
                    folder,
                    resume,
                    console,
                    processes,
                    ready.splits.stream,
                )
            if not launch.first():
                return trained
            if folder is not None and resume and resumable.is_complete(folder):
                return Trained(Artifact.load(folder), cache=ready.store.folder)
            add_experts(trained, ready, console)
        return _score_and_save(trained, ready, speed, folder, resume, trials is not None, console, folded)


def _claim_folder(
    folder: Path | None, resume: bool, overwrite: bool, search: int | None, quality: str | None
) -> AbstractContextManager[None]:
    """The folder of the run, where it has one, and this process is the one that writes."""
    if folder is None or not launch.first():
        return nullcontext()
    searching = search is not None or (quality in QUALITY and QUALITY[quality].trials is not None)
    return for_run(folder, resume=resume, overwrite=overwrite, search=searching)


def add_experts(trained: Trained, ready: PreparedRun, console: Console) -> None:
    """The experts of the recipe, fitted and weighed beside the network of a trained model."""
    from sensorium.training.expert_fitting import fit_experts

    found = trained.artifact
    plan = with_experts(found.recipe, ready.plan)
    found.recipe = fit_experts(plan, found.schema, found.model, ready.rows, ready.valid, console)


def _check_networks(ready: PreparedRun, console: Console) -> PreparedRun:
    """With one network where a quality asks for several and they cannot be trained: why is said."""
    if ready.plan.model.networks == 1:
        return ready
    why = why_unsuitable(ready.plan, ready.splits, separate_valid=ready.separate_valid)
    if why is None:
        return ready
    console.note(f"  one network: {why}")
    plans = {
        name: plan.model_copy(update={"model": plan.model.model_copy(update={"networks": 1})})
        for name, plan in (("plan", ready.plan), ("request", ready.request))
    }
    return replace(ready, **plans)  # type: ignore[arg-type]


def _with_fit_settings(found: Recipe, asked: Recipe) -> Recipe:
    """The recipe that a search found, with what it left aside: experts, several networks, the time for all."""
    plan = with_experts(found, asked)
    return plan.model_copy(
        update={
            "model": plan.model.model_copy(update={"networks": asked.model.networks}),
            "training": plan.training.model_copy(update={"time_limit": asked.training.time_limit}),
        }
    )


def _check_search(
    plan: Recipe,
    separate_valid: bool,
    search: int | None,
    tune_speed: bool,
    found: TableSplits,
    trials: int | None,
    resolved: Recipe,
) -> None:
    """Refuse what several networks, that the recipe itself asks for, cannot do, and what a search cannot."""
    if plan.model.networks > 1 and (why := why_unsuitable(resolved, found, separate_valid=separate_valid)) is not None:
        raise ConfigError(f"{plan.model.networks} networks cannot be trained: {why}", fix="model.networks=1")
    if search is None and trials is None:
        return
    if tune_speed:
        raise ConfigError("speed is tuned for one setting, and a search tries many", fix="leave out one of the two")
    if found.stream is not None:
        raise ConfigError("a search trains on a table in memory", fix="leave out --stream, or --search and --quality best")
    if plan.training.devices * plan.training.nodes > 1:
        raise ConfigError(
            "a search trains in one process", fix="leave out training.devices and training.nodes, or --search"
        )


def _run_search(ready: PreparedRun, trials: int, seconds: float | None, folder: Path | None, console: Console) -> Trained:
    """The best network of a search; ``seconds`` are for all trials together."""
    from sensorium.training.hyperparameter_search import run_search

    def tried(plan: Recipe, schema: Schema) -> Trained:
        # Trials are of networks: what is fitted beside the best is the same for all.
        return train_network(
            network_only(plan), schema, ready.rows, ready.valid, ready.store, None, False, Console(quiet=True)
        )

    training = ready.request.training.model_copy(update={"time_limit": seconds})
    request = ready.request.model_copy(update={"training": training})
    return run_search(
        request, ready.schema, ready.rows, ready.valid, ready.store, ready.classes, trials, folder, console, tried
    )


def _tune_speed(
    ready: PreparedRun, folder: Path | None, resume: bool, console: Console
) -> tuple[PreparedRun, dict[str, Any]]:
    from sensorium.training.speed_tuning import tune

    said = ready.request.training.model_fields_set
    plan, speed = tune(
        ready.plan,
        said,
        ready.schema,
        ready.rows,
        ready.valid,
        ready.store,
        folder,
        resume,
        console,
        ready.splits.stream,
    )
    return replace(ready, plan=plan), speed


def _score_and_save(
    trained: Trained,
    ready: PreparedRun,
    speed: dict[str, Any],
    folder: Path | None,
    resume: bool,
    searched: bool,
    console: Console,
    folded: FoldEnsemble | None = None,
) -> Trained:
    """The model held against the validation rows; then fitted on them too, and saved with its report and curves."""
    from sensorium.evaluation.evaluate import evaluate
    from sensorium.training.final_fit import refit_on_all_rows

    rows, table = ready.valid, ready.splits.held_out
    passes: Iterable[Batch | Forward] = trained.batches(rows)
    if folded is not None and not ready.separate_valid:
        # All rows were learnt from by some network: each is answered by the one that has not seen it.
        rows, table, passes = folded.rows, folded.table, folded.passes()
    evaluation = evaluate(trained.predictor.model, passes, baselines=trained.baselines())
    scores = evaluation.to_json()
    floor = scores.pop("floor", {})
    trained.artifact.report["valid"] = scores
    trained.artifact.report |= {"speed": speed} if speed else {}
    if floor:
        trained.artifact.report["floor"] = floor
    for target in evaluation.targets.values():
        for sentence in target.floor.sentences() if target.floor is not None else ():
            console.note(f"  {target.name}: {sentence}")
    if folder is not None:
        with told(folder):
            (folder / "logs").mkdir(parents=True, exist_ok=True)  # a search and experts alone have no logs of their own
            trained.write_report(folder / "report.html", evaluation, table, rows)
    whole = refit_on_all_rows(trained, ready, folder, resume, console)
    if folder is None:
        return whole
    from sensorium.reporting.learning_curves import curves_svg

    whole.save(folder)
    with told(folder):
        if whole.history:
            curves_svg(whole.history, folder / "logs" / "curves.svg")
    # Only now: until the model is safe, the checkpoint is what a resume goes on from.
    (resumable.discard if searched else resumable.mark_finished)(folder)
    return whole


def network_only(plan: Recipe) -> Recipe:
    """A resolved recipe of one network, without experts."""
    single = {"experts": [], "features": {}, "networks": 1}
    return plan.model_copy(update={"model": plan.model.model_copy(update=single)})


def with_experts(plan: Recipe, asked: Recipe) -> Recipe:
    """A resolved recipe with the experts of another."""
    update = {"experts": asked.model.experts, "features": asked.model.features}
    return plan.model_copy(update={"model": plan.model.model_copy(update=update)})


def train_network(
    plan: Recipe,
    schema: Schema,
    rows: encoded.Rows,
    valid: encoded.Rows,
    store: Store,
    out: Path | None,
    resume: bool,
    console: Console,
    processes: ProcessGroup | None = None,
    stream: ShardSource | None = None,
) -> Trained:
    """The trained model of a resolved recipe and encoded rows. ``out`` has its logs and checkpoint; it is not saved."""
    from sensorium.training.padding_report import report_padding
    from sensorium.training.process_group import SINGLE_PROCESS
    from sensorium.training.train import train as run

    # Of a stream nothing is put together by length, and its padding is not known before.
    padding = report_padding(schema, rows, plan.training, plan.seed, console) if stream is None else {}
    model, history, learnt, epoch = run(
        plan, schema, rows, valid, out, resume, console, store, processes or SINGLE_PROCESS, stream
    )
    priors = {name: task.baseline(encoded.fields(schema, rows, task)) for name, task in model.tasks.items()}
    priors = {name: baseline for name, baseline in priors.items() if baseline is not None}
    report = {
        "history": history,
        "best_epoch": epoch,
        "priors": priors,
        "rows": len(rows) if stream is None else stream.rows,
    }
    report |= {"padding": padding} if padding else {}
    return Trained(Artifact(plan, schema, model, report, learnt), cache=store.folder)
