"""Number, Category, Datetime, Tags: columns of the table stream."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer

from sensorium.core.batch import Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Row
from sensorium.core.modality import Modality
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table
from sensorium.modalities.category import Category
from sensorium.modalities.datetime import Datetime
from sensorium.modalities.number import Number
from sensorium.modalities.tags import Tags
from sensorium.modalities.text import Text

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


def fitted(modality: Modality, cells: Sequence[Any]) -> Any:
    modality.fit(cells)
    json.dumps(modality.state, allow_nan=False)
    return modality


@pytest.mark.parametrize("cells", [[1.0, 2.0, 4.0], [5.0], [], ["junk"], [1e308, -1e308], [3, 3, 3], [True, False]])
def test_a_number_is_finite_whatever_was_learnt(cells: list[Any]) -> None:
    for scale in ("standard", "quantile"):
        number = fitted(Number(scale=scale), cells)  # type: ignore[arg-type]
        for cell in (0, 1e308, -1e308, "1,5"):
            out = number.encode(cell)
            assert out.shape == (1,)
            assert out.dtype == np.float32
            assert abs(out[0]) <= 10
        assert np.isfinite(number.blank()).all()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_a_target_comes_back(cells: list[float]) -> None:
    for scale in ("standard", "quantile"):
        number = fitted(Number(scale=scale), cells)  # type: ignore[arg-type]
        for cell in cells:
            near = 1e-6 * max(1e-20, number.state["deviation"] * abs(float(number.encode_target(cell)[0])))
            assert number.decode(number.encode_target(cell)) == pytest.approx(cell, rel=1e-12, abs=near)


def test_standard_scores() -> None:
    cells = np.random.default_rng(0).normal(50, 7, 500)
    number = fitted(Number(), list(cells))
    ours = np.concatenate([number.encode(cell) for cell in cells])
    np.testing.assert_allclose(ours, (cells - cells.mean()) / cells.std(), rtol=1e-5, atol=1e-5)


def test_quantiles_are_scikit_learns() -> None:
    cells = np.random.default_rng(0).lognormal(0, 2, 2000)
    number = fitted(Number(scale="quantile"), list(cells))
    ours = np.array([number.encode(cell)[0] for cell in cells])
    theirs = QuantileTransformer(n_quantiles=1000, output_distribution="normal").fit_transform(cells[:, None])[:, 0]
    middle = np.abs(theirs) < 2
    np.testing.assert_allclose(ours[middle], theirs[middle], atol=0.06)
    assert (np.diff(ours[np.argsort(cells)]) >= 0).all()
    assert len(number.state["points"]) <= 128


def test_what_fills_a_missing_number() -> None:
    cells = [0.0, 0.0, 9.0]
    assert fitted(Number(impute="median"), cells).blank() == fitted(Number(), cells).encode(0.0)
    assert fitted(Number(impute="mean"), cells).blank() == fitted(Number(), cells).encode(3.0)


@pytest.mark.parametrize(("impute", "seen"), [("none", None), ("mean", 4.0), ("median", 1.0)])
def test_a_filled_number_is_read_and_the_indicator_tells(impute: str, seen: float | None, tmp_path: Path) -> None:
    columns = {"age": {"kind": "number", "impute": impute}, "gap": {"kind": "missing", "of": "age"}}
    schema = Schema.declare(columns)
    for column in schema.inputs:
        column.reader.fit([1.0, 1.0, 10.0])
    records = [{"age": 10.0}, {"age": None}]
    table = Table.read({"age": [10.0, None]})
    alone = schema.collate([schema.encode(row, media=UPLOADS_ONLY) for row in records]).inputs["table"]
    stored = (
        encoded.encode(schema, table, media=UPLOADS_ONLY, store=Store(tmp_path), targets=False)
        .batch(np.arange(2))
        .inputs["table"]
    )
    for field in (alone, stored):
        assert field.present.tolist() == [True, False]  # nothing at all is known of the second row
        assert field.mask is not None
        assert field.mask.tolist() == [[True, True], [seen is not None, True]]
        assert field.data[:, 1].tolist() == [0.0, 1.0]
        if seen is not None:
            filled = schema.columns["age"].reader.decode(field.data[1, :1].numpy())
            assert filled == pytest.approx(seen)


@pytest.mark.parametrize(
    "cell", ["nan", float("nan"), float("inf"), "inf", "abc", [1], b"1", "", None, {"a": 1}, np.zeros(3)]
)
def test_what_is_no_number(cell: Any) -> None:
    number = fitted(Number(), [1, 2])
    for encode in (number.encode, number.encode_target):
        with pytest.raises(CellError):
            encode(cell)


def test_a_category_knows_equal_values_in_all_forms() -> None:
    category = fitted(Category(), ["10", 9, 9.0, "9.0", np.int64(9), " x "])
    assert category.classes == ["9", "10", "x"]
    assert category.layout == Row((4,))
    assert [float(category.encode(c)[0]) for c in (9, "9.00", "10", "x", "unseen")] == [1, 1, 2, 3, 0]
    assert [float(category.encode_target(c)[0]) for c in (9, 10.0, "x")] == [0, 1, 2]


@given(st.lists(st.one_of(st.text(max_size=5), st.integers(), finite, st.booleans()), min_size=1))
def test_every_seen_category_comes_back(cells: list[Any]) -> None:
    category = fitted(Category(max_values=10**6), cells)
    for cell in cells:
        back = category.decode(category.encode_target(cell))
        np.testing.assert_array_equal(category.encode(back), category.encode(cell))
        assert category.encode(cell)[0] == category.encode_target(cell)[0] + 1
    again = Category()
    again.state = json.loads(json.dumps(category.state))
    assert all(again.encode(cell)[0] == category.encode(cell)[0] for cell in cells)


def test_rare_values_are_unknown() -> None:
    cells = ["a"] * 5 + ["b"] * 3 + ["c"]
    assert fitted(Category(min_count=2), cells).classes == ["a", "b"]
    assert fitted(Category(max_values=1), cells).classes == ["a"]
    with pytest.raises(CellError, match="did you mean"):
        fitted(Category(), ["yellow", "green"]).encode_target("yelow")
    with pytest.raises(CellError):
        fitted(Category(), ["a"]).encode("a" and [1, 2])
    with pytest.raises(ConfigError):
        Category(min_count=0)


def test_a_fitted_category_can_be_fitted_again() -> None:
    category = fitted(Category(), ["a", "b"])
    category.encode("a")
    fitted(category, ["b", "c"])
    assert category.encode("a")[0] == 0
    assert category.encode("c")[0] == 2


def test_time_is_round() -> None:
    moments = fitted(Datetime(), ["2019-01-01", "2021-12-31"])
    assert moments.layout == Row((0,) * 7)

    def wave(cell: Any, of: slice) -> np.ndarray:
        return np.asarray(moments.encode(cell)[of])

    year, week, day = slice(1, 3), slice(3, 5), slice(5, 7)
    np.testing.assert_allclose(wave("2020-12-31", year), wave("2020-01-01", year), atol=0.03)
    np.testing.assert_allclose(wave("2020-03-01", week), wave("2020-03-08", week), atol=1e-6)
    np.testing.assert_allclose(wave("2020-03-01 23:59", day), wave("2020-03-01 00:01", day), atol=0.02)
    np.testing.assert_allclose(wave("2020-03-01 12:00", day), -wave("2020-03-01", day), atol=1e-6)
    for part in (year, week, day):
        assert np.linalg.norm(wave("2020-05-17 17:45", part)) == pytest.approx(1)


def test_age_is_standardised_days() -> None:
    days = [date(2020, 1, d) for d in (1, 2, 3, 10)]
    moments = fitted(Datetime(), days)
    ours = [moments.encode(d)[0] for d in days]
    x = np.array([1, 2, 3, 10])
    np.testing.assert_allclose(ours, (x - x.mean()) / x.std(), rtol=1e-4)
    assert moments.encode(datetime(9999, 1, 1))[0] == 10


def test_day_or_month_first_is_learnt() -> None:
    third_of_april = fitted(Datetime(), ["2020-04-03"]).encode("2020-04-03")[1:]
    np.testing.assert_array_equal(fitted(Datetime(), ["25/12/2020", "3/4/2020"]).encode("3/4/2020")[1:], third_of_april)
    np.testing.assert_array_equal(fitted(Datetime(), ["12/25/2020"]).encode("4/3/2020")[1:], third_of_april)
    np.testing.assert_array_equal(fitted(Datetime(order="mdy"), ["1/1/2020"]).encode("4/3/2020")[1:], third_of_april)
    with pytest.raises(CellError):
        fitted(Datetime(), ["25/12/2020"]).encode("12/25/2020")
    with pytest.raises(CellError):
        fitted(Datetime(), []).encode("soon")


@pytest.mark.parametrize(
    "cell", ["sea; sun", "sea|sun", "sun, sea", ["sun", "sea"], ("sea", "sun"), '["sea", "sun"]', np.array(["sun", "sea"])]
)
def test_tags_in_all_forms(cell: Any) -> None:
    tags = fitted(Tags(), [cell, cell])
    assert tags.classes == ["sea", "sun"]
    assert tags.layout == Row((0, 0))
    np.testing.assert_array_equal(tags.encode_target(cell), [1, 1])
    assert tags.decode(tags.encode_target("sun")) == ["sun"]
    np.testing.assert_array_equal(tags.encode("sun;moon") if ";" in str(cell) else tags.encode("sun"), [0, 1])
    with pytest.raises(CellError, match="moon"):
        tags.encode_target(["moon"])


def test_options_of_tags() -> None:
    assert fitted(Tags(separator="/"), ["a/b;c"]).classes == ["a", "b;c"]
    assert fitted(Tags(max_values=1), ["a;b", "b"]).classes == ["b"]
    with pytest.raises(CellError):
        fitted(Tags(), ["a;b"]).encode({"a": 1})


def test_columns_join_into_one_row() -> None:
    parts = [
        fitted(Number(), [1, 2]),
        fitted(Category(), ["a"]),
        fitted(Datetime(), ["2020-01-01"]),
        fitted(Tags(), ["a;b"]),
    ]
    cells = [[1, 2], ["a", None], ["2020-01-01", None], [None, None]]
    fields = [
        part.prepare(part.collate([None if c is None else part.encode(c) for c in column]))
        for part, column in zip(parts, cells, strict=True)
    ]
    joined = Field.join(fields)
    layout = sum((part.layout for part in parts[1:]), parts[0].layout)
    assert joined.data.shape == (2, len(layout.cardinalities)) == (2, 11)
    assert joined.data.dtype == torch.float32
    assert joined.mask is not None
    assert joined.mask.sum(dim=1).tolist() == [9, 1]


TABLE = {
    "number": [
        [str(i * 1.5) for i in range(50)],
        ["1,234.5", "2,000.0", "17"] * 9,
        [3, 4, 5, 6] * 10,
        [str(d % 10) for d in range(99)],
    ],
    "category": [["red", "green", "blue"] * 20, ["0", "1"] * 20, [True, False] * 3, ["General Petite", "Intimates"] * 9],
    "datetime": [
        ["2020-01-02", "2021-03-04"],
        ["3/4/2020", "25/12/2021 10:00"],
        [datetime(2020, 1, 2)] * 5,
        ["2 Jan 2020"] * 4,
    ],
    "tags": [["a;b", "b;c", "a", "a;c"] * 5, ["sea, sun", "sun", "sun, sand", "sea, sand"] * 5, [["a", "b"], ["b"]] * 3],
    "text": [
        [f"I like number {i} very much, thank you" for i in range(40)],
        [f"这是第{i}个很长的句子,我喜欢" for i in range(40)],
        ["what a fine day, isn't it", "no, I think it is bad, really", "well, who knows"],
    ],
}
CLASSES = {"number": Number, "category": Category, "datetime": Datetime, "tags": Tags, "text": Text}


@pytest.mark.parametrize(("kind", "cells"), [(kind, cells) for kind, columns in TABLE.items() for cells in columns])
def test_columns_are_recognised(kind: str, cells: list[Any]) -> None:
    scores = {other: modality.sniff(cells, "column") for other, modality in CLASSES.items()}
    assert max(scores, key=lambda other: scores[other].score) == kind, scores
    assert all(0 <= guess.score <= 1 and guess.reason for guess in scores.values())


def test_large_numbers_are_times_only_by_name() -> None:
    cells = [1_577_836_800 + i * 1000 for i in range(50)]
    assert Datetime.sniff(cells, "timestamp").score > Number.sniff(cells, "timestamp").score
    assert Datetime.sniff(cells, "population").score < Number.sniff(cells, "population").score


def test_codes_with_leading_zeros_are_no_numbers() -> None:
    cells = ["02139", "00501", "10001", "02139", "00501"] * 8
    assert Number.sniff(cells, "zip").score < Category.sniff(cells, "zip").score


@pytest.mark.parametrize("modality", CLASSES.values())
def test_sniffing_survives_anything(modality: type[Modality]) -> None:
    odd = [b"x", [1, [2]], {"a": 1}, np.zeros((2, 2)), object(), 1 + 2j, "x" * 10**5, -math.inf, "[" * 10**5]
    for cells in ([], odd, *[[cell] for cell in odd]):
        assert 0 <= modality.sniff(cells, "odd").score <= 1
