"""From a table to a trained model."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.artifact import Artifact
from sensorium.console import Console, span
from sensorium.core import registry
from sensorium.core.errors import CellError, ConfigError, DataError, SensoriumError
from sensorium.core.modality import is_blank
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Opener, Schema
from sensorium.data import rows as encoded
from sensorium.data.media import Under
from sensorium.data.split import split
from sensorium.data.store import Store
from sensorium.data.table import Table
from sensorium.model import Model, assemble
from sensorium.trained import Trained, say_problems
from sensorium.training.columns import check_targets, declare
from sensorium.training.defaults import resolve

if TYPE_CHECKING:
    from sensorium.training.lit import Record

SAMPLE = 256
"""Media cells that a modality learns its state from (picture size, loudness); table cells are all looked at."""


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
        time_limit: Seconds of training, at most.
        out: Where the model, its report and its logs are written; None keeps the model in memory only.
        resume: Go on from the last checkpoint in ``out``, where there is one.
        cache: Where decoded media are kept; by default the user's cache folder.
        quiet: Say nothing but warnings.

    Raises:
        SensoriumError: naming file, row, column, and how to mend it, before any training starts.
    """
    plan = _recipe(recipe, overrides, seed, time_limit, group)
    source = train if train is not None else plan.data.train
    if source is None:
        raise ConfigError("there is no training table", fix="name one, here or under data.train of the recipe")
    with Console(quiet) as console:
        table = Table.read(source, root=media or plan.data.media)
        if not len(table):
            raise DataError("the table has no rows", file=table.source)
        targets = [target] if isinstance(target, str) else list(target or ())
        roles = dict.fromkeys(ignore, "ignore") | ({group: "group"} if group else {})
        roles |= {weight: "weight"} if weight else {}
        plan = plan.model_copy(update={"columns": {**plan.columns, **(columns or {})}})
        declared = declare(table, plan, targets, roles)
        schema = declared.schema
        for name, (role, kind, reason) in declared.reasons.items():
            what = " ".join(word for word in (role, kind) if word and word != "input")
            console.note(f"  {name}: {what} ({reason})")
        check_targets(schema, table)
        valid_source = valid if valid is not None else plan.data.valid
        training, held_out = _parts(table, valid_source, schema, plan, media)
        if not len(training) or not len(held_out):
            raise DataError("too few rows to train and validate on", file=table.source, fix="give at least 2 rows a class")
        absent = [c.name for c in schema.inputs if not held_out.has(c.name)]
        if absent:
            console.warn(f"{held_out.source}: no column {', '.join(absent)}: taken as missing in every row")

        opener = Under(table.root or Path.cwd(), anywhere=True)
        learn(schema, training, opener, plan.seed)
        if isinstance(source, (str, os.PathLike)):
            plan = plan.model_copy(update={"data": plan.data.model_copy(update={"train": str(source)})})
        plan, said = resolve(plan, schema, len(training), _classes(schema, training))
        for line in said:
            console.note(f"  {line}")
        store = Store(Path(cache) if cache is not None else None)
        tell = console.step
        workers = os.cpu_count() or 1
        rows = encoded.encode(schema, training, media=opener, store=store, workers=workers, tell=tell)
        other = Under(held_out.root or Path.cwd(), anywhere=True)
        valid_rows = encoded.encode(schema, held_out, media=other, store=store, workers=workers, tell=tell)
        say_problems(console, rows.problems + valid_rows.problems)
        _usable(schema, training, rows)
        _scorable(schema, held_out, valid_rows)

        model, history = _train(plan, schema, rows, valid_rows, Path(out) if out is not None else None, resume, console)
        priors = {c.name: model.tasks[c.name].baseline(rows.target(c.name), 1).tolist() for c in schema.targets}
        from sensorium.evaluation.charts import curves_svg

        artifact = Artifact(plan, schema, model, {"history": history, "priors": priors, "rows": len(training)})
        trained = Trained(artifact, cache=store.folder)
        evaluation = trained.score(valid_rows, console=console)
        artifact.report["valid"] = evaluation.to_json()
        if out is not None:
            trained.save(out)
            curves_svg(history, Path(out) / "logs" / "curves.svg")
            trained.write_report(Path(out) / "report.html", evaluation, held_out, valid_rows)
            # Only now: until the model is safe, the checkpoint is what a resume goes on from.
            (Path(out) / "resume" / "last.ckpt").unlink(missing_ok=True)
    return trained


