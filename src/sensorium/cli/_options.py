"""What several commands ask for, said once: the options of a training table, its columns and its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from typer.core import TyperCommand

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, nearest
from sensorium.data.inspection.column_groups import SAID

QUOTES = "A name that would be taken apart stands in double quotes"
"""The rule for names on the command line (``core.quoting``), as help texts begin it."""

Train = Annotated[
    str | None, typer.Argument(help="The training table: .csv .tsv .jsonl .parquet. May stand in the recipe.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help=f"Anything in a recipe: model.fusion=gated training.epochs=20. {QUOTES}: 'columns.\"a.b\".kind=text'"
    ),
]
Target = Annotated[list[str] | None, typer.Option(help="The column to predict; may be given again.")]
Task = Annotated[
    str | None,
    typer.Option(
        help="The kind of task [default: by the target]; `sensorium kinds tasks`. Its options follow: --name value."
    ),
]
Ignore = Annotated[str | None, typer.Option(help=f"Columns not to use: id,speaker. {QUOTES}: '\"a,b\",id'")]
Group = Annotated[str | None, typer.Option(help="A column whose groups must not be split apart: patient")]
As = Annotated[
    list[str] | None, typer.Option("--as", help="What a column is: photo=image, '\"a=b\"=text'; may be repeated.")
]
Weight = Annotated[str | None, typer.Option(help="A column of row weights.")]
Media = Annotated[Path | None, typer.Option(help="Folder of relative media paths [default: the table's].")]
RecipeFile = Annotated[Path | None, typer.Option(help="A YAML recipe; docs/recipe.md has every key.")]
Cache = Annotated[Path | None, typer.Option(help="Where decoded media are kept [default: the user's cache].")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the training rows, at most [default: by the data].")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already, else refused.")]
Streams = Annotated[
    list[str] | None,
    typer.Option(
        "--streams",
        metavar="NAME=PATTERN",
        help="Table columns as a stream of their own: audio=audio_*; may be repeated. Or `--stream NAME=PATTERN`.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and the result.")]

FLAGS = (
    "target",
    "task",
    "ignore",
    "group",
    "as",
    "stream",
    "streams",
    "weight",
    "media",
    "recipe",
    "cache",
    "quiet",
    "seed",
    "out",
    "overwrite",
    "resume",
    "epochs",
)
"""For a hint, where a flag is misspelt."""
EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that takes the options of a task as its own."""


