"""Experts on few rows are fitted by one thread, whatever the number of cores."""

from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info

from sensorium.training.thread_limits import threads_for


def counts() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info()]


@pytest.mark.parametrize(("rows", "most"), [(10, 1), (10_000, 1), (10_001, 2), (25_000, 3)])
def test_a_thread_for_every_ten_thousand_rows(rows: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    before = counts()
    with threads_for(rows):
        assert max(counts()) <= most
    assert counts() == before


def test_no_threads_are_added() -> None:
    before = counts()
    with threads_for(10_000_000):
        assert counts() == before
