"""Column groups by name patterns."""

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
    ("pattern", "results"),
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
def test_patterns_match_names(pattern: str, results: list[str]) -> None:
    assert matches(pattern, NAMES) == results


def test_exact_name_takes_precedence_over_pattern() -> None:
    assert matches("a*", ["ab", "a*"]) == ["a*"]


def test_columns_join_groups_and_non_inputs_are_skipped() -> None:
    results = groups({"sound": ["audio_*", "audio"], "rest": "x*"}, NAMES, [n for n in NAMES if n not in ("label", "x1")])
    assert results == {"audio_1": "sound", "audio_2": "sound", "audio": "sound", "x[1]": "rest"}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"a": "adio_*"}, r"no column matches 'adio_\*'.*did you mean"),
        ({"a": "lab*"}, "is an input"),
        ({"a": []}, "names no column"),
        ({"a": "audio*", "b": ["x1", "audio_2"]}, "column 'audio_2': is in two groups, 'a' and 'b'"),
    ],
)
def test_invalid_groups_are_refused(patterns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        groups(patterns, NAMES, [n for n in NAMES if n != "label"])


def test_common_prefixes_are_proposed() -> None:
    names = [*(f"audio_{i}" for i in range(5)), *(f"px{i}" for i in range(9)), "age", "px", "note"]
    cells = [name for name in names if name != "note"]
    # px* would take the column px too.
    assert proposals(cells, names) == {"audio": "audio_*"}
    assert proposals(cells, [n for n in names if n != "px"]) == {"audio": "audio_*", "px": "px*"}


def test_no_proposal_without_benefit() -> None:
    assert proposals([f"gene_{i}" for i in range(50)], [f"gene_{i}" for i in range(50)]) == {}
    assert proposals(["a_1", "a_2", "b"], ["a_1", "a_2", "b"]) == {}
    many = [f"{letter}_{i}" for letter in "abcdefghijklmnop" for i in range(5)]
    assert proposals(many, many) == {}


def test_proposed_options_can_be_pasted() -> None:
    from sensorium.cli._options import stream_patterns

    names = [*(f"my sound_{i}" for i in range(5)), *(f"face.{i}" for i in range(5))]
    (hint,) = hints(names, names, {})
    words = shlex.split(hint[hint.index("--stream") :])
    patterns = stream_patterns(words[1::2])
    assert set(groups(patterns, names, names).values()) == {"my", "face"}
    assert set(groups(patterns, names, names)) == set(names)
    assert hints(names, names, {"face.0": {"stream": "face"}}) == []


def test_inspect_proposes_groups() -> None:
    columns = {f"{s}_{i}": [float((i + 1) * r % 7) + r / 9 for r in range(12)] for s in ("eye", "hand") for i in range(4)}
    inspection = inspect({"t": Table({**columns, "label": list("ab") * 6})}, target="label")
    (hint,) = inspection.hints
    assert "--stream 'eye=eye_*' --stream 'hand=hand_*'" in hint
    assert inspection.to_json()["hints"] == [hint]
    assert hint in inspection.text()


def test_reserved_names_are_not_proposed() -> None:
    for start in ("table", "seed"):
        names = [*(f"{start}_{i}" for i in range(6)), "age"]
        assert proposals(names, names) == {}, start


def test_too_many_prefixes_give_no_proposal() -> None:
    names = [f"p{i}x_{k}" for i in range(4000) for k in range(5)]
    assert hints(names, names, {}) == []
