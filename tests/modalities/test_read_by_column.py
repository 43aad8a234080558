"""What modalities of table cells learn about how a column is read, keep in their state, and tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from sensorium.core.errors import CellError
from sensorium.core.modality import Modality, is_blank
from sensorium.core.scalars import plain
from sensorium.modalities.category import Category
from sensorium.modalities.datetime import Datetime
from sensorium.modalities.number import Number
from sensorium.modalities.tags import Tags
from sensorium.modalities.text import Text
from sensorium.modalities.vector import Vector


def fitted(modality: Modality, cells: Sequence[Any]) -> Any:
    modality.fit(cells)
    return modality


def again(modality: Modality) -> Any:
    """The same modality from its state alone, as a saved model has it."""
    other = type(modality)()
    other.state = json.loads(json.dumps(modality.state))
    return other


def test_a_saved_number_reads_as_the_training_column_did() -> None:
    number = fitted(Number(), ["1,344", "2,55", "12,375"])
    assert "decimal commas" in number.reading
    assert number.resolved_options == {"decimal": "comma"}
    assert again(number).value("12,375") == 12.375
    assert again(number).encode("12,375") == number.encode(12.375)
    with pytest.raises(CellError, match=r"12\.375 or 12375"):
        again(number).encode("12.375")
    assert fitted(Number(decimal="comma"), ["1,234", "5,678"]).value("1,234") == 1.234
    assert "decimal: comma" in fitted(Number(), ["1,234", "5,678"]).doubts[0]
    assert not fitted(Number(), ["$1,234", "$5,678"]).doubts
    assert "decimal points and 1 decimal commas" in fitted(Number(), ["1.25", "2.5", "3,75"]).doubts[0]


def test_a_model_saved_before_reads_each_cell_by_itself() -> None:
    number = Number()
    number.state = {"mean": 0.0, "deviation": 1.0, "impute": 0.0}
    assert number.encode("1,5") == 1.5
    category = Category()
    category.state = {"values": ["0", "1"]}
    assert category.decode(np.array([1.0])) == "1"


def test_units_are_told_and_kept() -> None:
    number = fitted(Number(), ["151 cm", "160 cm"])
    assert number.reading == "in cm"
    with pytest.raises(CellError, match=r"'in'.*'cm'"):
        again(number).encode("60 in")
    spans = fitted(Number(), ["1:23:45", "45:10"])
    assert "in seconds" in spans.reading
    assert again(spans).value("2:00") == 120
    assert "1 in 'm'" in fitted(Number(), ["151 cm", "160 cm", "1.5 m"]).doubts[0]


def test_the_order_of_days_is_told_kept_and_held_to() -> None:
    dates = fitted(Datetime(), ["3/4/2020", "12/25/2020"])
    assert dates.reading == "months first, as 12/25/2020 says"
    assert dates.resolved_options == {"order": "mdy"}
    assert not dates.doubts
    assert np.array_equal(again(dates).encode("3/4/2020"), dates.encode("2020-03-04"))
    open_ = fitted(Datetime(), ["3/4/2020", "1/2/2020"])
    assert "no cell decides" in open_.reading
    assert "order: mdy" in open_.doubts[0]
    assert open_.resolved_options == {}
    with pytest.raises(CellError, match=r"months first.*days first.*order: mdy"):
        again(open_).encode("12/25/2020")
    result = fitted(Datetime(order="mdy"), ["3/4/2020"])
    assert not result.doubts
    assert np.array_equal(result.encode("3/4/2020"), result.encode("2020-03-04"))
    assert "both" not in fitted(Datetime(), ["25/12/2020", "12/25/2020"]).doubts[0]


@pytest.mark.parametrize(
    ("cells", "answers"),
    [
        ([0, 1, 0], [0, 1]),
        ([0.0, 1.0, 0.0], [0, 1]),
        (["0", "1"], [0, 1]),
        (["-3", "12"], [-3, 12]),
        (["01", "02"], ["01", "02"]),
        (["1", "a"], ["1", "a"]),
        ([True, False], [False, True]),
        (["true", "FALSE", "True"], [False, True]),
        ([0.5, 1.0], [0.5, 1.0]),
        (["0.5", "1.5"], ["0.5", "1.5"]),
        (["yes", "no"], ["no", "yes"]),
        (np.array([3, 4]), [3, 4]),
        ([Decimal("2"), Decimal("7")], [2, 7]),
    ],
)
def test_answers_have_the_type_of_the_training_labels(cells: Any, answers: list[Any]) -> None:
    category = again(fitted(Category(), list(cells)))
    results = [category.decode(np.array([i])) for i in range(len(category.classes))]
    assert results == answers
    assert [type(value) for value in results] == [type(value) for value in answers]
    assert [float(category.encode_target(value)[0]) for value in results] == list(range(len(results)))
    assert all(isinstance(name, str) for name in category.classes)


def test_values_that_differ_in_writing_only_can_be_one() -> None:
    cells = ["yes", "Yes", "YES ", "yes", "no", "caf\u00e9", "cafe\u0301"]
    plainly = fitted(Category(), cells)
    assert "fold: true" in plainly.doubts[0]
    merged = fitted(Category(fold=True), cells)
    assert merged.classes == ["café", "no", "yes"]
    assert not merged.doubts
    assert merged.encode("  yEs ") == merged.encode("yes")
    assert "write each one way" in fitted(Tags(), ["Sun;sun", "sea;sand"]).doubts[0]


def test_gaps_can_be_a_class() -> None:
    assert Category().missing("None")
    keeps = Category(gaps="keep")
    assert [keeps.missing(cell) for cell in ("None", "NA", "", "  ", None, float("nan"))] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    assert fitted(keeps, ["None", "Mild"]).classes == ["Mild", "None"]


def test_what_training_did_not_have_is_named() -> None:
    category = fitted(Category(), ["blue", "red", "green"])
    assert category.unfamiliar("red") == ""
    assert category.unfamiliar("BLUE") == "'BLUE' was not seen in training; did you mean 'blue'?"
    assert "blue, green, red" in category.unfamiliar("purple")
    tags = fitted(Tags(), ["sun;sea", "sea;sand"])
    assert tags.unfamiliar("sea;sun") == ""
    assert "did you mean 'sand'" in tags.unfamiliar("sea;sandy")
    assert fitted(Number(), [1, 2]).unfamiliar(99) == ""


CARRIED = {
    "number": (
        Number(),
        [1.5, 2.0, 30.25],
        lambda v: [v, np.float64(v), Decimal(str(v)), pa.scalar(v), torch.tensor(v), str(v)],
    ),
    "whole": (
        Number(),
        [1, 2, 30],
        lambda v: [v, float(v), np.int8(v), pa.scalar(v), np.array(v), str(v), pd.array([v])[0]],
    ),
    "datetime": (
        Datetime(),
        ["2020-01-02 03:04:05", "2021-05-06 07:08:09"],
        lambda v: [v, pd.Timestamp(v), np.datetime64(v), pa.scalar(pd.Timestamp(v)), pd.Timestamp(v).to_pydatetime()],
    ),
    "category": (Category(), ["a", "b", "c"], lambda v: [v, np.str_(v), pa.scalar(v), f" {v} "]),
    "code": (Category(), ["02139", "10001"], lambda v: [v, int(v), float(v), np.int64(int(v)), pa.scalar(int(v))]),
    "price": (Category(), ["1.50", "2.25"], lambda v: [v, float(v), np.float64(v)]),
    "truth": (
        Category(),
        [True, False],
        lambda v: [v, np.bool_(v), pa.scalar(v), str(v), str(v).lower(), int(v), float(v)],
    ),
    "tags": (
        Tags(),
        ["a;b", "b;c", "c"],
        lambda v: [
            v,
            v.split(";"),
            np.array(v.split(";")),
            pa.scalar(v.split(";")),
            json.dumps(v.split(";")),
            pd.Series(v.split(";")),
        ],
    ),
    "text": (Text(), ["a fine day", "no"], lambda v: [v, np.str_(v), pa.scalar(v)]),
}


@pytest.mark.parametrize("name", list(CARRIED))
def test_a_value_is_the_same_whatever_carries_it(name: str) -> None:
    modality, cells, carriers = CARRIED[name]
    fitted(modality, cells)
    for cell in cells:
        expected = modality.encode(cell)
        for carried in carriers(cell):
            assert np.array_equal(modality.encode(carried), expected), (cell, type(carried))


@pytest.mark.parametrize(
    "cell", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), pa.scalar(None)]
)
def test_nothing_is_nothing_whatever_carries_it(cell: Any) -> None:
    assert is_blank(cell)


def test_half_a_character_is_replaced() -> None:
    assert plain("warm\ud83d") == "warm\ufffd"
    assert plain("\ud83d\ude00") == "😀"
    category = fitted(Category(), ["warm\ud83d", "cold"])
    category.classes[1].encode()
    assert category.encode("warm\ud83d") == category.encode("warm\ufffd")
    assert len(fitted(Text(), ["hot sun \ud83d 1", "cold"]).encode("hot \ud83d")) > 0


@pytest.mark.parametrize(
    "cell", ["0.5 1.5 -2.5", "[0.5 1.5 -2.5]", "0.5, 1.5, -2.5", "[0.5, 1.5, -2.5]", "[ 5.0e-01  1.5\n -2.5 ]"]
)
def test_vectors_as_programs_print_them(cell: str) -> None:
    from sensorium.data.files.media_access import UPLOADS_ONLY

    assert Vector.sniff([cell] * 5, "x").score > Text.sniff([cell] * 5, "x").score
    vector = fitted(Vector(), [[0.5, 1.5, -2.5]])
    assert np.array_equal(vector.encode(UPLOADS_ONLY.open(cell)), np.array([0.5, 1.5, -2.5], np.float32))


@pytest.mark.parametrize("cell", ["1 234 567", "030 123 456", "2020 01 02", "a b c", "1.5", "[1]", "0,1 0,2 0,3", "-"])
def test_what_is_no_vector(cell: str) -> None:
    assert Vector.sniff([cell] * 5, "x").score == 0
