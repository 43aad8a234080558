"""The command ``sensorium demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorium.core import quoting
from sensorium.core.errors import ConfigError

if TYPE_CHECKING:
    from sensorium.data.inspection.results import Inspection
    from sensorium.data.tables.table import Table
    from sensorium.evaluation.results import Evaluation
    from sensorium.trained import Trained

STORY = """\
A house is observed by five modalities: a camera, a microphone, a floor sensor, a thermometer and written notes.
There are six events: kettle, shower, window, visitor, cleaning, party. Each modality only narrows them down to two, is
wrong 5 % of the time and missing 10 % of the time. No modality is enough alone; together they are."""
EPOCHS = "training.epochs=20"  # a third of the default maximum: enough here

COLUMNS = ("photo", "note", "sound", "sensor", "temperature")


def run(
    out: Annotated[Path, typer.Option(help="Folder for the data, the model and the report.")] = Path("demo"),
    rows: Annotated[int, typer.Option(min=200, help="Number of rows to generate.")] = 900,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the data and the training.")] = 0,
) -> None:
    """Generate a small multimodal data set, train a model on it and show the results: about a minute, offline.

    Example: sensorium demo --out demo
    """
    from sensorium.data.files.atomic_write import check_writable
    from sensorium.data.inspection.inspect import inspect
    from sensorium.data.synthetic import make
    from sensorium.data.tables.table import Table
    from sensorium.training.fit import fit

    check_writable(out)
    _check_replaceable(out)
    _title("1. The task")
    typer.echo(STORY)
    paths = make(out, rows, seed, damage=True)
    train, valid, test = (Table.read(paths[name]) for name in ("train", "valid", "test"))

    command = quoting.command("inspect", paths["train"], "--target", "event")
    _title(f"2. The data: sensorium {command}")
    _show_inspection(inspect({paths["train"].name: train}, target="event"))

    command = quoting.command("fit", paths["train"], "--target", "event", "--valid", paths["valid"], EPOCHS)
    _title(f"3. Training: sensorium {command}")
    model = fit(
        train,
        target="event",
        valid=valid,
        out=out / "run",
        seed=seed,
        overrides=[EPOCHS],
        cache=out / "cache",
        overwrite=True,
    )

    command = quoting.command("evaluate", out / "run", paths["test"], "--report", out / "test.html")
    _title(f"4. The result: sensorium {command}")
    _show_scores(model.evaluate(test, report=out / "test.html"))

    _title("5. A row with missing modalities")
    _show_missing(model, test)

    typer.echo(f"\nreport  {out / 'test.html'}  (one file: open it in a browser)\nmodel   {out / 'run'}")
    command = quoting.command("predict", out / "run", paths["test"], "--out", "predictions.csv")
    typer.echo(f"next    sensorium {command}")


def _check_replaceable(out: Path) -> None:
    """Refuse a folder with tables or a model that this demo did not create."""
    existing = [name for name in ("train.csv", "valid.csv", "test.csv", "test.html", "run") if (out / name).exists()]
    head = ""
    if (out / "train.csv").is_file():
        with (out / "train.csv").open(encoding="utf-8", errors="replace") as file:
            head = file.readline(10_000)
    if existing and not {*COLUMNS, "event"} <= set(head.rstrip().split(",")):
        raise ConfigError(
            f"contains {', '.join(existing)}, which the demo would overwrite", file=out, fix="name another folder: --out"
        )


def _title(text: str) -> None:
    typer.secho(f"\n{text}", bold=True)


def _show_inspection(inspection: Inspection) -> None:
    target, broken = inspection.targets[0], sum(map(len, inspection.problems.values()))
    complete = max(((len(streams), sum(count.values())) for streams, count in inspection.streams), default=(0, 0))[1]
    typer.echo(
        f"{sum(inspection.tables.values())} training rows; {complete} of them are complete, the others lack modalities."
    )
    typer.echo(f"{broken} files are damaged on purpose: their cells count as missing.")
    typer.echo(f"Always predicting the most frequent event would be correct for {target.majority or 0:.1%} of them.")


def _show_scores(evaluation: Evaluation) -> None:
    target = evaluation.targets["event"]
    score, (low, high) = target.metrics["accuracy"], target.intervals["accuracy"]
    typer.echo(f"{target.rows} unseen rows. Accuracy with all streams {score:.3f} (95 % interval {low:.3f} to {high:.3f}).")
    typer.echo("\nstream      alone   without it   contribution")
    for stream, share in sorted(target.shapley.items(), key=lambda item: -item[1]):
        alone = target.subsets[stream]["accuracy"]
        rest = target.subsets["+".join(s for s in target.whole if s != stream)]["accuracy"]
        typer.echo(f"{stream:<10}  {alone:.3f}      {rest:.3f}      {share:+.3f}  {'█' * max(0, round(share * 100))}")
    alone, best = max((target.subsets[stream]["accuracy"], stream) for stream in target.whole)
    typer.echo(
        f"\n{best}, the best stream alone, is correct for {alone:.0%}; all together add {100 * (score - alone):.0f} points."
    )
    typer.echo("(table: temperature, room and time. Contribution: the gain, averaged over all orders of adding streams.)")
    typer.echo("Any stream may be missing: the model predicts from the others. What the scores mean:")
    for sentence in evaluation.findings:
        typer.echo(f"  • {sentence}")


def _show_missing(model: Trained, test: Table) -> None:
    row = max(test.rows(), key=lambda cells: sum(bool(cells[name]) for name in COLUMNS))
    for kept in (COLUMNS, ("note", "sound"), ("note",), ()):
        cells = {name: cell if name in kept else "" for name, cell in row.items()}
        (answer,) = model.predict([cells], media=test.root)
        chances = sorted(answer.targets["event"]["probabilities"].items(), key=lambda item: -item[1])[:3]
        likeliest = ", ".join(f"{name} {chance:.0%}" for name, chance in chances)
        typer.echo(f"{' + '.join(kept) or 'nothing':<44}  {likeliest}")
    typer.echo(f"The true event: {row['event']}.")
