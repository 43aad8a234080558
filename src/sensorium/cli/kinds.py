"""The command ``sensorium kinds``."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from sensorium.core import registry


def run(
    family: Annotated[str | None, typer.Argument(help=f"A family of components: {', '.join(registry.FAMILIES)}.")] = None,
    name: Annotated[str | None, typer.Argument(help="A component of the family.")] = None,
) -> None:
    """List the available components, or describe one of them with all its options.

    Example: sensorium kinds fusions gated
    """
    if family is None or name is None:
        for listed in registry.FAMILIES if family is None else [family]:
            kinds = registry.kinds(listed)
            typer.secho(listed, bold=True)
            for kind in kinds:
                typer.echo(f"  {kind:<{max(map(len, kinds))}}  {registry.describe(listed, kind).summary}")
        return
    component = registry.describe(family, name)
    typer.secho(f"{family}/{name}", bold=True)
    typer.echo(component.text)
    typer.secho("\noptions" if component.options else "\nno options", bold=True)
    for option in component.options:
        typer.echo(f"  {option.name}: {option.type} = {option.default}")
        typer.echo(textwrap.indent(textwrap.fill(option.text, 100), "      "))
