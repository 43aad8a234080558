"""One thing is no plural."""

from __future__ import annotations

import pytest

from sensorium.core.plurals import counted


@pytest.mark.parametrize(
    ("number", "words", "message"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (1234, ("row",), "1,234 rows"),
        (1, ("class", "classes"), "1 class"),
        (2, ("class", "classes"), "2 classes"),
        (1, ("cell is", "cells are"), "1 cell is"),
    ],
)
def test_counted(number: int, words: tuple[str, ...], message: str) -> None:
    assert counted(number, *words) == message
