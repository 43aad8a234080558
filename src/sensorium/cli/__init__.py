"""The command line: one file a verb, found by its name. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

import typer

from sensorium import __version__
from sensorium.cli._stopped import CODE, end, heeding
from sensorium.core.errors import SensoriumError

app = typer.Typer(
    name="sensorium",
    help="Multimodal learning from one table: pictures, words, sound, sensors and numbers in; a trained, evaluated, "
    "explained model out.\n\nStart with:  sensorium inspect train.csv --target label",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(f"sensorium {__version__}")
        raise typer.Exit


for _found in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
    if not _found.name.startswith("_"):
        _verb = import_module(f"{__name__}.{_found.name}")
        _settings, _kind = getattr(_verb, "SETTINGS", None), getattr(_verb, "COMMAND", None)
        app.command(_found.name, cls=_kind, context_settings=_settings)(heeding(_found.name, _verb.run))


def main() -> None:
    """The ``sensorium`` command: what the user can mend is said in a line or two, without a traceback."""

    def say(text: str) -> None:
        typer.secho(text, err=True)

    try:
        app()
    except SensoriumError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(2)
    except KeyboardInterrupt:
        end(None, say)
    except SystemExit as stop:
        # Outside a verb typer has already turned Ctrl-C into this exit, without a word.
        if stop.code != CODE:
            raise
        end(stop, say)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        # A full disk, a folder that may not be written: the user's to mend, whatever part met it.
        where = f"{error.filename}: " if error.filename is not None else ""
        typer.secho(f"error: {where}{error.strerror or error}", err=True, fg="red")
        sys.exit(2)
