"""From a table to a trained model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.artifact import Artifact
from sensorium.console import Console
from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.core.modality import is_blank
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Opener, Schema, content
from sensorium.data import rows as encoded
from sensorium.data.media import Under, weight_of
from sensorium.data.split import split
from sensorium.data.store import Store
from sensorium.data.table import Table
from sensorium.data.whole import check_writable, told
from sensorium.trained import Trained, say_problems
from sensorium.training import crew
from sensorium.training import resume as resumable
from sensorium.training.columns import check_targets, declare
from sensorium.training.defaults import advised, resolve
from sensorium.training.presets import with_quality

if TYPE_CHECKING:
    from sensorium.training.ranks import Ranks

SAMPLE = 256
"""Media cells that a modality learns its state from (picture size, loudness); table cells are all looked at."""
SAMPLE_BYTES = 512 * 2**20
"""Their bytes together: of long videos fewer are looked at."""


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
    search: int | None = None,
    quality: str | None = None,
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
        search: So many settings of what the recipe leaves open are trained, and the best on the validation rows is kept.
            The same call goes on where it was stopped.
        quality: ``fast``, ``good`` (as without it) or ``best``: how much is spent (``training/presets.py`` is the table).
        out: Where the model, its report and its logs are written; None keeps the model in memory only.
        resume: Go on from the last checkpoint in ``out``, where there is one.
        cache: Where decoded media are kept; by default the user's cache folder.
        quiet: Say nothing but warnings.

    Of several processes (``training.devices``, torchrun, SLURM) the first writes and gives the scored model; the others
    give the trained model and write nothing.

    Raises:
        SensoriumError: naming file, row, column, and how to mend it, before any training starts.
    """
    plan = crew.settled(planned(recipe, overrides, seed, time_limit, group))
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
        table = read(source, plan, media)
        plan = with_columns(plan, columns)
        schema = declared(table, plan, targets, told_roles(ignored, group, weight), console)
        training, held_out = parts(table, valid if valid is not None else plan.data.valid, schema, plan, media, console)
        opener = Under(table.root or Path.cwd(), anywhere=True)
        learn(schema, training, opener, plan.seed)
        # What was asked for, with all that it leaves open: a search resolves it again and again.
        classes = class_sizes(schema, training)
        request, trials, set_by = with_quality(quality, from_file(plan, source), schema, len(training), classes)
        search = search if search is not None else trials
        plan, said = resolve(request, schema, len(training), classes)
        for line in set_by + said:
            console.note(f"  {line}")
        store = Store(Path(cache) if cache is not None else None)
        rows, valid_rows = encode_parts(schema, training, held_out, store, console)
        if search is not None:
            if plan.training.devices * plan.training.nodes > 1:
                raise ConfigError(
                    "a search trains in one process", fix="leave out training.devices and training.nodes, or --search"
                )
            from sensorium.training.search import searched

            def tried(plan: Recipe, schema: Schema) -> Trained:
                return finish(plan, schema, rows, valid_rows, store, None, False, Console(quiet=True))

            trained = searched(request, schema, rows, valid_rows, store, classes, search, folder, console, tried)
        else:
            with crew.together(plan.training, job) as ranks:
                trained = finish(plan, schema, rows, valid_rows, store, folder, resume, console, ranks)
            if not first:
                return trained
        artifact, evaluation = trained.artifact, trained.score(valid_rows, console=console)
        artifact.report["valid"] = evaluation.to_json()
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


def read(source: Any, plan: Recipe, media: str | Path | None) -> Table:
    """The table to learn from; it has rows."""
    table = Table.read(source, root=media or plan.data.media)
    if not len(table):
        raise DataError("the table has no rows", file=table.source)
    return table


def with_columns(plan: Recipe, columns: Mapping[str, str] | None) -> Recipe:
    """The recipe with what the user said of columns."""
    return plan.model_copy(update={"columns": {**plan.columns, **(columns or {})}})


def from_file(plan: Recipe, source: Any) -> Recipe:
    """The recipe with the training table's name, where it has one."""
    if not isinstance(source, (str, os.PathLike)):
        return plan
    return plan.model_copy(update={"data": plan.data.model_copy(update={"train": str(source)})})


def told_roles(ignore: Iterable[str], group: str | None, weight: str | None) -> dict[str, str]:
    """By column, what it is for, where the user said so."""
    roles = dict.fromkeys(ignore, "ignore") | ({group: "group"} if group else {})
    return roles | ({weight: "weight"} if weight else {})


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
) -> Trained:
    """The trained model of a resolved recipe and encoded rows. ``out`` has its logs and checkpoint; it is not saved."""
    from sensorium.training.ranks import ALONE
    from sensorium.training.run import train as run

    model, history = run(plan, schema, rows, valid, out, resume, console, store, ranks or ALONE)
    priors = {c.name: model.tasks[c.name].baseline(rows.target(c.name), 1).tolist() for c in schema.targets}
    report = {"history": history, "priors": priors, "rows": len(rows)}
    return Trained(Artifact(plan, schema, model, report), cache=store.folder)


