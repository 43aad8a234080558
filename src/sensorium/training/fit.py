"""``fit``: train a model from a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensorium.artifact import Artifact
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.inspection.column_groups import Patterns
from sensorium.data.store.store import Store
from sensorium.reporting.console import Console
from sensorium.trained import Trained
from sensorium.training import launch
from sensorium.training import resume as resumable
from sensorium.training.base_model import bases_loaded_once
from sensorium.training.fold_ensemble import FoldEnsemble, train_folds, why_unsuitable
from sensorium.training.output_folder import for_run
from sensorium.training.prepare import PreparedRun, prepare
from sensorium.training.quality_presets import QUALITY
from sensorium.training.run_checks import check_search
from sensorium.training.scoring_and_saving import score_and_save
from sensorium.training.training_request import RecipeSource, Request, Target

if TYPE_CHECKING:
    from sensorium.training.process_group import ProcessGroup
    from sensorium.training.shard_source import ShardSource


@bases_loaded_once()
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
    init: str | Path | None = None,
    init_how: str | None = None,
    init_streams: Mapping[str, str] | None = None,
    synthetic: float | None = None,
    augment_with: Any = None,
    unlabelled: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Train a model on a table whose cells are numbers, text and media, any of which may be missing.

    With several processes (``training.devices``, torchrun, SLURM), the first writes and returns the scored model; the
    others return the trained model and write nothing.

    Args:
        train: A path (.csv .tsv .jsonl .parquet …), a DataFrame, rows or columns; may be named in the recipe instead.
        target: The target column, or columns. For a task with a target of several columns, a mapping from part to column:
            ``{"time": "days", "event": "died"}``.
        task: The kind of task; by default the one for the target's column kind. Needed for a task without a target.
        options: Options of that task.
        valid: A validation table, for choosing the best epoch; by default a part of ``train`` is held out.
        recipe: All other settings, as a ``Recipe``, a YAML file or a mapping of its sections,
            ``{"training": {"epochs": 20}}``; what it leaves out is chosen from the data.
        columns: Column kinds, where the inferred ones are wrong: ``{"photo": "image"}``.
        streams: Groups of table columns, each a separate stream: ``{"audio": "audio_*"}``; the rest is ``table``.
        ignore: Columns that are not used.
        group: A column of groups (patients, speakers); no group is in both the training and the validation rows.
        weight: A column of row weights.
        media: The folder that media paths are relative to; by default the table's folder.
        epochs: Maximum number of passes over the training rows: ``training.epochs`` of the recipe.
        lr: Peak learning rate: ``training.lr``.
        batch_size: Rows per step: ``training.batch_size``.
        fusion: The fusion of the streams, by name or with options, ``{"kind": "gated", ...}``: ``model.fusion``.
        size: ``tiny``, ``small``, ``base`` or ``large``: ``model.size``.
        overrides: Any other settings of the recipe: ``"model.fusion=gated"``, ``"training.epochs=20"``.
        seed: Random seed. The same seed gives a bit-identical model on the same machine.
        time_limit: Maximum training time in seconds; for a search, all trials together.
        stream: Read training rows from shards and keep none of them: for data larger than memory and disk.
        search: Number of hyperparameter trials; the best on validation rows is kept. The same call resumes a search.
        quality: ``fast``, ``good`` (the default) or ``best``: training effort; see ``training/quality_presets.py``.
        tune_speed: First measure which settings (threads, bfloat16, compiling) train faster here. Those that keep the
            results are used; the others are only reported. See docs/speed.md.
        out: Folder for the model, its report and its logs; None keeps the model in memory only.
        init: The folder of a trained model, from ``pretrain`` or ``fit``: encoders start from its weights, and columns are
            read as it reads them.
        init_how: ``full`` (the default): what is taken over learns like the rest; ``slow``: at a tenth of the rate;
            ``frozen``: not at all.
        init_streams: By stream, the base's stream it starts from, ``{"photo": "image"}``; by default those of one name.
        synthetic: Also learn from made rows, this many times the training rows, of a generator trained on these. As with
            the next two, a model without them is trained too, and both scores are printed and recorded.
        augment_with: Also learn from made rows: a folder that ``sensorium sample`` wrote, or a table.
        unlabelled: Pretrain on these rows without a target, and the labelled ones, first.
        resume: Continue from the last checkpoint in ``out``, if any; a different table or recipe is refused.
        overwrite: Replace a finished model or a stopped training in ``out``, which is otherwise refused before any work.
        cache: Folder of the cache of decoded media; by default in the user's cache folder.
        quiet: Print warnings only.

    Raises:
        SensoriumError: Before training starts, naming file, row, column and the fix.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("synthetic", "augment_with", "unlabelled")}
    if synthetic is not None or augment_with is not None or unlabelled is not None:
        from sensorium.training.more_rows import fit_with_more_rows

        return fit_with_more_rows(fit, arguments, synthetic=synthetic, augment_with=augment_with, unlabelled=unlabelled)
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
        init=init,
        init_how=init_how,
        init_streams=init_streams,
    )
    request = replace(request, plan=launch.with_processes(request.plan))
    job = launch.job_of(request, out=out, resume=resume, quality=quality)
    folder = Path(out) if out is not None else None
    with _claim_folder(folder, resume, overwrite, search, quality), Console(quiet, mute=not launch.first()) as console:
        check = partial(check_search, request.plan, request.valid is not None, search, tune_speed)
        ready = prepare(request, console, quality=quality, check=check)
        ready = _check_networks(ready, console)
        networks, limit = ready.plan.model.networks, ready.plan.training.time_limit
        trials = search if search is not None else ready.trials
        folded: FoldEnsemble | None = None
        speed: dict[str, Any] = {}
        if trials is not None:
            trained, folded = _train_by_search(ready, trials, folder, console)
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
            trained = _train_one(ready, job, folder, resume, console)
            if not launch.first():
                return trained
            if folder is not None and resume and resumable.is_complete(folder):
                return Trained(Artifact.load(folder), cache=ready.store.folder)
            add_simple_models(trained, ready, console)
        return score_and_save(trained, ready, speed, folder, resume, trials is not None, console, folded)


def _claim_folder(
    folder: Path | None, resume: bool, overwrite: bool, search: int | None, quality: str | None
) -> AbstractContextManager[None]:
    """Lock and check the run's folder, if there is one and this process writes."""
    if folder is None or not launch.first():
        return nullcontext()
    searching = search is not None or (quality in QUALITY and QUALITY[quality].trials is not None)
    return for_run(folder, resume=resume, overwrite=overwrite, search=searching)


