"""How long training lasts, by the rows and the steps of an epoch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.training import schedule


def fitted(kind: str, cells: list[Any]) -> sm.Schema:
    schema = sm.Schema.declare({"a": kind})
    schema.columns["a"].reader.fit(cells)
    return schema


def test_epochs_shrink_with_the_rows_and_steps_grow() -> None:
    sizes = [300, 1_000, 5_000, 20_000, 100_000, 1_000_000]
    epochs = [schedule.epochs(rows, schedule.batch_size(rows)) for rows in sizes]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] >= 4
    steps = [n * rows / schedule.batch_size(rows) for n, rows in zip(epochs, sizes, strict=True)]
    assert steps[2:] == sorted(steps[2:])


def test_patience_is_short_where_an_epoch_is_long_and_experts_stand_beside() -> None:
    table, picture = fitted("number", [1.0, 2.0, 3.0]), fitted("image", [np.zeros((8, 8), np.uint8)])
    assert schedule.patience(60, table, True, steps=30) == 10
    assert schedule.patience(37, table, True, steps=schedule.LONG_EPOCH) == 3
    assert schedule.patience(60, table, False, steps=schedule.LONG_EPOCH) == 20
    assert schedule.patience(60, picture, True, steps=schedule.LONG_EPOCH) == 20


def test_threads_follow_the_environment_and_the_cores_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [schedule.threads("small", 1), schedule.threads("base", 1), schedule.threads("large", 2)] == [1, 8, 4]
    for named, expected in (("1", 1), ("3,2", 3), ("64", 8), ("many", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", named)
        assert schedule.threads("base", 1) == expected, named
    assert schedule.threads("base", 2) == 4, "a process has its share of the cores"
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert schedule.threads("base", 2) == 4
