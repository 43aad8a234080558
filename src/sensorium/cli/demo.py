"""``sensorium demo``"""

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

STORY = """A house has five senses: a camera, a microphone, a floor sensor, a thermometer, and people who leave notes.
Six things happen in it: kettle, shower, window, visitor, cleaning, party. Each sense only narrows them down to two, is
wrong 5 times in 100, and is not looking 10 times in 100. No sense can do it alone; together they can."""
PLAN = "training.epochs=20"  # a third of what fit would take at most: enough here

SENSES = ("photo", "note", "sound", "sensor", "temperature")


def run(
    out: Annotated[Path, typer.Option(help="Where the data, the model and the report go.")] = Path("demo"),
    rows: Annotated[int, typer.Option(min=200, help="Rows to make.")] = 900,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another story.")] = 0,
) -> None:
    """Make a small multimodal data set, learn it, and say what came out: about a minute, offline.

    Example: sensorium demo --out demo
    """
    from sensorium.data.files.atomic_write import check_writable
    from sensorium.data.inspection.inspect import inspect
    from sensorium.data.synthetic import make
    from sensorium.data.tables.table import Table
    from sensorium.training.fit import fit

    check_writable(out)
    _untouched(out)
    _title("1. The story")
    typer.echo(STORY)
    paths = make(out, rows, seed, damage=True)
    train, valid, test = (Table.read(paths[name]) for name in ("train", "valid", "test"))

    said = quoting.command("inspect", paths["train"], "--target", "event")
    _title(f"2. The data: sensorium {said}")
    _look(inspect({paths["train"].name: train}, target="event"))

    said = quoting.command("fit", paths["train"], "--target", "event", "--valid", paths["valid"], PLAN)
    _title(f"3. Training: sensorium {said}")
    model = fit(
        train,
        target="event",
        valid=valid,
        out=out / "run",
        seed=seed,
        overrides=[PLAN],
        cache=out / "cache",
        overwrite=True,
    )

    said = quoting.command("evaluate", out / "run", paths["test"], "--report", out / "test.html")
    _title(f"4. The result: sensorium {said}")
    _result(model.evaluate(test, report=out / "test.html"))

    _title("5. A row with holes: most senses are not looking")
    _holes(model, test)

    typer.echo(f"\nreport  {out / 'test.html'}  (one file: open it in a browser)\nmodel   {out / 'run'}")
    said = quoting.command("predict", out / "run", paths["test"], "--out", "predictions.csv")
    typer.echo(f"next    sensorium {said}")


def _untouched(out: Path) -> None:
    """Refuse a folder with tables or a model that no demo made."""
    there = [name for name in ("train.csv", "valid.csv", "test.csv", "test.html", "run") if (out / name).exists()]
    head = ""
    if (out / "train.csv").is_file():
        with (out / "train.csv").open(encoding="utf-8", errors="replace") as file:
            head = file.readline(10_000)
    if there and not {*SENSES, "event"} <= set(head.rstrip().split(",")):
        raise ConfigError(
            f"holds {', '.join(there)}, which a demo would replace", file=out, fix="name another folder: --out"
        )


def _title(text: str) -> None:
    typer.secho(f"\n{text}", bold=True)


def _look(found: Inspection) -> None:
    target, broken = found.targets[0], sum(map(len, found.problems.values()))
    whole = max(((len(streams), sum(count.values())) for streams, count in found.streams), default=(0, 0))[1]
    typer.echo(f"{sum(found.tables.values())} rows to learn from; {whole} of them have everything, the others have holes.")
    typer.echo(f"{broken} files are damaged on purpose: their cells will count as missing.")
    typer.echo(f"Always saying the most frequent event would be right in {target.majority or 0:.1%} of them.")


def _result(evaluation: Evaluation) -> None:
    target = evaluation.targets["event"]
    whole, (low, high) = target.metrics["accuracy"], target.intervals["accuracy"]
    typer.echo(f"{target.rows} unseen rows. Accuracy with all streams {whole:.3f} (95 % interval {low:.3f} to {high:.3f}).")
    typer.echo("\nstream      alone   all but it   what it brought")
    for stream, share in sorted(target.shapley.items(), key=lambda item: -item[1]):
        alone = target.subsets[stream]["accuracy"]
        rest = target.subsets["+".join(s for s in target.whole if s != stream)]["accuracy"]
        typer.echo(f"{stream:<10}  {alone:.3f}      {rest:.3f}      {share:+.3f}  {'█' * max(0, round(share * 100))}")
    alone, best = max((target.subsets[stream]["accuracy"], stream) for stream in target.whole)
    typer.echo(
        f"\n{best}, the best stream alone, is right in {alone:.0%}; all together add {100 * (whole - alone):.0f} points."
    )
    typer.echo(
        "(table: temperature, room and time. What it brought: its gain, averaged over all orders of adding streams.)"
    )
    typer.echo("Any stream may be absent: the model still answers, from what is left. What the scores mean:")
    for sentence in evaluation.findings:
        typer.echo(f"  • {sentence}")


def _holes(model: Trained, test: Table) -> None:
    row = max(test.rows(), key=lambda cells: sum(bool(cells[sense]) for sense in SENSES))
    for kept in (SENSES, ("note", "sound"), ("note",), ()):
        cells = {name: cell if name in kept else "" for name, cell in row.items()}
        (answer,) = model.predict([cells], media=test.root)
        chances = sorted(answer.targets["event"]["probabilities"].items(), key=lambda item: -item[1])[:3]
        said = ", ".join(f"{name} {chance:.0%}" for name, chance in chances)
        typer.echo(f"{' + '.join(kept) or 'nothing at all':<44}  {said}")
    typer.echo(f"In truth it was: {row['event']}.")
