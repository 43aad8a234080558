"""Every option of the command line that names columns can name any."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from sensorium.core import quoting

NAMES = ("a,b", "a.b", "a=b", "a:b", "my col", 'say "hi"', '"whole"', "年龄", "-x", "[0]", "{a: b}", "--target", "a*")


@pytest.fixture
def awkward(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, "a", "ab", "y"])
        writer.writerows(
            [[i * (j + 1) % 17 + 0.5 for j in range(len(NAMES) + 2)] + [["no", "yes"][i % 2]] for i in range(60)]
        )
    return path


def inspected(cli: Any, table: Path, *words: str) -> dict[str, Any]:
    out = table.parent / "found.json"
    code, _, stderr = cli("inspect", table, "--json", out, *words)
    assert code == 0, stderr
    return {column["name"]: column for column in json.loads(out.read_text(encoding="utf-8"))["columns"]}


@pytest.mark.parametrize("name", NAMES)
def test_inspect_is_told_of_any_column(cli: Any, awkward: Path, name: str) -> None:
    words = shlex.split(f"{quoting.as_kind(name, 'category')} {quoting.target('y')}")
    result = inspected(cli, awkward, *words)
    assert {n for n, column in result.items() if column["kind"] == "category"} == {name, "y"}
    result = inspected(cli, awkward, *shlex.split(f"{quoting.ignoring([name, 'ab'])} {quoting.target('y')}"))
    assert {n for n, column in result.items() if column["role"] == "ignore"} == {name, "ab"}
    result = inspected(cli, awkward, *shlex.split(quoting.target(name)))
    assert [n for n, column in result.items() if column["role"] == "target"] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_fit_is_told_of_any_column(cli: Any, awkward: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}

    class Done(Exception):  # noqa: N818
        pass

    def fit(train: str, **arguments: Any) -> None:
        options.update(arguments)
        raise Done

    monkeypatch.setattr("sensorium.training.fit.fit", fit)
    alone, listed = quoting.written(name, ""), quoting.written(name, ",")
    words = [
        f"--target={alone}",
        f"--group={alone}",
        f"--weight={alone}",
        f"--stream={quoting.written(name, '=')}={listed},ab",
    ]
    with pytest.raises(Done):
        cli("fit", awkward, *words)
    assert options["target"] == [name]
    assert options["group"] == options["weight"] == name
    assert options["streams"] == {name: [name, "ab"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_learns_from_a_column_of_any_name(awkward: Path, name: str) -> None:
    from sensorium.data.tables.table import Table
    from sensorium.training.column_declaration import declare
    from sensorium.training.training_request import Request

    (word,) = shlex.split(quoting.assigned(["columns", name], "{kind: category, stream: own}"))
    request = Request.of(awkward, target="y", overrides=[word])
    schema = declare(Table.read(awkward), request.plan, request.targets, request.roles).schema
    assert [column.name for column in schema.streams["own"]] == [name]


def test_help_tells_the_rule(cli: Any) -> None:
    for verb in ("fit", "compare", "inspect"):
        _, stdout, _ = cli(verb, "--help")
        assert "double quotes" in " ".join(stdout.replace("│", " ").split())
