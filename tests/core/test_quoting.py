"""Any name can be written and is read back; what needed no quotes before needs none now."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.core import quoting
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe

AWKWARD = [
    *("a,b", "a.b", "a=b", "a:b", "a b", " a", 'say "hi"', '"a"', '"', "it's", "年龄", "-x", "--target", "[0]", "{a: b}"),
    *("a\\b", "a*", "=", ",", ".", "", "\t", "a\nb", "$HOME", "null", "1", "#", "a/b", "%", "…", "!x", "- y"),
]
anything = st.text(min_size=1, max_size=12) | st.sampled_from([name for name in AWKWARD if name])


@given(st.lists(anything, min_size=1, max_size=4))
def test_any_names_are_a_list(some: list[str]) -> None:
    assert quoting.names(",".join(quoting.written(name, ",") for name in some)) == some
    assert quoting.names(" , ".join(quoting.written(name, ",") for name in some)) == some


@given(anything, st.text(max_size=6))
def test_any_name_has_a_value(name: str, value: str) -> None:
    assert quoting.pair(f"{quoting.written(name, '=')}={value}") == (name, value)


@given(st.lists(anything, min_size=1, max_size=4), st.text(max_size=6))
def test_any_names_are_a_path(some: list[str], value: str) -> None:
    assert quoting.path(f"{'.'.join(quoting.written(name, '.=') for name in some)}={value}") == (
        some,
        value,
    )


@given(anything)
def test_any_name_alone(name: str) -> None:
    assert quoting.name(quoting.written(name, "")) == name


def value(printed: str) -> str:
    """What a shell hands on of ``--option VALUE`` or ``--option=VALUE``."""
    words = shlex.split(printed)
    return words[1] if len(words) == 2 else words[0].partition("=")[2]


@given(anything)
def test_what_is_printed_is_what_a_shell_hands_on(name: str) -> None:
    assert quoting.names(value(quoting.ignoring([name]))) == [name]
    assert quoting.pair(value(quoting.as_kind(name, "number"))) == (name, "number")
    assert quoting.name(value(quoting.target(name))) == name
    (word,) = shlex.split(quoting.assigned(["columns", name, "kind"], "text"))
    assert quoting.path(word) == (["columns", name, "kind"], "text")


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("id,speaker", ["id", "speaker"]),
        (" id , speaker,", ["id", "speaker"]),
        ("", []),
        ('5" disk,a', ['5" disk', "a"]),
        ('"a" and b,c', ['"a" and b', "c"]),
        ('"open,b', ['"open', "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ("年龄,a b", ["年龄", "a b"]),
    ],
)
def test_lists_as_people_write_them(text: str, results: list[str]) -> None:
    assert quoting.names(text) == results


def test_an_override_names_any_column() -> None:
    for name in filter(None, AWKWARD):
        (word,) = shlex.split(quoting.assigned(["columns", name, "kind"], "text"))
        assert Recipe().override([word]).columns == {name: {"kind": "text"}}
    plain = Recipe().override(["training.lr=1e-3", "model.fusion=gated", "model.fusion.temperature=2"])
    assert plain.training.lr == 0.001
    assert plain.model.fusion == {"kind": "gated", "temperature": 2}
    with pytest.raises(ConfigError, match="is not an override"):
        Recipe().override(["training"])