def add_simple_models(trained: Trained, ready: PreparedRun, console: Console) -> None:
    """Fit the experts of the recipe in ``ready``, which are blended with the network of ``trained``, and the simple methods
    that it is compared with; ``console`` shows progress."""
    from sensorium.training.component_fitting import fit_simple_methods
    from sensorium.training.expert_fitting import fit_experts

    artifact = trained.artifact
    fit_simple_methods(artifact.model, artifact.schema, ready.rows, console, ready.valid)
    plan = with_experts(artifact.recipe, ready.plan)
    artifact.recipe = fit_experts(plan, artifact.schema, artifact.model, ready.rows, ready.valid, console)


def _check_networks(ready: PreparedRun, console: Console) -> PreparedRun:
    """Fall back to one network, with a note, where a quality asks for several that cannot be trained."""
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


def _with_fit_settings(best: Recipe, request: Recipe) -> Recipe:
    """Return the recipe that a search chose, with the experts, network count and time limit of the original one."""
    plan = with_experts(best, request)
    return plan.model_copy(
        update={
            "model": plan.model.model_copy(update={"networks": request.model.networks}),
            "training": plan.training.model_copy(update={"time_limit": request.training.time_limit}),
        }
    )


def _run_search(ready: PreparedRun, trials: int, seconds: float | None, folder: Path | None, console: Console) -> Trained:
    """Return the best network of a search; ``seconds`` are for all trials together."""
    from sensorium.training.hyperparameter_search import run_search

    def tried(plan: Recipe, schema: Schema) -> Trained:
        # Trials train the network only: the experts do not depend on the setting.
        return train_network(
            network_only(plan), schema, ready.rows, ready.valid, ready.store, None, False, Console(quiet=True)
        )

    training = ready.request.training.model_copy(update={"time_limit": seconds})
    request = ready.request.model_copy(update={"training": training})
    return run_search(
        request, ready.schema, ready.rows, ready.valid, ready.store, ready.classes, trials, folder, console, tried
    )


