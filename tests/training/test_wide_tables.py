"""Tables of hundreds and thousands of columns: costs in proportion to the columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import sensorium as sm
from sensorium.core.batch import Field
from sensorium.core.collation import side_by_side
from sensorium.core.errors import ConfigError, listed, nearest
from sensorium.core.layout import Row
from sensorium.core.recipe import Recipe, read_yaml
from sensorium.core.registry import build, split
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.tables.columnar import column_names
from sensorium.data.tables.table import Table
from sensorium.training.defaults import WIDE, resolve
from sensorium.training.table_splits import MANY_COLUMNS, _column_lines


def schema(columns: int, kind: str = "number") -> Schema:
    table = Schema.declare({f"c{i}": kind for i in range(columns)} | {"y": {"kind": "category", "role": "target"}})
    for column in table.coded:
        column.reader.fit([0, 1, 2, 1] if column.name != "y" else ["a", "b"])
    return table


def chosen(columns: int, rows: int = 60, **model: Any) -> tuple[dict[str, Any], Row]:
    result = schema(columns)
    plan = resolve(Recipe.parse({"model": model}), result, rows)[0]
    spec = plan.model.encoders["table"]
    assert isinstance(spec, dict)
    layout = result.layout("table")
    assert isinstance(layout, Row)
    return spec, layout


@pytest.mark.parametrize("model", [{}, {"fusion": "early"}])
def test_narrow_tables_use_cells(model: dict[str, Any]) -> None:
    for columns in (1, 30, WIDE):
        spec, _ = chosen(columns, **model)
        assert spec == {"kind": "cells", "dim": 64, "depth": 1 if model else 3, "heads": 4, "dropout": 0.1}


def test_requested_encoder_is_kept() -> None:
    assert chosen(WIDE + 1, encoders={"table": "cells"})[0]["kind"] == "cells"


def cost(columns: int, **model: Any) -> tuple[int, int, int]:
    """Of the default encoder: parameters, operations, and numbers kept for the backward pass, for four rows."""
    spec, layout = chosen(columns, **model)
    encoder = build("encoders", spec, layout)
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() if not isinstance(tensor, torch.nn.Parameter) else 0
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        encoder(torch.randn(4, columns), torch.ones(4, columns, dtype=torch.bool)).pooled.sum().backward()
    return sum(p.numel() for p in encoder.parameters()), counter.get_total_flops(), kept


@pytest.mark.parametrize("model", [{}, {"fusion": "early"}])
def test_cost_is_linear_in_columns(model: dict[str, Any]) -> None:
    few, many = cost(2_000, **model), cost(8_000, **model)
    for once, four_times in zip(few, many, strict=True):
        assert four_times < 4.2 * once
    # What it replaces grows with the square.
    cells = {"encoders": {"table": {"kind": "cells", "depth": 1}}}
    assert cost(512, **cells)[1] > 6 * cost(128, **cells)[1]


def test_wide_table_with_gaps_and_categories_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, columns = 120, WIDE + 40
    numbers = rng.normal(size=(columns, rows))
    truth = numbers[3] > 0
    table: dict[str, list[Any]] = {
        f"n{i}": [None if rng.random() < 0.2 and i != 3 else float(x) for x in numbers[i]] for i in range(columns)
    }
    table |= {f"k{i}": ["rgb"[int(k)] for k in rng.integers(0, 3, rows)] for i in range(5)}
    table["kind"] = ["in" if t else "out" for t in truth]
    table["label"] = ["yes" if t else "no" for t in truth]
    model = sm.fit(table, target="label", quiet=True, overrides=["model.size=tiny", "training.epochs=12"])
    assert split(model.recipe.model.encoders["table"] if model.recipe.model.encoders["table"] else "")[0] == "mlp"
    assert model.evaluate(table).targets["label"].metrics["accuracy"] > 0.9
    nothing = model.predict([{}])[0]
    assert nothing.missing == ["table"]
    again = sm.load(model.save(tmp_path / "run"))
    row = {name: cells[0] for name, cells in table.items()}
    assert again.predict([row])[0].to_json() == model.predict([row])[0].to_json()


def test_concatenated_columns_equal_single_columns() -> None:
    table = Schema.declare(
        {"a": "number", "b": {"kind": "number", "impute": "median"}, "c": "category", "d": "datetime", "e": "tags"}
    )
    for column in table.inputs:
        cells: dict[str, list[Any]] = {"c": ["x", "y"], "d": ["2020-01-01", "2021-05-05"], "e": ["s;t", "t;u"]}
        column.reader.fit(cells.get(column.name, [1.0, 2.0, 4.0]))
    rows = [{"a": 1, "b": 2, "c": "x", "d": "2020-03-04", "e": "s;u"}, {"c": "?"}, {}, {"b": 3}]
    samples = [table.encode(row, media=UPLOADS_ONLY) for row in rows]
    for some in (samples, samples[:1], []):
        whole = side_by_side({c.name: c.reader for c in table.inputs}, some)
        parts = Field.join([c.reader.collate([sample[c.name] for sample in some]) for c in table.inputs])
        assert parts.mask is not None
        assert whole.mask is not None
        assert torch.equal(whole.data, parts.data)
        assert torch.equal(whole.present, parts.present)
        assert torch.equal(whole.mask, parts.mask)
        assert whole.data.dtype == parts.data.dtype


def test_numbers_are_never_sniffed_as_media() -> None:
    """What ``guess`` leaves out says nothing of such cells anyway."""
    from sensorium.core import registry

    for cells in (["1", "-2.5", "+3", "007", "4."], [1, 2.5, True], ["20200101", "1600000000"]):
        for kind in registry.kinds("modalities"):
            modality = registry.find("modalities", kind)
            if modality.media and modality.__module__.startswith("sensorium."):
                assert modality.sniff(cells, "image_vector_smiles").score == 0, kind
    assert infer_types(Table({"a": [str(i * 1.5) for i in range(9)]}))["a"].kind == "number"


def test_duplicates_in_long_headers_are_found() -> None:
    names = [f"c{i}" for i in range(40_000)]
    assert column_names(names, "t.csv") == names
    with pytest.raises(sm.SensoriumError, match="named twice: c7, c9"):
        column_names([*names, "c9", "c7", "c7"], "t.csv")


def test_messages_do_not_list_thousands_of_names() -> None:
    names = [f"c{i}" for i in range(10_000)]
    assert listed(names, 2) == "c0, c1 and 9,998 more"
    assert listed(names[:2], 2) == "c0, c1"
    assert len(nearest("something else", names)) < 500
    reasons = dict.fromkeys(names, ("input", "number", "all are numbers")) | {"y": ("target", "category", "two")}
    lines = list(_column_lines(reasons))
    assert lines == ["c0, c1, … c9999: 10,000 columns, number (all are numbers)", "y: target category (two)"]
    few = {name: reasons[name] for name in names[:MANY_COLUMNS]}
    assert list(_column_lines(few))[:2] == ["c0: number (all are numbers)", "c1: number (all are numbers)"]


def test_yaml_depth_limit() -> None:
    import yaml

    assert read_yaml("a: [1, {b: x}]") == yaml.safe_load("a: [1, {b: x}]")
    for text in ("[" * 200_000, "{a: " * 200_000, "- " * 5_000 + "a"):
        with pytest.raises(yaml.YAMLError):
            read_yaml(text)


def test_deep_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="within each other"):
        Recipe.from_yaml(path)


def test_page_shows_all_media_and_some_cells() -> None:
    from sensorium.reporting.cell_html import CELLS, chosen

    kinds = {f"c{i}": "number" for i in range(CELLS + 50)} | {"photo": "image", "note": "text", "k": "category"}
    result = chosen(kinds)
    assert result == [*(f"c{i}" for i in range(CELLS)), "photo", "note"]
    assert chosen({"k": "category", "photo": "image"}) == ["k", "photo"]
