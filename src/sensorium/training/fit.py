"""From a table to a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensorium.artifact import Artifact
from sensorium.console import Console
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import rows as encoded
from sensorium.data.media import Under
from sensorium.data.store import Store
from sensorium.data.whole import check_writable, told
from sensorium.trained import Trained
from sensorium.training import crew
from sensorium.training import resume as resumable
from sensorium.training.defaults import resolve
from sensorium.training.prepare import (
    Parts,
    class_sizes,
    encode_parts,
    from_file,
    from_table,
    learn,
    planned,
    told_roles,
    with_columns,
)
from sensorium.training.presets import with_quality

if TYPE_CHECKING:
    from sensorium.training.ranks import Ranks
    from sensorium.training.streamed import Streamed


def fit(
    train: Any = None,
    *,
    target: str | Sequence[str] | None = None,
    valid: Any = None,
    recipe: Recipe | str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    group: str | None = None,
    weight: str | None = None,
    media: str | Path | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    time_limit: float | None = None,
    stream: bool = False,
    search: int | None = None,
    quality: str | None = None,
    tune_speed: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Train a model on a table whose cells are numbers, words and media, any of which may be missing.

    Args:
        train: A path (.csv .tsv .jsonl .parquet …), a DataFrame, rows or columns. May stand in the recipe instead.
        target: The column, or columns, to predict.
        valid: A table to choose the best epoch on; by default a part of ``train`` is set apart.
        recipe: Everything else, as a ``Recipe`` or a YAML file; what it leaves out is chosen from the data.
        columns: What a column is, where the guess is wrong: ``{"photo": "image"}``.
        ignore: Columns that are not used.
        group: A column whose groups (patients, speakers) must not be on both sides of the split.
        weight: A column of row weights.
        media: The folder that media paths are relative to; by default the table's own.
        overrides: ``"model.fusion=gated"``, ``"training.epochs=20"``, as on the command line.
        seed: The same seed gives the same model, bit for bit, on the same machine.
        time_limit: Seconds of training, at most; of a search all trials together.
        stream: The training rows are read from shards as training goes, and neither they nor what is decoded of them are
            kept: for data larger than memory and disk (``data.stream`` of the recipe).
        search: So many settings of what the recipe leaves open are trained, and the best on the validation rows is kept.
            The same call goes on where it was stopped.
        quality: ``fast``, ``good`` (as without it) or ``best``: how much is spent (``training/presets.py`` is the table).
        tune_speed: Measure first, for some seconds, what makes training faster here (threads, bfloat16, compiling); take
            what does and keeps the results; what would change them is only told of. See docs/speed.md.
        out: Where the model, its report and its logs are written; None keeps the model in memory only.
        resume: Go on from the last checkpoint in ``out``, where there is one.
        cache: Where decoded media are kept; by default the user's cache folder.
        quiet: Say nothing but warnings.

    Of several processes (``training.devices``, torchrun, SLURM) the first writes and gives the scored model; the others
    give the trained model and write nothing.

    Raises:
        SensoriumError: naming file, row, column, and how to mend it, before any training starts.
    """
    plan = crew.settled(planned(recipe, overrides, seed, time_limit, group, stream))
    ignored = list(ignore)
    asked = {"columns": dict(columns or {}), "ignore": ignored, "group": group, "weight": weight, "quality": quality}
    targets = [target] if isinstance(target, str) else list(target or ())
    job = crew.job_of(train, valid, plan, target=targets, media=media, out=out, resume=resume, cache=cache, **asked)
    first = crew.first()
    source = train if train is not None else plan.data.train
    if source is None:
        raise ConfigError("there is no training table", fix="name one, here or under data.train of the recipe")
    folder = Path(out) if out is not None else None
    if folder is not None and first:
        check_writable(folder)
    with Console(quiet, mute=not first) as console:
        plan = with_columns(plan, columns)
        found = _parts(source, valid, plan, targets, told_roles(ignored, group, weight), media, console)
        schema, training, held_out = found.schema, found.training, found.held_out
        learn(schema, training, Under(training.root or Path.cwd(), anywhere=True), plan.seed)
        # What was asked for, with all that it leaves open: a search resolves it again and again.
        classes = class_sizes(schema, training)
        request, trials, set_by = with_quality(quality, from_file(plan, source), schema, found.rows, classes)
        search = search if search is not None else trials
        plan, said = resolve(request, schema, found.rows, classes)
        for line in set_by + said:
            console.note(f"  {line}")
        if search is not None:
            _searchable(plan, found, tune_speed)
        store = Store(Path(cache) if cache is not None else None)
        if found.stream is not None:
            training = found.stream.shown(training)
        rows, valid_rows = encode_parts(schema, training, held_out, store, console)
        speed: dict[str, Any] = {}
        if tune_speed:
            from sensorium.training.tune import tuned

            said_of = request.training.model_fields_set
            plan, speed = tuned(plan, said_of, schema, rows, valid_rows, store, folder, resume, console, found.stream)
        if search is not None:
            from sensorium.training.search import searched

            def tried(plan: Recipe, schema: Schema) -> Trained:
                return finish(plan, schema, rows, valid_rows, store, None, False, Console(quiet=True))

            trained = searched(request, schema, rows, valid_rows, store, classes, search, folder, console, tried)
        else:
            with crew.together(plan.training, job) as ranks:
                trained = finish(plan, schema, rows, valid_rows, store, folder, resume, console, ranks, found.stream)
            if not first:
                return trained
        artifact, evaluation = trained.artifact, trained.score(valid_rows, console=console)
        artifact.report["valid"] = evaluation.to_json()
        artifact.report |= {"speed": speed} if speed else {}
        if folder is not None:
            from sensorium.evaluation.charts import curves_svg

            trained.save(folder)
            with told(folder):
                (folder / "logs").mkdir(exist_ok=True)  # a search has no logs of its own
                curves_svg(trained.history, folder / "logs" / "curves.svg")
                trained.write_report(folder / "report.html", evaluation, held_out, valid_rows)
            # Only now: until the model is safe, the checkpoint is what a resume goes on from.
            if search is None:
                resumable.finish(folder)
            else:
                resumable.forget(folder)
    return trained


