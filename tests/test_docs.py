"""What the documents say is so: their Python runs, their commands and links exist, their reference pages are current."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sensorium import testing
from sensorium.cli import _options, app
from sensorium.core import registry
from sensorium.core.recipe import Recipe, Windows

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


RUNNABLE = [
    pytest.param(page, i, id=f"{page.stem}-{i}")
    for page in PAGES
    if page.stem != "extending"  # its blocks are files of a plug-in: below
    for i in range(len(blocks(page, "python")))
]


@pytest.mark.parametrize(("page", "at"), RUNNABLE)
def test_python_runs(page: Path, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "block.py"
    file.write_text(blocks(page, "python")[at], encoding="utf-8")
    runpy.run_path(str(file))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Makes a file a plug-in for as long as the test lasts, with what pip would write for it."""
    caches: Any = (registry._plugins, registry.kinds, registry.find, registry.options)

    def forget() -> None:
        for cached in caches:
            cached.cache_clear()

    def install(family: str, kind: str, text: str) -> None:
        (tmp_path / f"{kind}.py").write_text(text, encoding="utf-8")
        info = tmp_path / f"plugin_{kind}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{kind}\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[sensorium.{family}]\n{kind} = {kind}:{kind.capitalize()}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        forget()

    yield install
    forget()
    for kind in ("peak", "strip"):
        sys.modules.pop(kind, None)


def test_the_fusion_of_extending_is_one(installed: Callable[[str, str, str], None]) -> None:
    text = blocks(ROOT / "docs" / "extending.md", "python")[0]
    assert text == (ROOT / "examples" / "plugin" / "peak.py").read_text(encoding="utf-8")
    installed("fusions", "peak", text)
    testing.check_fusion("peak")
    testing.check_options("fusions", "peak")


def test_the_encoder_of_extending_is_one(installed: Callable[[str, str, str], None]) -> None:
    installed("encoders", "strip", blocks(ROOT / "docs" / "extending.md", "python")[1])
    testing.check_encoder("strip")
    testing.check_options("encoders", "strip")


def test_recipes_in_documents_are_recipes() -> None:
    texts = [text for page in ("recipe", "kinds") for text in blocks(ROOT / "docs" / f"{page}.md", "yaml")]
    assert texts
    for text in texts:
        Recipe.parse(yaml.safe_load(text))


def test_reference_is_current() -> None:
    pages: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    available = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")}
    stale = sorted(name for name in {*pages, *available} if pages.get(name) != available.get(name))
    assert not stale, f"docs/reference is not what the code says ({', '.join(stale)}): run make docs"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every ``sensorium ...`` in a block or in code of a document: where, and its words."""
    for page in [*PAGES, *sorted((ROOT / "recipes").glob("*.yaml"))]:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"(?:^[#\s]*|`)(sensorium [a-z][^`\n]*)", text, re.MULTILINE):
            yield page.name, line.split()


def _windows(task: Any) -> Iterable[str]:
    """The options of windows of a long table, where a task learns from them."""
    return () if task.on_windows(1, ()) is None else Windows.model_fields


def test_commands_exist() -> None:
    group: Any = typer.main.get_command(app)
    result = list(commands())
    assert len(result) > 15
    for page, words in result:
        assert words[1] in group.commands, f"{page}: no command in {' '.join(words)!r}"
        known = {flag for parameter in group.commands[words[1]].params for flag in parameter.opts}
        implied = _options.named_task(None, [w for w in words if w == "--lm"]) if words[1] == "fit" else None
        if "--task" in words or implied:  # the options of a task stand beside those of the command
            kind = implied or words[words.index("--task") + 1]
            own = registry.options("tasks", kind).model_fields if kind in registry.kinds("tasks") else {}
            found_task = registry.find("tasks", kind) if kind in registry.kinds("tasks") else None
            named = () if found_task is None else (*found_task.parts, *found_task.prompted, *_windows(found_task))
            known |= {f"--{name.replace('_', '-')}" for name in (*own, *named, *_options.COLUMNS)}
        if words[1] == "search":  # a query is a cell of any column of the model
            known |= {"--photo", "--question"}
        for flag in re.findall(r"--[a-z-]+", " ".join(words)):
            assert flag in known, f"{page}: no option {flag} in {' '.join(words)!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            assert (page.parent / link).exists(), f"{page.name}: {link} is not there"


def test_readme_names_every_component() -> None:
    (tree,) = [text for text in blocks(ROOT / "README.md", "") if "src/sensorium/" in text]
    listed: dict[str, list[str]] = {}
    for line in tree.splitlines():
        if line.startswith(" " * 8):  # continues the line before
            listed[next(reversed(listed))] += line.split()
        elif line.startswith("  "):
            name, *words = line.split()
            listed[name] = words
    for family in registry.FAMILIES:
        assert set(listed[f"{family}/"]) == set(registry.kinds(family)), f"README: {family}"
