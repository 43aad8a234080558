"""Number formats of columns: decimal and thousands separators, units, durations, accounting negatives."""

from __future__ import annotations

from datetime import time, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.language.durations import read_duration
from sensorium.language.numbers import detect_format, number_problem, read_number


def read(cells: list[object]) -> list[float | None]:
    writing, _ = detect_format(cells)
    return [read_number(cell, writing) for cell in cells]


def european(text: str) -> str:
    return text.translate(str.maketrans(".,", ",."))


@settings(max_examples=200, derandomize=True)
@given(st.lists(st.integers(-(10**8), 10**8).map(lambda n: n / 1000), min_size=3, max_size=20), st.booleans())
def test_decimal_points_and_commas_give_the_same_numbers(values: list[float], grouped: bool) -> None:
    values = [*values, 2.55, 1234567.5]  # one cell that decides, and one that shows thousands where they are shown
    points = [f"{value:,.15g}" if grouped else repr(value) for value in values]
    assert read(list(points)) == values
    assert read([european(text) for text in points]) == values


def test_column_resolves_ambiguous_cells() -> None:
    assert read(["12,375", "2,55", "0,5"]) == [12.375, 2.55, 0.5]
    assert read(["12,375", "2.55"]) == [12375, 2.55]
    assert read(["1.234", "2,55"]) == [1234, 2.55]
    assert read(["1.234", "2.555"]) == [1.234, 2.555]
    assert read(["1,234", "17"]) == [1234, 17]
    assert read(["1 234,5", "2"]) == [1234.5, 2]
    assert read(["12,34,567.5"]) == [1234567.5]


@pytest.mark.parametrize(
    ("cells", "later", "readings"),
    [(["1,344", "2,55"], "12.375", "12.375 or 12375"), ([1.5, 2.25], "12,375", "12375 or 12.375")],
)
def test_ambiguous_new_cell_is_refused(cells: list[object], later: str, readings: str) -> None:
    writing, _ = detect_format(cells)
    assert read_number(later, writing) is None
    assert readings in number_problem(later, writing)
    assert "decimal: point or comma" in number_problem(later, writing)
    result, _ = detect_format(cells, "comma")
    assert read_number("12,375", result) == 12.375


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["151 cm", "160cm", "1,60 cm"], [151, 160, 1.6]),
        (["24%", "3,5 %", "100"], [24, 3.5, 100]),
        (["(5)", "3", "($5.50)"], [-5, 3, -5.5]),
        (["USD 5", "7 USD"], [5, 7]),
        (["5-", "−3", "+2"], [-5, -3, 2]),
        (["1 year", "3 years", "2 Years"], [1, 3, 2]),
        (["20 °C", "-3.5 °C"], [20, -3.5]),
        (["5 m²", "7 m²"], [5, 7]),
        (["3h", "5h"], [3, 5]),
        (["3h 20m", "1h", "45 min"], [12000, 3600, 2700]),
        (["1:23:45", "45:10"], [5025, 2710]),
        (["14:30", "09:15"], [52200, 33300]),
        (["P1DT2H", "PT5M", "PT1.5S"], [93600, 300, 1.5]),
        ([timedelta(minutes=2), np.timedelta64(3, "s"), time(0, 1)], [120, 3, 60]),
        (["1 days 02:00:00", "-1 days +23:00:00"], [93600, -3600]),
    ],
)
def test_units_and_durations(cells: list[object], values: list[float]) -> None:
    assert read(cells) == values


def test_number_with_another_unit_is_refused() -> None:
    writing, evidence = detect_format(["151 cm"] * 20 + ["1.51 m"])
    assert writing.unit == "cm"
    assert evidence.units == {"cm": 20, "m": 1}
    assert read_number("1.51 m", writing) is None
    assert "'m'" in number_problem("1.51 m", writing)
    assert read_number("152", writing) == 152
    bare, _ = detect_format(["1", "2"] * 50 + ["3 kg"])
    assert read_number("3 kg", bare) is None


@pytest.mark.parametrize("text", ["12abc", "3rd", "(5", "5)", "--5", "(-5)", "1_000", "12:75", "P", "PT", "$", ",", "."])
def test_invalid_numbers(text: str) -> None:
    assert read_number(text) is None
    assert read_duration(text) is None


@settings(max_examples=300, derandomize=True)
@given(st.lists(st.text(st.sampled_from("0123456789.,-+()$€%eE: 'PTHMSdhms/cm"), max_size=20)))
def test_any_column_is_read_without_an_error(cells: list[str]) -> None:
    writing, _ = detect_format(cells)
    for cell in cells:
        value = read_number(cell, writing)
        assert value is None or np.isfinite(value)
        assert number_problem(cell, writing)
