"""Groups of columns by patterns of their names."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from sensorium.core.errors import ConfigError
from sensorium.data.inspection.column_groups import groups, hints, matches, proposals
from sensorium.data.inspection.inspect import inspect
from sensorium.data.tables.table import Table

NAMES = ["audio_1", "audio_2", "audio", "x[1]", "x1", "a.b", "label"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("audio_*", ["audio_1", "audio_2"]),
        ("audio*", ["audio_1", "audio_2", "audio"]),
        ("audio_?", ["audio_1", "audio_2"]),
        ("audio", ["audio"]),
        ("x[1]", ["x[1]"]),  # brackets and dots stand for themselves
        ("x[*]", ["x[1]"]),
        ("a.?", ["a.b"]),
        ("a?b", ["a.b"]),
        ("udio", []),
        ("*", NAMES),
    ],
)
def test_a_pattern_stands_for_names(pattern: str, found: list[str]) -> None:
    assert matches(pattern, NAMES) == found


def test_a_column_named_like_a_pattern_is_that_column() -> None:
    assert matches("a*", ["ab", "a*"]) == ["a*"]


def test_columns_go_to_their_groups_and_those_that_are_no_input_are_passed_over() -> None:
    found = groups({"sound": ["audio_*", "audio"], "rest": "x*"}, NAMES, [n for n in NAMES if n not in ("label", "x1")])
    assert found == {"audio_1": "sound", "audio_2": "sound", "audio": "sound", "x[1]": "rest"}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"a": "adio_*"}, r"no column is named like 'adio_\*'.*did you mean"),
        ({"a": "lab*"}, "none is an input"),
        ({"a": []}, "names no column"),
        ({"a": "audio*", "b": ["x1", "audio_2"]}, "column 'audio_2': is in two groups, 'a' and 'b'"),
    ],
)
def test_wrong_groups(patterns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        groups(patterns, NAMES, [n for n in NAMES if n != "label"])


def test_what_names_suggest() -> None:
    names = [*(f"audio_{i}" for i in range(5)), *(f"px{i}" for i in range(9)), "age", "px", "note"]
    cells = [name for name in names if name != "note"]
    # px* would take the column px too.
    assert proposals(cells, names) == {"audio": "audio_*"}
    assert proposals(cells, [n for n in names if n != "px"]) == {"audio": "audio_*", "px": "px*"}


def test_nothing_is_suggested_where_nothing_is_gained() -> None:
    assert proposals([f"gene_{i}" for i in range(50)], [f"gene_{i}" for i in range(50)]) == {}
    assert proposals(["a_1", "a_2", "b"], ["a_1", "a_2", "b"]) == {}
    many = [f"{letter}_{i}" for letter in "abcdefghijklmnop" for i in range(5)]
    assert proposals(many, many) == {}


def test_what_is_suggested_can_be_pasted() -> None:
    from sensorium.cli._options import stream_patterns

    names = [*(f"my sound_{i}" for i in range(5)), *(f"face.{i}" for i in range(5))]
    (hint,) = hints(names, names, {})
    words = shlex.split(hint[hint.index("--stream") :])
    told = stream_patterns(words[1::2])
    assert set(groups(told, names, names).values()) == {"my", "face"}
    assert set(groups(told, names, names)) == set(names)
    assert hints(names, names, {"face.0": {"stream": "face"}}) == []


def test_inspect_proposes_groups() -> None:
    columns = {f"{s}_{i}": [float((i + 1) * r % 7) + r / 9 for r in range(12)] for s in ("eye", "hand") for i in range(4)}
    found = inspect({"t": Table({**columns, "label": list("ab") * 6})}, target="label")
    (hint,) = found.hints
    assert "--stream 'eye=eye_*' --stream 'hand=hand_*'" in hint
    assert found.to_json()["hints"] == [hint]
    assert hint in found.text()


def test_names_that_cannot_be_said_are_not_suggested() -> None:
    for start in ("table", "seed"):
        names = [*(f"{start}_{i}" for i in range(6)), "age"]
        assert proposals(names, names) == {}, start


def test_thousands_of_beginnings_are_not_gone_through() -> None:
    names = [f"p{i}x_{k}" for i in range(4000) for k in range(5)]
    assert hints(names, names, {}) == []