def _classes(schema: Schema, table: Table) -> dict[str, list[int]]:
    """Training rows of each class, by target that is a category."""
    found = {}
    for column in schema.targets:
        if column.spec["kind"] == "category":
            cells = [str(cell).strip() for cell in table.column(column.name) if not is_blank(cell)]
            found[column.name] = list(Counter(cells).values())
    return found


def _recipe(
    recipe: Recipe | str | Path | None,
    overrides: Iterable[str],
    seed: int | None,
    time_limit: float | None,
    group: str | None,
) -> Recipe:
    plan = recipe if isinstance(recipe, Recipe) else Recipe() if recipe is None else Recipe.from_yaml(recipe)
    plan = plan.override(overrides)
    if seed is not None:
        plan = plan.override([f"seed={seed}"])
    if time_limit is not None:
        plan = plan.override([f"training.time_limit={time_limit}"])
    if group is not None:
        chosen = plan.data.split.model_copy(update={"kind": "group", "by": group})
        plan = plan.model_copy(update={"data": plan.data.model_copy(update={"split": chosen})})
    return plan


def _parts(table: Table, valid: Any, schema: Schema, plan: Recipe, media: str | Path | None) -> tuple[Table, Table]:
    """Training and validation rows; rows without any target are in neither."""

    def known(part: Table) -> Table:
        columns = [part.column(c.name) for c in schema.targets if part.has(c.name)]
        if not columns:
            raise DataError("holds no target column", file=part.source)
        index = [i for i in range(len(part)) if not all(is_blank(column[i]) for column in columns)]
        return part if len(index) == len(part) else part.take(index)

    table = known(table)
    if valid is not None:
        return table, known(Table.read(valid, root=media or plan.data.media))
    spec = plan.data.split
    first = schema.targets[0].name
    learn_rows, check_rows = split(table, part=spec.part, kind=spec.kind, target=first, by=spec.by, seed=plan.seed)
    return table.take(learn_rows), table.take(check_rows)


def learn(schema: Schema, table: Table, media: Opener, seed: int = 0) -> None:
    """Fit every modality on training rows: all cells of the table, a sample of its media."""
    for column in [*schema.inputs, *schema.targets]:
        cells = [(i, cell) for i, cell in enumerate(table.column(column.name)) if not is_blank(cell)]
        if column.reader.media:
            order = np.random.default_rng(seed).permutation(len(cells))
            opened: list[Any] = []
            first: CellError | None = None
            for at in order.tolist():
                row, cell = cells[at]
                try:
                    opened.append(media.open(cell, row=table.number(row), column=column.name))
                except CellError as error:
                    first = first or error
                if len(opened) == SAMPLE:
                    break
            if not opened and first is not None:
                raise DataError(
                    f"no cell can be opened; the first: {first.problem}",
                    file=first.file,
                    row=first.row,
                    column=column.name,
                    fix="; ".join(filter(None, [first.fix, "name the folder that paths are relative to: --media FOLDER"])),
                )
            column.reader.fit(opened)
        else:
            column.reader.fit([cell for _, cell in cells])


def _usable(schema: Schema, table: Table, rows: encoded.Rows) -> None:
    """Refuse a column none of whose cells could be used: it is not missing, it is misunderstood."""
    bad = Counter(problem.column for problem in rows.problems)
    for column in [*schema.inputs, *schema.targets]:
        filled = sum(not is_blank(cell) for cell in table.column(column.name)) if bad[column.name] else 0
        if filled and filled == bad[column.name]:
            p = next(problem for problem in rows.problems if problem.column == column.name)
            raise DataError(
                f"no cell can be used as {column.spec['kind']}; the first: {p.problem}",
                file=p.file or table.source,
                row=p.row,
                column=p.column,
                fix=f"mend the cells, say what they are (--as {p.column}=KIND), or leave them out: --ignore {p.column}",
            )


def _scorable(schema: Schema, table: Table, valid: encoded.Rows) -> None:
    """Refuse validation rows that no epoch could be chosen on."""
    if not any(bool(valid.target(column.name).present.any()) for column in schema.targets):
        names = ", ".join(column.name for column in schema.targets)
        raise DataError(
            f"no row has a target ({names}) that the training rows know",
            file=table.source,
            fix="give validation rows of the same kind, or leave out --valid",
        )


