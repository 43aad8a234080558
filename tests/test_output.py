"""The CSV of predictions in a spreadsheet: text that begins like a formula is shown, and numbers stay numbers."""

from __future__ import annotations

import pytest

from sensorium.reporting.prediction_files import escape_formula


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "+a"])
def test_a_formula_is_made_text(cell: str) -> None:
    assert escape_formula(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-3", "-3.5e-7", "+4", "-.5", "a=b", "", None, -3, -0.5, " x", "'=1"])
def test_all_else_is_left_alone(cell: object) -> None:
    assert escape_formula(cell) == cell
