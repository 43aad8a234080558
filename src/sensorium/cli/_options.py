"""Command-line options that several commands share, and the parsers of their values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from typer.core import TyperCommand

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.recipe import Windows
from sensorium.data.inspection.column_groups import RESERVED_NAMES

QUOTES = "Put a name with special characters in double quotes"
"""The quoting rule of ``core.quoting``, as help texts state it."""

Train = Annotated[
    str | None, typer.Argument(help="The training table (.csv .tsv .jsonl .parquet); optional if the recipe names it.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help=f"Recipe values to override: model.fusion=gated training.epochs=20. {QUOTES}: 'columns.\"a.b\".kind=text'"
    ),
]
Target = Annotated[list[str] | None, typer.Option(help="The column to predict; may be repeated.")]
Task = Annotated[
    str | None,
    typer.Option(
        help="The kind of task [default: chosen by the target]; see `sensorium kinds tasks`. Its options: --name value."
    ),
]
Ignore = Annotated[
    list[str] | None, typer.Option(help=f"Columns to ignore: id,speaker; may be repeated. {QUOTES}: '\"a,b\",id'")
]
Group = Annotated[
    str | None, typer.Option(help="A column whose groups are never split between training and validation: patient")
]
As = Annotated[
    list[str] | None, typer.Option("--as", help="The kind of a column: photo=image, '\"a=b\"=text'; may be repeated.")
]
Weight = Annotated[str | None, typer.Option(help="A column of row weights.")]
Media = Annotated[Path | None, typer.Option(help="Folder that relative media paths start from [default: the table's].")]
RecipeFile = Annotated[Path | None, typer.Option(help="A YAML recipe; docs/recipe.md lists every key.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for decoded media [default: the user's cache].")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Maximum number of epochs [default: chosen by the data].")]
Lm = Annotated[
    Path | None,
    typer.Option("--lm", help="Folder of the language model that it was trained on [default: where the model names it]."),
]
Decode = Annotated[
    list[str] | None,
    typer.Option(
        "--decode",
        metavar="NAME=VALUE",
        help="An option of how answers are made, instead of that of training: beam=5, decode=sample; may be repeated.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output, which is an error otherwise.")]
Streams = Annotated[
    list[str] | None,
    typer.Option(
        "--streams",
        metavar="NAME=PATTERN",
        help="Group table columns into a stream: audio=audio_*; may be repeated. Also: `--stream NAME=PATTERN`.",
    ),
]
InitFrom = Annotated[
    Path | None, typer.Option("--init", help="A trained model whose encoders training starts from, from pretrain or fit.")
]
InitHow = Annotated[
    str | None, typer.Option(help="What happens to them: full (they learn on), slow (at a tenth of the rate) or frozen.")
]
InitMap = Annotated[
    list[str] | None,
    typer.Option("--map", help="A stream and the base's stream it starts from: photo=image [default: those of one name]."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and the result.")]

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
    "init",
    "init-how",
    "map",
)
"""Flags to suggest for a misspelt one."""
COLUMNS = ("prompt", "given")
"""Options of any task that name columns: its prompts, and the only columns that it reads."""
EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that also accepts the options of a task."""