def _train_by_search(
    ready: PreparedRun, trials: int, folder: Path | None, console: Console
) -> tuple[Trained, FoldEnsemble | None]:
    """Search for settings and train with the best: one network with its experts, or the networks of a fold ensemble."""
    networks, limit = ready.plan.model.networks, ready.plan.training.time_limit
    if networks == 1:
        trained = _run_search(ready, trials, limit, folder, console)
        add_simple_models(trained, ready, console)
        return trained, None
    # Training a network takes about as long as a trial.
    share = None if limit is None else limit / (trials + networks)
    searched = _run_search(ready, trials, None if share is None else share * trials, folder, console)
    plan = _with_fit_settings(searched.recipe, ready.plan)
    folded = train_folds(ready, plan, folder, console, resume=True, seconds=share, searched=True)
    assert folded is not None
    folded.trained.artifact.report["search"] = searched.artifact.report["search"]
    return folded.trained, folded


def _train_one(ready: PreparedRun, job: Any, folder: Path | None, resume: bool, console: Console) -> Trained:
    """Train a single network, in the processes that the recipe asks for; they are started with the arguments ``job``."""
    with launch.process_group(ready.plan.training, job) as processes:
        return train_network(
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


def _tune_speed(
    ready: PreparedRun, folder: Path | None, resume: bool, console: Console
) -> tuple[PreparedRun, dict[str, Any]]:
    """Return the run with the faster settings, and the measurements."""
    from sensorium.training.speed_tuning import tune

    set_by_user = ready.request.training.model_fields_set
    plan, speed = tune(
        ready.plan,
        set_by_user,
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


def network_only(plan: Recipe) -> Recipe:
    """Return the resolved recipe ``plan`` with a single network and no experts."""
    single = {"experts": [], "features": {}, "networks": 1}
    return plan.model_copy(update={"model": plan.model.model_copy(update=single)})


def with_experts(plan: Recipe, request: Recipe) -> Recipe:
    """Return the resolved recipe ``plan`` with the experts and features of the recipe ``request``."""
    update = {"experts": request.model.experts, "features": request.model.features}
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
    """Train the network of a resolved recipe; the model is not saved.

    Args:
        plan: The resolved recipe.
        schema: The fitted columns.
        rows: Encoded training rows; ``valid`` are the validation rows.
        store: The cache of decoded media.
        out: Folder for logs and checkpoints; None writes nothing.
        resume: Whether to continue from the checkpoint in ``out``.
        console: Where progress is printed.
        processes: The processes that train together; None for this one alone.
        stream: Shards that training batches come from, if not from ``rows``.
    """
    from sensorium.training.network_training import train as run
    from sensorium.training.padding_report import report_padding
    from sensorium.training.process_group import SINGLE_PROCESS

    # A stream is not bucketed by length, and its padding is not known in advance.
    padded = stream is None and plan.model.network
    padding = report_padding(schema, rows, plan.training, plan.seed, console) if padded else {}
    model, history, learnt, epoch = run(
        plan, schema, rows, valid, out, resume, console, store, processes or SINGLE_PROCESS, stream
    )
    priors = {name: task.baseline(encoded.target_fields(schema, rows, task)) for name, task in model.tasks.items()}
    priors = {name: baseline for name, baseline in priors.items() if baseline is not None}
    report = {
        "history": history,
        "best_epoch": epoch,
        "priors": priors,
        "rows": len(rows) if stream is None else stream.rows,
    }
    report |= {"padding": padding} if padding else {}
    return Trained(Artifact(plan, schema, model, report, learnt), cache=store.folder)
