"""Training with further rows, made or unlabelled, always compared with a fit without them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.plurals import counted
from sensorium.core.recipe import Recipe
from sensorium.core.registry import find
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import names_file
from sensorium.data.made_rows import MARK, ROWS
from sensorium.data.tables.table import Table
from sensorium.reporting import made_files
from sensorium.reporting.console import Console
from sensorium.sampling import sample_rows
from sensorium.trained import Trained
from sensorium.training.pretraining_methods import TASK, with_methods
from sensorium.training.table_splits import from_table, read_table
from sensorium.training.training_request import Request

NOT_REQUEST = ("out", "overwrite", "resume", "quiet", "search", "quality", "tune_speed")
"""Arguments of ``fit`` that are not part of its request."""
Fit = Callable[..., Trained]
"""``fit``, of a table and keyword arguments."""
GENERATOR = "generation"
"""The task of the generator that ``synthetic`` trains."""


def fit_with_more_rows(
    fit: Fit, arguments: Mapping[str, Any], *, synthetic: float | None, augment_with: Any, unlabelled: Any
) -> Trained:
    """Train without and with further rows, score both on the same validation rows, and return the model with them.

    The report's entry ``more_rows`` holds both scores. Made and unlabelled rows are never used for validation.

    Args:
        fit: Trains a model on one set of rows.
        arguments: All other arguments of ``fit``.
        synthetic: Made rows to add, as a multiple of the training rows: a generator is trained on these first.
        augment_with: A folder of made rows, or a table of them, to add.
        unlabelled: A table of rows without a target, to pretrain on.

    Raises:
        ConfigError: The arguments cannot be combined, or no column can be made.
    """
    _check(arguments, synthetic)
    out = None if arguments["out"] is None else Path(arguments["out"])
    with Console(bool(arguments["quiet"])) as console, tempfile.TemporaryDirectory(prefix="sensorium-") as scratch:
        request = Request.of(arguments["train"], **{k: v for k, v in arguments.items() if k not in (*NOT_REQUEST, "train")})
        splits = from_table(request, Console(quiet=True), None)
        schema, training, held_out = splits.schema, rooted(splits.training), rooted(splits.held_out)
        kinds = {name: spec for name, spec in schema.specs().items() if "kind" in spec}
        same = {**arguments, "columns": {**kinds, **(arguments["columns"] or {})}, "valid": held_out, "media": None}
        # Read before anything is trained: a missing file is found at once.
        further = None if augment_with is None else made_table(augment_with, schema)
        more = None if unlabelled is None else rooted(read_table(unlabelled, request, console))
        console.note("without the further rows")
        plain = fit(**{**same, "train": training, "out": None, "resume": False, "overwrite": False})
        used: list[str] = []
        if synthetic is not None:
            console.note(f"a generator of {_made_columns(schema)} is trained on {counted(len(training), 'training row')}")
            folder = Path(scratch) / "made"
            count = _make(fit, schema, training, synthetic, folder, int(arguments["seed"] or 0), request)
            training = joined(training, made_table(folder, schema))
            used.append(counted(count, "made row"))
        if further is not None:
            training = joined(training, further)
            used.append(f"{counted(len(further), 'made row')} of {further.source}")
        if more is not None:
            same["init"] = Path(scratch) / "base" if out is None else out.with_name(f"{out.name}-base")
            console.note(f"pretraining on {counted(len(training) + len(more), 'row')}, unlabelled and labelled")
            _pretrain(fit, schema, training, more, same, kinds)
            used.append(f"{counted(len(more), 'unlabelled row')} of {more.source}")
        console.note(f"with {' and '.join(used)}")
        trained = fit(**{**same, "train": training})
        scores = _scores(plain), _scores(trained)
        trained.artifact.report["more_rows"] = {"with": used, "scores": comparison(trained, *scores)}
        if out is not None:
            if synthetic is not None:
                shutil.rmtree(out / "made", ignore_errors=True)
                shutil.copytree(Path(scratch) / "made", out / "made")
            trained.save(out)
        for line in sentences(trained.artifact.report["more_rows"]):
            console.warn(line)
    return trained


def _check(arguments: Mapping[str, Any], synthetic: float | None) -> None:
    if synthetic is not None and not 0 < synthetic <= 100:
        raise ConfigError(f"synthetic is {synthetic}", fix="a multiple of the training rows above 0, such as 2.0")
    for name, why in (("stream", "rows of a stream"), ("search", "a search")):
        if arguments[name]:
            raise ConfigError(f"further rows do not go with {why}", fix=f"leave out --{name}")
    if arguments["init"] is not None:
        raise ConfigError("both scores must start from the same weights", fix="leave out --init")


def rooted(table: Table) -> Table:
    """Return ``table`` with media paths that do not depend on its folder, so that tables of two folders can be joined."""
    if table.root is None:
        return table
    root = table.root.resolve()
    columns = {name: [_absolute(cell, root) for cell in table.column(name)] for name in table.columns}
    return Table(columns, source=table.source, root=root, target=table.target, annotations=table.annotations)


def _absolute(cell: Any, root: Path) -> Any:
    if isinstance(cell, str) and names_file(cell) and not Path(cell).is_absolute() and (root / cell).exists():
        return str(root / cell)
    return cell


def joined(table: Table, other: Table) -> Table:
    """Return the rows of ``table`` and then those of ``other``; columns that one of them lacks are empty there."""
    names = dict.fromkeys([*table.columns, *other.columns])
    columns = {
        name: [cell for part in (table, other) for cell in (part.column(name) if part.has(name) else [None] * len(part))]
        for name in names
    }
    return Table(columns, source=table.source, root=table.root, target=table.target, annotations=table.annotations)


def made_table(source: Any, schema: Schema) -> Table:
    """Return the made rows of ``source``, a folder written by ``sensorium sample`` or a table, marked as made.

    Raises:
        DataError: They have no column of ``schema`` to learn from, or no target.
    """
    if isinstance(source, (str, Path)) and not Path(source).exists():
        raise DataError("there are no made rows", file=source, fix="name a folder that sensorium sample wrote, or a table")
    path = Path(source) / ROWS if isinstance(source, (str, Path)) and (Path(source) / ROWS).is_file() else source
    table = rooted(Table.read(path))
    lacking = [column.source for column in schema.targets if not table.has(column.source)]
    if lacking:
        raise DataError(f"made rows have no target {', '.join(lacking)}", file=table.source, fix="make them --given it")
    if not any(table.has(column.source) for column in schema.inputs):
        raise DataError("made rows have none of the inputs", file=table.source)
    return table if table.has(MARK) else table.with_column(MARK, ["made"] * len(table))


def _made_columns(schema: Schema) -> str:
    return ", ".join(_makeable(schema))


def _makeable(schema: Schema) -> list[str]:
    """The inputs whose cells can be made."""
    kinds = find("tasks", GENERATOR).predicts
    return [c.name for c in schema.inputs if c.spec.get("kind") in kinds and c.of is None]


def _make(fit: Fit, schema: Schema, training: Table, times: float, folder: Path, seed: int, request: Request) -> int:
    """Train a generator on the ``training`` rows only, and write made rows to ``folder``, ``times`` their number."""
    columns = _makeable(schema)
    targets = [column.source for column in schema.targets]
    if not columns:
        kinds = ", ".join(find("tasks", GENERATOR).predicts)
        raise ConfigError("no input can be made", fix=f"give a column of kind {kinds}")
    kept = {name: column for name, column in schema.specs().items() if name in (*columns, *targets) and "kind" in column}
    specs: dict[str, Any] = {name: {k: v for k, v in column.items() if k != "role"} for name, column in kept.items()}
    generator = fit(
        Table({name: training.column(name) for name in kept}, source=training.source, root=training.root),
        target=columns,
        task=GENERATOR,
        options={"given": targets},
        columns=specs,
        seed=seed,
        cache=request.cache,
        quiet=True,
    )
    count = max(1, round(times * len(training)))
    conditions = [{name: training.column(name)[i % len(training)] for name in targets} for i in range(count)]
    return made_files.write(folder, sample_rows(generator.predictor, 1, rows=conditions, seed=seed))


def _pretrain(
    fit: Fit, schema: Schema, labelled: Table, unlabelled: Table, shared: Mapping[str, Any], kinds: Mapping[str, Any]
) -> None:
    """Pretrain on the inputs of ``labelled`` rows and of ``unlabelled`` ones, and write the base to ``shared["init"]``."""
    names = [column.source for column in schema.inputs if column.of is None]
    absent = [name for name in names if not unlabelled.has(name)]
    if len(absent) == len(names):
        raise DataError("unlabelled rows have none of the inputs", file=unlabelled.source)
    combined = joined(labelled, unlabelled)
    table = Table({name: combined.column(name) for name in names}, source=unlabelled.source, root=combined.root)
    inputs: dict[str, Any] = {
        name: {k: v for k, v in spec.items() if k != "role"} for name, spec in kinds.items() if name in names
    }
    plan, options = with_methods(Recipe(), None)
    fit(
        table,
        task=TASK,
        options=options,
        recipe=plan,
        columns=inputs,
        size=shared["size"],
        seed=shared["seed"],
        cache=shared["cache"],
        out=shared["init"],
        overwrite=True,
        quiet=True,
    )


def _scores(trained: Trained) -> dict[str, dict[str, float]]:
    targets: dict[str, dict[str, float]] = trained.artifact.report["valid"]["targets"]
    return targets


def comparison(trained: Trained, without: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the headline score of each target of ``trained`` without and with the further rows, from the validation scores
    ``without`` and ``beside``, and whether they helped."""
    scores: dict[str, dict[str, Any]] = {}
    for name, task in trained.predictor.model.tasks.items():
        before, after = without[name][task.headline], beside[name][task.headline]
        better = after > before if task.higher_is_better else after < before
        scores[name] = {"metric": task.headline, "without": before, "with": after, "better": better}
    return scores


def sentences(entry: Mapping[str, Any]) -> Iterable[str]:
    """Return the report's ``entry`` on further rows in words, a sentence for each target."""
    for name, scores in entry["scores"].items():
        before, after = scores["without"], scores["with"]
        verdict = "better" if scores["better"] else "no better" if before == after else "WORSE"
        yield (
            f"{name}: {scores['metric']} {before:.3f} without, {after:.3f} with {' and '.join(entry['with'])}: {verdict} "
            "(one seed, the same validation rows)"
        )