def table_and_overrides(train: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """Move ``train`` to ``overrides`` if it is an override (``key=value``): the recipe then names the table."""
    if train is not None and "=" in train and not Path(train).exists():
        return None, [train, *(overrides or [])]
    return train, overrides or []


class GroupingCommand(TyperCommand):
    """A command in which ``--stream NAME=PATTERN`` groups columns even if ``--stream`` alone is a flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Rewrite ``--stream NAME=PATTERN`` in ``args`` to ``--streams NAME=PATTERN``; ``ctx`` is click's context."""
        words: list[str] = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            if name == "--stream" and equals:
                words += ["--streams", value]
            elif word == "--stream" and rest and _is_group(rest[0]):
                words += ["--streams", rest.pop(0)]
            else:
                words.append(word)
        return super().parse_args(ctx, words)


def _is_group(word: str) -> bool:
    """Return whether a word is NAME=PATTERN, not an override (training.epochs=20, seed=3), option or file."""
    if word.startswith('"'):
        return quoting.pair(word)[1] is not None
    name, equals, value = word.partition("=")
    override = "." in name or name in RESERVED_NAMES or value.startswith(("{", "["))
    return bool(equals) and not name.startswith("-") and not override


def column_name(text: str | None) -> str | None:
    """Return the column that the option value ``text`` names, without quotes."""
    return None if text is None else quoting.name(text)


def column_names(texts: list[str] | None) -> list[str] | None:
    """Return the columns that the values ``texts`` of a repeated option name, without quotes."""
    return None if texts is None else [quoting.name(text) for text in texts]


def stream_patterns(streams: list[str] | None) -> dict[str, list[str]]:
    """Parse the values ``streams`` of ``--stream audio=audio_*`` to the column patterns of each stream.

    Several patterns of a stream are separated by commas or given by repeating the option.

    Raises:
        ConfigError: A value is not NAME=PATTERN.
    """
    patterns_of: dict[str, list[str]] = {}
    for text in streams or []:
        name, patterns = quoting.pair(text)
        if not name or not split_names(patterns):
            raise ConfigError(
                f"--stream {text} is not NAME=PATTERN", fix="write --stream NAME=PATTERN, as in --stream audio=audio_*"
            )
        patterns_of.setdefault(name, []).extend(split_names(patterns))
    return patterns_of


def stream_map(texts: list[str] | None) -> dict[str, str] | None:
    """Parse the values ``texts`` of ``--map photo=image``: the base's stream by stream; None if there are none.

    Raises:
        ConfigError: A value is not OWN=BASE, or a stream is named twice.
    """
    pairs: dict[str, str] = {}
    for text in texts or []:
        own, of = quoting.pair(text)
        if not own or not of or own in pairs:
            reason = f"names {own} a second time" if own in pairs else "is not OWN=BASE"
            raise ConfigError(f"--map {text} {reason}", fix="write --map OWN=BASE, as in --map photo=image")
        pairs[own] = quoting.name(of)
    return pairs or None


def column_kinds(as_: list[str] | None, ignore: list[str] | None) -> dict[str, Any]:
    """Return the kinds of columns as a mapping, from the values ``as_`` of ``--as`` and ``ignore`` of ``--ignore``.

    Examples: ``--as photo=image``, ``--as 'when={kind: datetime, order: mdy}'``, ``--ignore id,speaker``.
    """
    return dict(column_kind(text) for text in as_ or []) | dict.fromkeys(split_names(ignore), "ignore")


def decoding(assignments: list[str] | None) -> dict[str, Any]:
    """Return the options in ``assignments`` of ``--decode``, such as ``beam=5``, by name; values are parsed as YAML.

    Raises:
        ConfigError: One is not name=value.
    """
    options = {}
    for text in assignments or []:
        name, _, value = text.partition("=")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{value!r} in {text!r} is not a YAML value") from None
        if not name or not value:
            raise ConfigError(f"--decode {text} is not name=value", fix="write --decode name=value, as in --decode beam=5")
    return options


def split_names(text: str | Sequence[str] | None) -> list[str]:
    """Split ``text``, or each of several, at the commas outside double quotes: ``id,"a,b"`` has two names."""
    return [name for part in ([text] if isinstance(text, str) else text or ()) for name in quoting.names(part)]


def column_kind(text: str) -> tuple[str, str | dict[str, Any]]:
    """Split ``text`` (``photo=image``) into a column and its kind; a kind with options is a YAML mapping.

    Raises:
        ConfigError: The text is not column=kind.
    """
    name, kind = quoting.pair(text)
    if kind is None or not name:
        raise ConfigError(f"--as {text} is not column=kind", fix="write --as column=kind, as in --as photo=image")
    if not kind.lstrip().startswith("{"):
        return name, kind
    try:
        spec = yaml.safe_load(kind)
    except yaml.YAMLError:
        spec = None
    if not isinstance(spec, dict) or not all(isinstance(key, str) for key in spec):
        raise ConfigError(f"--as {text} has no valid kind", fix="write --as 'column={kind: datetime, order: mdy}'")
    return name, spec


def named_choices(flag: str, texts: list[str] | None, example: str) -> list[tuple[str, str]]:
    """Split the values of a repeated option (``photo=convnet,resnet``) into names and choices.

    Args:
        flag: The option, for messages: ``--encoders``.
        texts: Its values.
        example: A correct value, for messages.

    Raises:
        ConfigError: A value is not NAME=CHOICES, or a name occurs twice.
    """
    choices: dict[str, str] = {}
    for text in texts or []:
        name, equals, rest = text.partition("=")
        if not equals or not name or not rest or name in choices:
            reason = f"names {name} a second time" if name in choices else "is not NAME=CHOICES"
            raise ConfigError(f"{flag} {text} {reason}", fix=f"write {flag} NAME=CHOICES, as in {flag} {example}")
        choices[name] = rest
    return list(choices.items())


def component_specs(text: str) -> str | list[str | dict[str, Any]]:
    """Parse ``text`` as YAML if it has options (``[convnet, {kind: vit, depth: 6}]``); return other text unchanged.

    Raises:
        ConfigError: The YAML is not a list of components.
    """
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        parsed = None
    specs = [parsed] if isinstance(parsed, dict) else parsed
    if not isinstance(specs, list) or not all(isinstance(spec, (str, dict)) for spec in specs):
        raise ConfigError(f"{text!r} is not a list of components", fix="write '[convnet, {kind: vit, depth: 6}]'")
    return specs


def duration_seconds(text: str) -> float:
    """Return a duration in seconds; ``text`` is ``90s``, ``10m``, ``1.5h`` or plain seconds.

    Raises:
        ConfigError: The text is not a positive duration.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{text!r} is not a duration", fix="write 90s, 10m or 1h")
    return value


def named_task(task: str | None, overrides: Sequence[str]) -> str | None:
    """Return the kind of task: ``task``, or the one that an option among ``overrides`` belongs to (``--lm FOLDER``)."""
    flags = {word[2:].partition("=")[0].replace("-", "_") for word in overrides if word.startswith("--")}
    if task is not None or not flags:
        return task
    from sensorium.core import registry

    return next((kind for kind in registry.kinds("tasks") if registry.find("tasks", kind).named_by in flags), None)


def task_options(
    task: str | None, overrides: Sequence[str], target: list[str] | None, flags: Sequence[str] = ()
) -> tuple[list[str], dict[str, Any], Any]:
    """Separate the options of a task, and its prompts, from recipe overrides.

    ``--between photo,caption`` is an option of the task retrieval; ``--time days --event died`` are the parts of the target
    of the task survival; ``--target "nose_*,tail_*"`` are columns of one target of the task keypoints;
    ``--prompt question`` is a prompt column of any task, ``--given label`` the only column that it reads; ``--same
    product`` is a prompt of the task retrieval.

    Args:
        task: The kind of task.
        overrides: The arguments of the command that no other option took.
        target: The values of ``--target``.
        flags: Further options of the command, suggested in place of a mistyped one.

    Returns:
        The remaining overrides, the options of the task, and the target: a mapping from part to column if the task has a
        target of several parts.

    Raises:
        ConfigError: An option belongs neither to the task nor to its target, or has no value.
    """
    from sensorium.core import registry

    together = task is not None and registry.find("tasks", task).gathers is not None
    target = [name for text in target or () for name in split_names(text)] if together else column_names(target)
    rest: list[str] = []
    task_flags: dict[str, str] = {}
    words = list(overrides)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            rest.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if not equals and (not words or words[0].startswith("--")):
            raise ConfigError(f"{word} has no value", fix=f"{word} VALUE")
        task_flags[name.replace("-", "_")] = value if equals else words.pop(0)
    if not task_flags:
        return rest, {}, target
    if task is None:
        name = next(iter(task_flags)).replace("_", "-")
        raise ConfigError(
            f"no such option: --{name}{nearest(name, (*FLAGS, *flags))}",
            fix="if it is an option of a task, add --task KIND",
        )
    task_class = registry.find("tasks", task)
    parts, prompted = task_class.parts, task_class.prompted
    known = dict(registry.options("tasks", task).model_fields)
    if task_class.on_windows(1, ()) is not None:
        known |= {name: field for name, field in Windows.model_fields.items() if name not in ("target", "ended")}
    prompts = {name: split_names(task_flags.pop(name)) for name in COLUMNS if name in task_flags}
    for name in task_flags:
        if name not in known and name not in parts and name not in prompted:
            near = nearest(name, [*known, *parts, *prompted, *COLUMNS, *FLAGS])
            raise ConfigError(
                f"task {task} has no option {name.replace('_', '-')!r}{near}", fix=f"sensorium kinds tasks {task}"
            )
    target_parts = {part: quoting.name(task_flags.pop(part)) for part in parts if part in task_flags}
    if target_parts and target:
        raise ConfigError(f"the target of task {task} is given by its parts: {', '.join(parts)}", fix="leave out --target")
    columns = ("time", "series") if task_class.on_windows(1, ()) is not None else ()
    options = {
        name: quoting.name(text) if name in prompted or name in columns else _value(text, str(known[name].annotation))
        for name, text in task_flags.items()
    }
    return rest, prompts | options, target_parts or target


def _value(text: str, kind: str) -> Any:
    """Parse an option value as YAML; an option that takes a list is split at commas."""
    if "list" in kind or "Sequence" in kind or "tuple" in kind:
        return [part.text if part.quoted else yaml.safe_load(part.text) for part in quoting.pieces(text)]
    if kind in ("<class 'str'>", "str | None"):
        return None if text in ("null", "~", "") else text  # a class may be called 1 or yes
    return yaml.safe_load(text)
