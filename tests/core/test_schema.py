"""The schema: the one way from cells to tensors, the same after a trip through JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import ConfigError
from sensorium.core.layout import Row
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import UPLOADS_ONLY, LocalFiles
from sensorium.training.lightning_module import step_seed

CELLS = ["3.5", "red", "", "N/A", "twelve", "2024-05-31", "the kettle sings", None, 7, 1e300, "一 二", "a; b"]


@pytest.fixture(scope="module")
def fitted() -> Schema:
    schema = Schema.declare(
        {
            "x": "number",
            "c": "category",
            "d": "datetime",
            "t": "text",
            "g": "tags",
            "y": {"kind": "category", "role": "target"},
        }
    )
    cells = {
        "x": [1, 2, "3.5"],
        "c": ["red", "blue"],
        "d": ["2024-05-30", "2024-06-01"],
        "t": ["the kettle", "sings a song"],
        "g": ["a; b", "b"],
        "y": ["p", "q"],
    }
    for column in [*schema.inputs, *schema.targets]:
        column.reader.fit(cells[column.name])
    return schema


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["x", "c", "d", "t", "g", "y", "other"]), st.sampled_from(CELLS) | st.text(max_size=9))
)
def test_json_and_back_encodes_the_same(fitted: Schema, record: dict[str, Any]) -> None:
    again = Schema.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert again.to_json() == fitted.to_json()
    result: list[Any] = []
    told_again: list[Any] = []
    one = fitted.encode(record, media=UPLOADS_ONLY, row=4, problems=result, targets=True)
    other = again.encode(record, media=UPLOADS_ONLY, row=4, problems=told_again, targets=True)
    assert result == told_again
    assert all(problem.row == 4 for problem in result)
    for name, array in one.items():
        twin = other[name]
        if array is None:
            assert twin is None
        else:
            np.testing.assert_array_equal(array, twin)


def test_media_too(trained: Any, scenes: Path, read_csv: Any) -> None:
    again = Schema.from_json(json.loads(json.dumps(trained.schema.to_json(), allow_nan=False)))
    for record in read_csv(scenes / "test.csv")[:6]:
        one = trained.schema.encode(record, media=LocalFiles(scenes), targets=True)
        other = again.encode(record, media=LocalFiles(scenes), targets=True)
        for name, array in one.items():
            assert (array is None) == (other[name] is None)
            if array is not None:
                np.testing.assert_array_equal(array, other[name])


def test_cells_of_the_table_share_a_stream(fitted: Schema) -> None:
    assert next(iter(fitted.streams)) == "table"
    assert [c.name for c in fitted.streams["table"]][:3] == ["x", "c", "d"]
    layout = fitted.layout("table")
    assert isinstance(layout, Row)
    batch = fitted.collate([fitted.encode({"x": 1}, media=UPLOADS_ONLY), fitted.encode({}, media=UPLOADS_ONLY)])
    assert batch.inputs["table"].data.shape == (2, len(layout.cardinalities))
    assert batch.inputs["table"].present.tolist() == [True, False]


def test_a_column_may_be_called_table() -> None:
    schema = Schema.declare({"table": "text", "x": "number"})
    assert set(schema.streams) == {"table", "table_"}
    assert [c.name for c in schema.streams["table"]] == ["table"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": {"kind": "number", "role": "tarjet"}}, "column 'x': no role named 'tarjet'; did you mean target?"),
        ({"x": "numbr"}, "column 'x': no modalities named 'numbr'; did you mean number?"),
        ({"x": {"kind": "image", "sise": 3}}, "column 'x': modalities/image: sise: no such option; did you mean size?"),
        ({"x": {"kind": "image", "size": 1}}, "column 'x': image: a size of 1 pixels"),
    ],
)
def test_wrong_declarations(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Schema.declare(columns)
    assert message in str(caught.value)


def test_columns_that_are_not_read(fitted: Schema) -> None:
    schema = Schema.declare({"x": "number", "w": {"role": "weight"}, "p": {"role": "group"}})
    assert [c.name for c in schema.inputs] == ["x"]
    with pytest.raises(ConfigError, match="column 'w' is weight: it is not read"):
        _ = schema.columns["w"].reader
    assert Schema.from_json(schema.to_json()).columns.keys() == schema.columns.keys()


def test_every_step_has_its_own_seed() -> None:
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(2000)}
    assert len(seeds) == 20 * 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(3, 14) == step_seed(3, 14)
    # Well mixed: every bit is set about half of the time.
    drawn = np.array([step_seed(3, step) for step in range(4000)])
    bits = (drawn[:, None] >> np.arange(63) & 1).mean(axis=0)
    assert (abs(bits - 0.5) < 0.05).all()
