"""The command ``sensorium search``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sensorium.cli import _options
from sensorium.core import quoting
from sensorium.core.errors import ConfigError

SETTINGS = _options.EXTRA
WIDEST = 200
"""Maximum number of characters of a cell that are printed."""


def run(
    index: Annotated[Path, typer.Argument(help="The folder of an index, written by `sensorium index`.")],
    query: Annotated[
        list[str] | None,
        typer.Argument(help="Words to search for; or --COLUMN VALUE, such as --photo q.png; may be combined."),
    ] = None,
    row: Annotated[str | None, typer.Option(help="Search by a row of the index: its identifier.")] = None,
    among: Annotated[
        str | None, typer.Option(help="The sides to search: photo,caption [default: all except that of the query].")
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter", help="Only rows where: 'price < 20 and colour = \"dark red\"'; = != < <= > >= ~ (contains)"
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Maximum number of rows.")] = 10,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every row, in an approximate index too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model: Annotated[Path | None, typer.Option(help="The folder of the model, if it was moved.")] = None,
) -> None:
    """Find the rows of an index that are most similar to words, to a picture or sound, or to another row.

    Example: sensorium search idx "a red dress" --filter "price < 20"

    By a picture: sensorium search idx --photo query.png. By a row: sensorium search idx --row 3
    """
    words, cells = _query(query or [])
    from sensorium.predictor import settle_threads
    from sensorium.retrieval.index import Index

    opened = Index.open(index, model)
    settle_threads(opened.predictor.artifact.recipe)
    if words:
        column = opened.text_column()
        if column in cells:
            raise ConfigError(f"{column} is given twice: as words and as --{column}", fix="leave one of them out")
        cells[column] = words
    sides = None if among is None else _options.split_names(among)
    hits = opened.search(cells or None, row=row, among=sides, where=filter, top=top, exact=exact)
    if as_json:
        typer.echo(json.dumps({"hits": [hit.to_json() for hit in hits]}, ensure_ascii=False, indent=1))
        return
    if not hits:
        typer.echo("no row satisfies the filter" if filter else "no row has the sides to search")
    for rank, hit in enumerate(hits, 1):
        shown = "  ".join(f"{name}: {str(cell)[:WIDEST]}" for name, cell in hit.cells.items() if cell is not None)
        typer.echo(f"{rank:>3}  {hit.score:.3f}  {hit.id}  {shown}")


def _query(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Separate plain words from cells: ``--photo q.png``."""
    plain: list[str] = []
    cells: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            plain += [] if word == "--" else [word]
            continue
        name, value = quoting.pair(word[2:])
        if value is None:
            if not rest:
                raise ConfigError(f"{word} has no value", fix=f"{word} VALUE")
            value = rest.pop(0)
        if name in cells:
            raise ConfigError(f"--{name} is given twice", fix="give each column once")
        cells[name] = value
    return " ".join(plain).strip(), cells
