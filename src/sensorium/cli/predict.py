"""``sensorium predict``"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from sensorium.core.errors import ConfigError

if TYPE_CHECKING:
    from sensorium.predictor import Prediction


def run(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.")],
    table: Annotated[str, typer.Argument(help="A table; cells and whole columns may be missing, columns in any order.")],
    out: Annotated[Path | None, typer.Option(help="A .csv or .jsonl file [default: CSV on standard output].")] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows at a time.")] = 64,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings.")] = False,
) -> None:
    """Predict every row of a table: the answer, a probability for each class, and which modalities were missing.

    Example: sensorium predict run new.csv --out predictions.csv
    """
    if out is not None and out.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"cannot write {out.suffix or out.name!r}", file=out, fix="name it .csv or .jsonl")
    from sensorium.console import Console
    from sensorium.data.media import Under
    from sensorium.data.table import Table
    from sensorium.trained import load, say_problems

    model = load(run)
    rows = Table.read(table, root=media)
    with Console(quiet) as console:
        absent = [c.name for c in model.schema.inputs if not rows.has(c.source)]
        if absent:
            console.warn(f"{table}: no column {', '.join(absent)}: taken as missing in every row")
        opener = Under(rows.root or Path.cwd(), anywhere=True)
        problems = []

        def told(found: Iterable[Prediction]) -> Iterator[Prediction]:
            for done, prediction in enumerate(found, 1):
                problems.extend(prediction.problems)
                console.step("predicting", done, len(rows))
                yield prediction

        found = told(model.predictor.stream(rows.rows(), batch_size=batch_size, media=opener))
        names = [c.name for c in model.schema.targets]
        if out is None:
            _csv(found, sys.stdout, names, model.model)
        else:
            part = out.with_name(f".{out.name}.part")
            with open(part, "w", newline="", encoding="utf-8") as file:
                if out.suffix == ".csv":
                    _csv(found, file, names, model.model)
                else:
                    for prediction in found:
                        file.write(json.dumps(prediction.to_json(), ensure_ascii=False) + "\n")
            part.replace(out)
        say_problems(console, problems)
        if out is not None:
            console.note(f"{len(rows)} predictions in {out}")


def _csv(found: Iterable[Prediction], file: IO[str], names: list[str], model: Any) -> None:
    writer = csv.writer(file)
    header: list[str] = []
    for name in names:
        header.append(name)
        header += [f"{name}={label}" for label in getattr(model.tasks[name], "classes", [])]
    writer.writerow([*header, "missing"])
    for prediction in found:
        cells: list[Any] = []
        for name in names:
            answer = prediction.targets[name]
            value = answer["value"]
            cells.append(";".join(map(str, value)) if isinstance(value, list) else value)
            cells += [f"{answer['probabilities'][label]:.6g}" for label in getattr(model.tasks[name], "classes", [])]
        writer.writerow([*cells, " ".join(prediction.missing)])