def _parts(
    source: Any,
    valid: Any,
    plan: Recipe,
    targets: list[str],
    roles: Mapping[str, str],
    media: str | Path | None,
    console: Console,
) -> Parts:
    valid = valid if valid is not None else plan.data.valid
    if not plan.data.stream:
        if plan.data.epoch_rows is not None:
            raise ConfigError("data.epoch_rows is of streams", fix="leave it out, or read the shards with --stream")
        return from_table(source, valid, plan, targets, roles, media, console)
    from sensorium.training.streamed import from_shards

    return from_shards(source, valid, plan, targets, roles, media, console)


def _searchable(plan: Recipe, found: Parts, tune_speed: bool) -> None:
    if tune_speed:
        raise ConfigError("speed is tuned for one setting, and a search tries many", fix="leave out one of the two")
    if found.stream is not None:
        raise ConfigError("a search trains on a table in memory", fix="leave out --stream, or --search and --quality best")
    if plan.training.devices * plan.training.nodes > 1:
        raise ConfigError(
            "a search trains in one process", fix="leave out training.devices and training.nodes, or --search"
        )


def finish(
    plan: Recipe,
    schema: Schema,
    rows: encoded.Rows,
    valid: encoded.Rows,
    store: Store,
    out: Path | None,
    resume: bool,
    console: Console,
    ranks: Ranks | None = None,
    stream: Streamed | None = None,
) -> Trained:
    """The trained model of a resolved recipe and encoded rows. ``out`` has its logs and checkpoint; it is not saved."""
    from sensorium.training.padding import reported
    from sensorium.training.ranks import ALONE
    from sensorium.training.run import train as run

    # Of a stream nothing is put together by length, and its padding is not known before.
    padding = reported(schema, rows, plan.training, plan.seed, console) if stream is None else {}
    model, history = run(plan, schema, rows, valid, out, resume, console, store, ranks or ALONE, stream)
    priors = {c.name: model.tasks[c.name].baseline(rows.target(c.name), 1).tolist() for c in schema.targets}
    report = {"history": history, "priors": priors, "rows": len(rows) if stream is None else stream.rows}
    report |= {"padding": padding} if padding else {}
    return Trained(Artifact(plan, schema, model, report), cache=store.folder)
