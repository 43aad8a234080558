"""Type inference: the best score wins, ties are ordered, uninformative columns are ignored with a reason."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from sensorium.core import registry
from sensorium.core.errors import ConfigError
from sensorium.core.modality import Guess
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.tables.table import Table


def fake(name: str, task: str | None, score: Any) -> type:
    def sniff(cls: type, cells: Sequence[Any], column: str) -> Guess:
        cls.seen = list(cells)  # type: ignore[attr-defined]
        return Guess(score(cells), f"as {name}")

    return type(name, (), {"task": task, "sniff": classmethod(sniff)})


def share(test: Any) -> Any:
    return lambda cells: sum(map(test, cells)) / len(cells)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    kinds = {
        "text": fake("text", None, lambda cells: 0.3),
        "zeta": fake("zeta", None, lambda cells: 0.3),
        "number": fake("number", "regression", share(lambda c: str(c).lstrip("-").replace(".", "", 1).isdigit())),
        "image": fake("image", None, share(lambda c: str(c).endswith(".png"))),
    }
    monkeypatch.setattr(registry, "kinds", lambda family: tuple(sorted(kinds)))
    monkeypatch.setattr(registry, "find", lambda family, kind: kinds[kind])
    return kinds


def test_best_score_wins_with_alternatives(family: dict[str, type]) -> None:
    table = Table.read({"n": ["1.5", "2", "", None, "x"], "p": [f"{i}.png" for i in range(5)]})
    types = infer_types(table)
    assert types["n"].kind == "number"
    assert types["n"].score == pytest.approx(2 / 3)
    assert types["n"].reason == "as number"
    assert types["n"].alternatives == (("zeta", 0.3), ("text", 0.3))
    assert family["number"].seen == [f"{i}.png" for i in range(5)]  # type: ignore[attr-defined]
    assert types["p"].kind == "image"
    assert list(infer_types(table, names=["p"])) == ["p"]


def test_ties_are_ordered_and_missing_cells_skipped(family: dict[str, type]) -> None:
    types = infer_types(Table.read({"t": ["a b", "c d", "n/a", None, float("nan")]}))
    assert (types["t"].kind, types["t"].alternatives) == ("zeta", (("text", 0.3),))
    assert family["text"].seen == ["a b", "c d"]  # type: ignore[attr-defined]


def test_sample_is_fixed(family: dict[str, type]) -> None:
    table = Table.read({"t": [f"a {i}" for i in range(1000)]})
    infer_types(table, sample=50)
    first = family["text"].seen  # type: ignore[attr-defined]
    infer_types(table, sample=50)
    assert family["text"].seen == first  # type: ignore[attr-defined]
    assert len(first) == 50
    assert int(first[-1][2:]) - int(first[0][2:]) > 500


def test_targets(family: dict[str, type]) -> None:
    table = Table.read({"y": ["1", "1", "1"], "z": ["a.png", "b.png", "3"]})
    types = infer_types(table, targets=["y", "z"])
    assert (types["y"].kind, types["y"].role) == ("number", "target")
    assert types["z"].kind == "number"


def test_overrides(family: dict[str, type]) -> None:
    table = Table.read({"a": ["1", "1"], "b": ["1", "2"]})
    types = infer_types(table, overrides={"a": "text", "b": "ignore"})
    assert (types["a"].kind, types["a"].role, types["a"].reason) == ("text", "input", "as specified")
    assert types["b"].role == "ignore"


def test_unknown_override() -> None:
    with pytest.raises(ConfigError, match="imagge"):
        infer_types(Table.read({"a": ["1"]}), overrides={"a": "imagge"})


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("a", [None, ""]),
        ("a", ["x", "x", "x"]),
        ("id", [str(i * 7 % 31) for i in range(31)]),
        ("Patient ID", [f"P{i * 7 % 31}" for i in range(31)]),
        ("userId", list(range(100, 131))),
        ("Unnamed: 0", list(range(9))),
        ("编号", [f"A{i}" for i in range(30)]),
        ("x", list(range(1, 40))),
        ("x", [str(uuid.UUID(int=i * 977 + 2**127 + 10**20 * i)) for i in range(30)]),
    ],
)
def test_uninformative_columns_are_ignored(family: dict[str, type], name: str, cells: list[Any]) -> None:
    types = infer_types(Table.read({name: cells}))[name]
    assert types.role == "ignore"
    assert types.reason
    assert infer_types(Table.read({name: cells}), targets=[name])[name].role == "target"


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("a", ["x"]),
        ("a", ["x", "x", None]),
        ("id", ["1", "2", "2", "3", "4", "5"]),
        ("paid", [str(i) for i in range(5, 40)]),
        ("year", [str(i) for i in range(1990, 2020)]),
        ("price", [f"{i * 1.37:.2f}" for i in range(50)]),
        ("photo", [f"img{i}.png" for i in range(50)]),
        ("note", [f"said {i} times" for i in range(50)]),
        ("word", ["".join("abcdefgh"[int(d)] for d in f"{i:o}") for i in range(50)]),
    ],
)
def test_informative_columns_are_kept(family: dict[str, type], name: str, cells: list[Any]) -> None:
    assert infer_types(Table.read({name: cells}))[name].role == "input"


def test_unrecognised(family: dict[str, type]) -> None:
    del family["text"], family["zeta"]
    types = infer_types(Table.read({"a": [object(), object()]}))["a"]
    assert (types.kind, types.role) == ("", "ignore")


def test_real_number_and_category() -> None:
    table = Table.read({"age": [str(20 + i * 37 % 50) for i in range(60)], "colour": ["red", "blue", "green"] * 20})
    types = infer_types(table)
    assert (types["age"].kind, types["colour"].kind) == ("number", "category")