def _train(
    plan: Recipe, schema: Schema, rows: encoded.Rows, valid: encoded.Rows, out: Path | None, resume: bool, console: Console
) -> tuple[Model, list[Record]]:
    import torch

    before = torch.get_num_threads()
    if plan.training.threads is not None:
        torch.set_num_threads(plan.training.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            model = assemble(plan.model, schema)
            for column in schema.targets:
                model.tasks[column.name].fit(rows.target(column.name))
            objectives = [registry.build("objectives", spec, model) for spec in plan.objectives]
            return model, _run(plan, schema, model, objectives, rows, valid, out, resume, console)
    finally:
        torch.set_num_threads(before)


def _run(
    plan: Recipe,
    schema: Schema,
    model: Model,
    objectives: list[Any],
    rows: encoded.Rows,
    valid: encoded.Rows,
    out: Path | None,
    resume: bool,
    console: Console,
) -> list[Record]:
    import lightning.pytorch as pl
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from sensorium.training.callbacks import Checkpoint, KeepBest, Logs, Progress, Tell
    from sensorium.training.lit import Lit

    spec = plan.training
    lit = Lit(model, objectives, schema, spec, rows=rows, valid=valid, seed=plan.seed)
    first = schema.targets[0].name
    headline = model.tasks[first].headline

    def better(record: Record) -> tuple[float, ...]:
        loss = -record["valid_loss"] if isfinite(record["valid_loss"]) else -inf
        if spec.select == "loss" or len(schema.targets) > 1 or loss == -inf:
            return (loss,)
        # Small validation parts give the same score again and again: the loss tells such epochs apart.
        score = record.get(f"valid_{headline}_{first}", -inf)
        return (score if model.tasks[first].higher_is_better else -score, loss)

    best = KeepBest(better, spec.patience or 1)

    def say(progress: Progress) -> None:
        detail = f"{span(progress.left)} left"
        if progress.record is not None:
            score = progress.record.get(f"valid_{headline}_{first}", float("nan"))
            say.detail = f"epoch {progress.epoch}: {headline} {score:.3f}, best in epoch {best.epoch}"  # type: ignore[attr-defined]
        said = getattr(say, "detail", "")
        console.step("training", progress.done, 1.0, f"{detail}  {said}")

    callbacks: list[pl.Callback] = [best, Tell(say)]
    checkpoint = None
    if out is not None:
        run = _identity(plan, schema, rows, valid)
        checkpoint = out / "resume" / "last.ckpt"
        named = out / "resume" / "run.json"
        going_on = resume and checkpoint.is_file() and named.is_file()
        if going_on and json.loads(named.read_text())["run"] != run:
            raise ConfigError(
                "the checkpoint belongs to another run: its recipe or its rows differ",
                file=checkpoint,
                fix="give the same command, or leave out --resume to start anew",
            )
        out.mkdir(parents=True, exist_ok=True)
        if not going_on:
            checkpoint.unlink(missing_ok=True)
            named.parent.mkdir(exist_ok=True)
            named.write_text(json.dumps({"run": run}))
        callbacks += [
            Logs(out / "logs", tensorboard=find_spec("tensorboard") is not None),
            Checkpoint(checkpoint),
        ]
        if going_on:
            console.note("going on from the last checkpoint")
    with _still():
        try:
            trainer = pl.Trainer(
                max_epochs=spec.epochs,
                accelerator=spec.accelerator,
                devices=1,
                precision=spec.precision,
                gradient_clip_val=spec.clip,
                callbacks=callbacks,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                reload_dataloaders_every_n_epochs=1,
                default_root_dir=str(out) if out is not None else None,
            )
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(f"training.accelerator or training.precision do not fit this machine: {error}") from None
        start = checkpoint if checkpoint is not None and checkpoint.is_file() else None
        try:
            trainer.fit(lit, ckpt_path=start, weights_only=True if start is not None else None)
        except SystemExit:
            # Lightning turns Ctrl-C into an exit; the caller decides what an interrupt means.
            raise KeyboardInterrupt from None
    if best.best == (-inf,):
        raise SensoriumError("the training diverged: no epoch has a finite loss", fix="lower training.lr")
    model.load_state_dict(best.weights)
    model.cpu().eval()
    console.step("training", 1.0, 1.0, f"best in epoch {best.epoch} of {lit.history[-1]['epoch']}")
    return lit.history


def _identity(plan: Recipe, schema: Schema, rows: encoded.Rows, valid: encoded.Rows) -> str:
    """What a checkpoint must share with the run that takes it up: recipe, fitted columns, the rows' targets in order."""
    h = hashlib.sha256(json.dumps([plan.model_dump(), schema.to_json()], sort_keys=True).encode())
    for part in (rows, valid):
        for name in part.targets:
            h.update(part.target(name).data.numpy().tobytes())
    return h.hexdigest()


@contextmanager
def _still() -> Iterator[None]:
    """Lightning's greetings and advice are for its own users; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
