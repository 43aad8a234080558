"""Writes ``docs/reference``: every key of a recipe, every component, every command, from the code itself.

``python docs/generate.py`` writes. With ``--check`` it only says whether the pages are current; with ``--demo`` it also
runs the demo and puts what that says into the README.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel

from sensorium.cli import app
from sensorium.core import registry
from sensorium.core.recipe import Recipe, Spec

HERE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code: change the code, then run `make docs`. -->\n\n"
INTRO = """What is left out (`null`) is chosen from the data; [recipe.md](../recipe.md) says how. A *component* is a name,
as in `gated`, or a name with options, as in `{kind: gated, temperature: 2}`.
"""
FAMILIES = {
    "modalities": "What a cell may be. Named under `columns` of a recipe, or with `--as column=kind`.",
    "encoders": "What turns one stream into tokens. Named under `model.encoders.<stream>`.",
    "adapters": "What brings an encoder's width to the model's. Named under `model.adapters.<stream>`.",
    "fusions": "What makes one encoding of several streams. Named under `model.fusion`.",
    "tasks": "What answers: head, loss, metrics, decoding. Named under `model.tasks.<target>`.",
    "objectives": "What training minimises. Listed under `objectives`.",
    "surgery": "What is changed in a whole model before it is trained. Listed under `model.surgery`.",
    "features": "What is read off a stream without a network. Named under `model.features.<stream>`.",
    "experts": "What answers beside the network, fitted in one go. Listed under `model.experts`.",
    "explainers": "What says where in a stream an answer comes from. Named after `sensorium explain --explainer`.",
}


def pages() -> dict[str, str]:
    """The text of every page by its file name."""
    results = {f"{family}.md": NOTE + _family(family, text) for family, text in FAMILIES.items()}
    return {"recipe.md": NOTE + _recipe(), "commands.md": NOTE + _commands(), **results}


NAMES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}


# ── recipe ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _recipe() -> str:
    parts = ["# Every key of a recipe\n", INTRO]
    parts += _section(Recipe, "")
    return "\n".join(parts) + "\n"


def _section(model: type[BaseModel], path: str) -> list[str]:
    rows, inner = ["| key | type | default | what it is |", "|---|---|---|---|"], []
    for name, field in model.model_fields.items():
        kind = field.annotation
        # A section may be left out: ``Init | None``.
        section = next((part for part in (kind, *get_args(kind)) if isinstance(part, type)), None)
        if section is not None and issubclass(section, BaseModel):
            inner += [f"\n## `{path}{name}`\n", f"{(section.__doc__ or '').splitlines()[0]}\n"]
            inner += _section(section, f"{path}{name}.")
            continue
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        limits = ", ".join(_limit(item) for item in field.metadata)
        rows.append(
            f"| `{path}{name}` | {_type(kind)} | {default} | {field.description or ''}{f' ({limits})' if limits else ''} |"
        )
    return [*(rows if len(rows) > 2 else []), *inner]


def _limit(item: Any) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return ", ".join(f"{sign} {getattr(item, name)}" for name, sign in signs.items() if hasattr(item, name))


def _type(kind: Any) -> str:
    if kind == Spec:
        return "component"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (dict, list):
        return f"{'mapping to' if get_origin(kind) is dict else 'list of'} {_type(get_args(kind)[-1])}"
    # The parts of ``component or none`` come flat, so that its name and its mapping stand for it together.
    parts = [part for part in get_args(kind) or (kind,) if part is not type(None)]
    parts = [Spec] if set(get_args(Spec)) <= set(parts) else parts
    notes = [_type(part) if part == Spec or get_origin(part) else NAMES[part] for part in parts]
    return " or ".join([*notes, "none"] if type(None) in get_args(kind) else notes)


# ── components ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _family(family: str, text: str) -> str:
    parts = [f"# {family.capitalize()}\n", f"{text}\n"]
    for kind in registry.kinds(family):
        result = registry.describe(family, kind)
        parts.append(f"## {kind}\n\n{_marked(result.text)}\n")
        if result.options:
            parts += ["| option | type | default | what it does |", "|---|---|---|---|"]
            parts += [
                f"| `{o.name}` | {_bar(o.type)} | `{o.default}` | {_bar(o.text, code=False)} |" for o in result.options
            ]
            parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _bar(text: str, *, code: bool = True) -> str:
    text = text.replace("|", "\\|")
    return f"`{text}`" if code else _marked(text)


def _marked(text: str) -> str:
    """Docstrings write code as ``code``, Markdown as `code`."""
    return text.replace("``", "`")


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _commands() -> str:
    parts = ["# Commands\n", "`sensorium COMMAND --help` says the same at the terminal.\n"]
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        parts.append(f"## sensorium {name}\n\n{_dedent(command.help)}\n")
        rows = []
        for parameter in command.params:
            if "--help" in parameter.opts:
                continue
            argument = parameter.param_type_name == "argument"
            shown = str(parameter.name).upper() if argument else _flags(parameter)
            default = parameter.default
            notes = "" if default is None or isinstance(default, bool) or callable(default) else f" [default: {default}]"
            notes = "" if "[default" in (parameter.help or "") else notes
            rows.append(f"| `{shown}` | {_bar((parameter.help or '') + notes, code=False)} |")
        parts += ["| argument or option | |", "|---|---|", *rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def _flags(parameter: Any) -> str:
    return " ".join(
        sorted([*parameter.opts, *parameter.secondary_opts], key=lambda flag: (-len(flag.split("-no-")[0]), flag))
    )


def _dedent(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").strip().splitlines()]
    return "\n".join(f"`{line[9:]}`" if line.startswith("Example: ") else line for line in lines)


def write_demo(readme: Path) -> None:
    """What ``sensorium demo`` prints, between the marks in the README."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sensorium", "demo"]
        output = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    before, start, rest = readme.read_text(encoding="utf-8").partition("<!-- demo -->")
    _, end, after = rest.partition("<!-- /demo -->")
    readme.write_text(f"{before}{start}\n```\n{output.strip()}\n```\n{end}{after}", encoding="utf-8")


def main() -> int:
    wanted = pages()
    stale = [n for n, text in wanted.items() if not (HERE / n).is_file() or (HERE / n).read_text(encoding="utf-8") != text]
    stale += [path.name for path in HERE.glob("*.md") if path.name not in wanted]
    if "--check" in sys.argv:
        print(f"not current: {', '.join(sorted(stale))}: run make docs" if stale else "docs/reference is current")
        return bool(stale)
    HERE.mkdir(exist_ok=True)
    for name in stale:
        if name in wanted:
            (HERE / name).write_text(wanted[name], encoding="utf-8")
        else:
            (HERE / name).unlink()
    print(f"{len(stale)} pages written")
    if "--demo" in sys.argv:
        write_demo(HERE.parents[1] / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
