"""Command line: one module per command, found by its name. Heavy modules are only imported when a command runs."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

import typer

from sensorium import __version__
from sensorium.cli._stopped import CODE, exit_interrupted, interruptible
from sensorium.core.errors import SensoriumError

app = typer.Typer(
    name="sensorium",
    help="Multimodal learning from one table: train, evaluate, explain and serve a model of images, text, sound, "
    "sensors and numbers.\n\nStart with:  sensorium inspect train.csv --target label",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(f"sensorium {__version__}")
        raise typer.Exit


for _module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
    if not _module.name.startswith("_"):
        _command = import_module(f"{__name__}.{_module.name}")
        _settings, _kind = getattr(_command, "SETTINGS", None), getattr(_command, "COMMAND", None)
        app.command(_module.name, cls=_kind, context_settings=_settings)(interruptible(_module.name, _command.run))


def main() -> None:
    """Run the ``sensorium`` command; errors that the user can fix are printed in a line or two, without a traceback."""

    def say(text: str) -> None:
        typer.secho(text, err=True)

    try:
        app()
    except SensoriumError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(2)
    except KeyboardInterrupt:
        exit_interrupted(None, say)
    except SystemExit as stop:
        # Outside a command typer has already turned Ctrl-C into this exit, without a message.
        if stop.code != CODE:
            raise
        exit_interrupted(stop, say)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        # A full disk or a folder without write permission: the user can fix it.
        where = f"{error.filename}: " if error.filename is not None else ""
        typer.secho(f"error: {where}{error.strerror or error}", err=True, fg="red")
        sys.exit(2)