def declared(table: Table, plan: Recipe, targets: list[str], roles: Mapping[str, str], console: Console) -> Schema:
    """The columns, said aloud and checked."""
    found = declare(table, plan, targets, roles)
    for name, (role, kind, reason) in found.reasons.items():
        what = " ".join(word for word in (role, kind) if word and word != "input")
        console.note(f"  {name}: {what} ({reason})")
    check_targets(found.schema, table)
    schema, said = advised(plan, found.schema)
    for line in said:
        console.note(f"  {line}")
    return schema


def encode_parts(
    schema: Schema, training: Table, held_out: Table, store: Store, console: Console
) -> tuple[encoded.Rows, encoded.Rows]:
    """Training and validation rows as the model reads them; what could not be used is said or refused."""
    rows, valid = (
        encoded.encode(
            schema,
            table,
            media=Under(table.root or Path.cwd(), anywhere=True),
            store=store,
            workers=os.cpu_count() or 1,
            tell=console.step,
        )
        for table in (training, held_out)
    )
    say_problems(console, rows.problems + valid.problems)
    _usable(schema, training, rows)
    _scorable(schema, held_out, valid)
    return rows, valid


def class_sizes(schema: Schema, table: Table) -> dict[str, list[int]]:
    """Training rows of each class, by target that is a category."""
    found = {}
    for column in schema.targets:
        if column.spec["kind"] == "category":
            cells = [str(cell).strip() for cell in table.column(column.name) if not is_blank(cell)]
            found[column.name] = list(Counter(cells).values())
    return found


def planned(
    recipe: Recipe | str | Path | None,
    overrides: Iterable[str],
    seed: int | None,
    time_limit: float | None,
    group: str | None,
) -> Recipe:
    """The recipe as told: from a file or as it is, with everything said beside it."""
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


def with_target(table: Table, schema: Schema) -> Table:
    """The rows that have any target."""
    columns = [table.column(c.name) for c in schema.targets if table.has(c.name)]
    if not columns:
        raise DataError("holds no target column", file=table.source)
    index = [i for i in range(len(table)) if not all(is_blank(column[i]) for column in columns)]
    return table if len(index) == len(table) else table.take(index)


def parts(
    table: Table, valid: Any, schema: Schema, plan: Recipe, media: str | Path | None, console: Console
) -> tuple[Table, Table]:
    """Training and validation rows; rows without any target are in neither."""
    table = with_target(table, schema)
    if valid is not None:
        training, held_out = table, with_target(Table.read(valid, root=media or plan.data.media), schema)
    else:
        training, held_out = split_off(table, schema, plan, plan.data.split.part)
    if not len(training) or not len(held_out):
        raise DataError("too few rows to train and validate on", file=table.source, fix="give at least 2 rows a class")
    absent = [c.name for c in schema.inputs if not held_out.has(c.source)]
    if absent:
        console.warn(f"{held_out.source}: no column {', '.join(absent)}: taken as missing in every row")
    return training, held_out


def split_off(table: Table, schema: Schema, plan: Recipe, part: float) -> tuple[Table, Table]:
    """The table without a share of its rows, and those; chosen as the recipe says validation rows are."""
    spec = plan.data.split
    first = schema.targets[0].name
    rest, held = split(table, part=part, kind=spec.kind, target=first, by=spec.by, seed=plan.seed)
    return table.take(rest), table.take(held)


def learn(schema: Schema, table: Table, media: Opener, seed: int = 0) -> None:
    """Fit every modality on training rows: all cells of the table, a sample of its media."""
    for column in [*schema.inputs, *schema.targets]:
        cells = [(i, cell) for i, cell in enumerate(table.column(column.source)) if not is_blank(cell)]
        if column.reader.media:
            order = np.random.default_rng(seed).permutation(len(cells))
            opened: list[Any] = []
            size = 0
            first: CellError | None = None
            for at in order.tolist():
                row, cell = cells[at]
                try:
                    opened.append(content(column.reader, cell, media, table.number(row), column.name))
                    size += weight_of(opened[-1])
                except CellError as error:
                    first = first or error
                if len(opened) == SAMPLE or size > SAMPLE_BYTES:
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
        filled = sum(not is_blank(cell) for cell in table.column(column.source)) if bad[column.name] else 0
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
