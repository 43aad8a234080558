"""``sensorium kinds``"""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from sensorium.core import registry


def run(
    family: Annotated[str | None, typer.Argument(help=", ".join(registry.FAMILIES))] = None,
    name: Annotated[str | None, typer.Argument(help="One of the family.")] = None,
) -> None:
    """What exists, and every option of it, read from the code itself.

    Example: sensorium kinds fusions gated
    """
    if family is None or name is None:
        for each in registry.FAMILIES if family is None else [family]:
            kinds = registry.kinds(each)
            typer.secho(each, bold=True)
            for kind in kinds:
                typer.echo(f"  {kind:<{max(map(len, kinds))}}  {registry.describe(each, kind).summary}")
        return
    found = registry.describe(family, name)
    typer.secho(f"{family}/{name}", bold=True)
    typer.echo(found.text)
    typer.secho("\noptions" if found.options else "\nno options", bold=True)
    for option in found.options:
        typer.echo(f"  {option.name}: {option.type} = {option.default}")
        typer.echo(textwrap.indent(textwrap.fill(option.text, 100), "      "))