def moved(train: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """An override in the place of the table is one all the same: the table then stands in the recipe."""
    if train is not None and "=" in train and not Path(train).exists():
        return None, [train, *(overrides or [])]
    return train, overrides or []


class Grouping(TyperCommand):
    """A command whose ``--stream NAME=PATTERN`` groups columns, also where ``--stream`` alone is a flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words: list[str] = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            if name == "--stream" and equals:
                words += ["--streams", value]
            elif word == "--stream" and rest and _group(rest[0]):
                words += ["--streams", rest.pop(0)]
            else:
                words.append(word)
        return super().parse_args(ctx, words)


def _group(word: str) -> bool:
    """Whether a word is NAME=PATTERN and no override (training.epochs=20, seed=3), option or file."""
    if word.startswith('"'):
        return quoting.pair(word)[1] is not None
    name, equals, value = word.partition("=")
    override = "." in name or name in SAID or value.startswith(("{", "["))
    return bool(equals) and not name.startswith("-") and not override


def one(text: str | None) -> str | None:
    """The column that an option names."""
    return None if text is None else quoting.name(text)


def each(texts: list[str] | None) -> list[str] | None:
    """The columns that a repeated option names, one each."""
    return None if texts is None else [quoting.name(text) for text in texts]


def streams_told(streams: list[str] | None) -> dict[str, list[str]]:
    """``--stream audio=audio_*`` as a mapping; several patterns by commas or by repeating it."""
    found: dict[str, list[str]] = {}
    for text in streams or []:
        name, patterns = quoting.pair(text)
        if not name or not names(patterns):
            raise ConfigError(f"--stream {text}", fix="write --stream NAME=PATTERN, as in --stream audio=audio_*")
        found.setdefault(name, []).extend(names(patterns))
    return found


def columns_told(as_: list[str] | None, ignore: str | None) -> dict[str, Any]:
    """``--as photo=image``, ``--as 'when={kind: datetime, order: mdy}'`` and ``--ignore id,speaker`` as one mapping."""
    return dict(pair(text) for text in as_ or []) | dict.fromkeys(names(ignore), "ignore")


def names(text: str | None) -> list[str]:
    """``id,"a,b"`` as a list."""
    return quoting.names(text)


def pair(text: str) -> tuple[str, str | dict[str, Any]]:
    """``photo=image`` as two; a kind with options is YAML."""
    name, kind = quoting.pair(text)
    if kind is None or not name:
        raise ConfigError(f"--as {text}", fix="write --as column=kind, as in --as photo=image")
    if not kind.lstrip().startswith("{"):
        return name, kind
    try:
        spec = yaml.safe_load(kind)
    except yaml.YAMLError:
        spec = None
    if not isinstance(spec, dict) or not all(isinstance(key, str) for key in spec):
        raise ConfigError(f"--as {text}", fix="write --as 'column={kind: datetime, order: mdy}'")
    return name, spec


def by_name(flag: str, texts: list[str] | None, example: str) -> list[tuple[str, str]]:
    """``photo=convnet,resnet`` as a name and the rest, for an option that may be repeated."""
    found: dict[str, str] = {}
    for text in texts or []:
        name, equals, rest = text.partition("=")
        if not equals or not name or not rest or name in found:
            twice = f": {name} is named twice" if name in found else ""
            raise ConfigError(f"{flag} {text}{twice}", fix=f"write {flag} NAME=CHOICES, as in {flag} {example}")
        found[name] = rest
    return list(found.items())


def specs(text: str) -> str | list[str | dict[str, Any]]:
    """``convnet,resnet`` as it is; ``[convnet, {kind: vit, depth: 6}]``, with options, is YAML."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    every = [found] if isinstance(found, dict) else found
    if not isinstance(every, list) or not all(isinstance(spec, (str, dict)) for spec in every):
        raise ConfigError(f"{text!r} is no list of parts", fix="write '[convnet, {kind: vit, depth: 6}]'")
    return every


def seconds(text: str) -> float:
    """``90s``, ``10m``, ``1.5h`` or plain seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{text!r} is not a time", fix="write 90s, 10m or 1h")
    return value


def task_options(
    task: str | None, overrides: Sequence[str], target: list[str] | None
) -> tuple[list[str], dict[str, Any], Any]:
    """Overrides without the options of the task among them; those options; and the target, by part where it has several.

    ``--between photo,caption`` is an option of the task retrieval, ``--time days --event died`` are the parts of the target
    of the task survival. Raises ``ConfigError`` for what is neither.
    """
    from sensorium.core import registry

    target = each(target)
    rest: list[str] = []
    given: dict[str, str] = {}
    words = list(overrides)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            rest.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if not equals and (not words or words[0].startswith("--")):
            raise ConfigError(f"{word} has no value", fix=f"{word} VALUE")
        given[name.replace("-", "_")] = value if equals else words.pop(0)
    if not given:
        return rest, {}, target
    if task is None:
        name = next(iter(given)).replace("_", "-")
        raise ConfigError(f"no such option: --{name}{nearest(name, FLAGS)}", fix="options of a task need --task KIND")
    parts = registry.find("tasks", task).parts
    known = registry.options("tasks", task).model_fields
    for name in given:
        if name not in known and name not in parts:
            near = nearest(name, [*known, *parts, *FLAGS])
            raise ConfigError(
                f"task {task} has no option {name.replace('_', '-')!r}{near}", fix=f"sensorium kinds tasks {task}"
            )
    found = {part: quoting.name(given.pop(part)) for part in parts if part in given}
    if found and target:
        raise ConfigError(f"the target of {task} is named by its parts: {', '.join(parts)}", fix="leave out --target")
    options = {name: _value(text, str(known[name].annotation)) for name, text in given.items()}
    return rest, options, found or target


def _value(text: str, kind: str) -> Any:
    """A value as YAML; a list by commas where the option is one."""
    if "list" in kind or "Sequence" in kind or "tuple" in kind:
        return [part.text if part.quoted else yaml.safe_load(part.text) for part in quoting.pieces(text)]
    return yaml.safe_load(text)
