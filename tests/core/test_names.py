"""Names: modules under any column name, components under their files' names, messages that name the nearest."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sensorium.core import registry
from sensorium.core.errors import CellError, ConfigError, SensoriumError, nearest
from sensorium.core.layout import Row
from sensorium.core.module_dict import NamedModules

NASTY = ["items", "type", "a.b", "to", "forward", "", " ", "名 字", "%2E", "a/b", "of_x", "training", "\n", "_modules", "é"]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), unique=True, max_size=8
    )
)
def test_modules_under_any_name(names: list[str]) -> None:
    modules = {name: nn.Linear(1, i + 1) for i, name in enumerate(names)}
    result = NamedModules(modules)
    assert list(result) == names
    assert [result[name] for name in names] == list(modules.values())
    assert dict(result.items()) == modules
    assert list(result.values()) == list(modules.values())
    assert len(result) == len(names)
    assert all(name in result for name in names)
    other = NamedModules({name: nn.Linear(1, i + 1) for i, name in enumerate(names)})
    other.load_state_dict(result.state_dict())
    for name in names:
        assert torch.equal(other[name].weight, result[name].weight)
    assert result.train().to("cpu").training


def test_a_name_that_is_not_there() -> None:
    results = NamedModules({"a": nn.Identity()})
    assert "b" not in results
    assert 3 not in results
    with pytest.raises(KeyError):
        results["b"]


@pytest.mark.parametrize(
    ("family", "spec", "message"),
    [
        ("fusions", "gatd", "no fusions named 'gatd'; did you mean gated?"),
        ("fusion", "gated", "no family named 'fusion'; did you mean fusions?"),
        ("fusions", {"temperature": 1}, "a component needs a name"),
        ("fusions", {"kind": 3}, "a component needs a name"),
        ("modalities", {"kind": "image", "sise": 3}, "modalities/image: sise: no such option; did you mean size?"),
        ("modalities", {"kind": "image", "size": "big"}, "modalities/image: size: 'big' is not a whole number"),
        ("encoders", {"kind": "patch", "depth": -1}, "encoders/patch: depth: -1 is too small: it must be 1 or more"),
        ("encoders", {"kind": "mlp", "width": 0}, "encoders/mlp: width: 0 is too small: it must be 1 or more"),
        ("fusions", {"kind": "lowrank", "rank": 0}, "fusions/lowrank: rank"),
        ("fusions", {"kind": "lowrank", "dropout": 1.0}, "fusions/lowrank: dropout: 1.0 is too large: it must be below 1"),
        ("tasks", {"kind": "classification", "hidden": -1}, "tasks/classification: hidden"),
        ("modalities", {"kind": "image", "augment": "wild"}, "modalities/image: augment: 'wild' is none of 'none',"),
        ("fusions", {"kind": "gated", "temperature": float("nan")}, "fusions/gated: temperature"),
        ("fusions", "../core/errors", "no fusions named"),
        ("fusions", "os.path", "no fusions named"),
        ("fusions", "__init__", "no fusions named"),
    ],
)
def test_a_wrong_specification_says_what_would_be_right(family: str, spec: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.resolve(family, spec)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_resolving_is_done_once(family: str) -> None:
    for kind in registry.kinds(family):
        full = registry.resolve(family, kind)
        assert full["kind"] == kind
        assert registry.resolve(family, full) == full


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_every_component_is_described(family: str) -> None:
    for kind in registry.kinds(family):
        result = registry.describe(family, kind)
        assert result.summary.endswith((".", ":")), (family, kind, result.summary)
        assert {option.name for option in result.options} == set(registry.options(family, kind).model_fields)
        for option in result.options:
            assert option.text, f"{family}/{kind}: option {option.name} has no text under Args:"


def test_listing_imports_nothing() -> None:
    program = "import sys; from sensorium.core.registry import kinds, FAMILIES; [kinds(f) for f in FAMILIES]\n"
    program += "assert 'torch' not in sys.modules and 'sensorium.fusions.gated' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_torch_refuses_names_the_component() -> None:
    with pytest.raises(ConfigError, match=r"encoders/mlp cannot be built with \{'width': 4611686018427387904"):
        registry.build("encoders", {"kind": "mlp", "width": 2**62}, Row((0,)))


def test_errors_say_where_and_how_to_mend() -> None:
    error = CellError("is cut short", file="a.png", row=3, column="photo", fix="copy it again")
    assert str(error) == "a.png, row 3, column 'photo': is cut short\n  → copy it again"
    assert str(SensoriumError("went wrong")) == "went wrong"
    assert str(SensoriumError("went wrong", row=0)) == "row 0: went wrong"


def test_nearest_names() -> None:
    assert nearest("phto", ["photo", "note"]) == "; did you mean photo?"
    assert nearest("zzz", ["photo", "note"]) == "; there are: note, photo"
    assert nearest("x", []) == ""
