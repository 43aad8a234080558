"""The house keeps its plan: who may import whom, which library may enter which room, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_type_hints

import pytest

import sensorium
from sensorium.core.registry import FAMILIES, find, kinds, options

SOURCE = Path(sensorium.__file__).parent
LAYERS = {
    "core": 1,
    **dict.fromkeys(("nn", "metrics", "signal", "language", "data"), 2),
    **dict.fromkeys(("heads", "codecs", "pretrained"), 3),
    **dict.fromkeys(FAMILIES, 4),
    "model": 5,
    "artifact": 6,
    "predictor": 7,
    **dict.fromkeys(("evaluation", "retrieval", "sampling"), 8),
    "reporting": 9,
    **dict.fromkeys(("trained", "streaming"), 10),
    **dict.fromkeys(("training", "batch_prediction", "serve"), 11),
    **dict.fromkeys(("cli", "testing"), 12),
    "__main__": 13,
}
ROOMS = {
    "lightning": {"training"},
    "torchmetrics": {"tasks", "evaluation", "training", "metrics"},
    "pandas": {"data", "modalities"},
    "pyarrow": {"data", "modalities", "codecs"},
    "PIL": {"modalities", "data", "codecs", "reporting", "testing"},
    "soundfile": {"modalities", "data", "codecs", "reporting", "testing"},
    "soxr": {"modalities", "data", "signal"},
    "tokenizers": {"language", "pretrained", "testing"},
    "tensorboard": {"training"},
    "typer": {"cli"},
    "rich": {"cli", "reporting"},
    "jinja2": {"reporting"},
    "markupsafe": {"reporting"},
    "yaml": {"core", "cli", "artifact"},
    "pydantic": {"core"},
    "annotated_types": {"core"},  # pydantic's own vocabulary of limits
    "safetensors": {"artifact", "training", "data", "pretrained", "testing"},
    "sklearn": {"language", "nn", "heads", "tasks", "evaluation", "training", "experts"},
    "scipy": {"signal", "nn", "metrics", "evaluation", "experts", "training", "testing"},
    "threadpoolctl": {"training"},
    "gensim": {"language", "encoders"},
    "jieba": {"language"},
    "jiwer": {"metrics"},
    "sacrebleu": {"metrics"},
    "textblob": {"language"},
    "av": {"codecs"},
    "pydicom": {"codecs"},
    "nibabel": {"codecs"},
    "openpyxl": {"data"},
    "rdkit": {"codecs", "modalities"},
    "transformers": {"encoders", "fusions", "pretrained", "modalities", "testing"},
    "captum": {"explainers"},
    "optuna": {"training"},
    "faiss": {"retrieval"},
    "fastapi": {"serve"},
    "starlette": {"serve"},  # what FastAPI is made of
    "uvicorn": {"serve"},
    "python_multipart": {"serve"},
    "prometheus_client": {"serve"},
    "websockets": {"streaming"},
    "sounddevice": {"streaming"},
    "numpy": {"*"},
    "torch": {"*"},
}
LIGHT = ("core.errors", "core.layout", "core.modality", "core.registry", "core.recipe", "core.schema")


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below ``sensorium``; the package itself is ``""``."""
    results = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        results[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return results


MODULES = modules()


def imports(path: Path, *, typing: bool = True) -> Iterator[str]:
    """Dotted names a file imports anywhere in it; with ``typing=False``, not those for the type checker alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not typing and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {inner for child in node.body for inner in ast.walk(child)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("sensorium.") in MODULES else str(node.module)


def ours(path: Path, *, typing: bool = True) -> set[str]:
    """The modules of the package that a file imports, by their names below ``sensorium``."""
    return {
        name.removeprefix("sensorium").removeprefix(".")
        for name in imports(path, typing=typing)
        if name.partition(".")[0] == "sensorium"
    }


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_point_down(name: str) -> None:
    room = name.partition(".")[0]
    assert room in LAYERS, f"{room} has no layer: give it one in LAYERS"
    for other in ours(MODULES[name]) - {""}:
        available = other.partition(".")[0]
        if available == room:
            alone = room in FAMILIES
            assert not alone or other == room, f"{name} imports its sibling {other}: move what they share to nn or core"
            continue
        assert LAYERS[available] < LAYERS[room], f"{name} imports {other}, which is not below it"


KINDS_AT_HOME = {"classification", "multilabel", "ordinal", "regression", "svm"}


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.partition(".")[0] not in ("tasks", "testing", "modalities")]
)
def test_no_task_is_known_by_its_class(name: str) -> None:
    """A new task edits nothing: outside its own folder no code asks what a task is, by class or by name."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert not [other for other in ours(MODULES[name]) if other.startswith("tasks.")], f"{name} imports a task"
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            named = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
            assert not named & KINDS_AT_HOME, f"{name}:{node.lineno} asks for the task {named & KINDS_AT_HOME}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            requested = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            assert "classes" not in requested, (
                f"{name}:{node.lineno} asks whether something has classes: ask for its labels"
            )


def test_no_import_cycles_even_for_the_type_checker() -> None:
    TopologicalSorter({name: ours(path) - {name} for name, path in MODULES.items() if name}).prepare()


@pytest.mark.parametrize("name", list(MODULES))
def test_libraries_stay_in_their_rooms(name: str) -> None:
    room = name.partition(".")[0]
    for whole in imports(MODULES[name], typing=False):
        library = whole.partition(".")[0]
        if library == "sensorium" or library in sys.stdlib_module_names:
            continue
        assert library in ROOMS, f"{name} imports {library}: declare where it may be used in ROOMS, and why in the docs"
        assert ROOMS[library] & {room, "*"}, f"{name} imports {library}, which belongs in {sorted(ROOMS[library])}"


def test_no_file_grows_too_long() -> None:
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long, f"files no one can hold in the head: {long}"


def test_looking_at_a_table_loads_no_torch() -> None:
    light = [*LIGHT, *(name for name in MODULES if name.partition(".")[0] in ("data", "modalities", "language"))]
    program = f"""
import sys
import sensorium
from importlib import import_module
from sensorium.core.registry import FAMILIES, describe, find, kinds, options
for family in FAMILIES:
    for kind in kinds(family):
        describe(family, kind)
for name in {[name for name in light if name in MODULES]!r}:
    import_module("sensorium." + name)
    heavy = {{"torch", "lightning", "torchmetrics", "pandas", "pyarrow", "typer"}} & set(sys.modules)
    assert not heavy, f"{{name}} loads {{heavy}}"
for kind in kinds("modalities"):
    options("modalities", kind)
assert "torch" not in sys.modules, "the options of modalities load torch"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_every_option_has_a_type_that_resolves(family: str) -> None:
    for kind in kinds(family):
        hints = get_type_hints(find(family, kind).__init__)
        for name, field in options(family, kind).model_fields.items():
            assert name in hints, f"{family}/{kind}: option {name!r} has no type"
            assert not field.is_required(), f"{family}/{kind}: option {name!r} has no default"
