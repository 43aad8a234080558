"""Splits: disjoint, complete, reproducible, and stratified, grouped or ordered as requested."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import ConfigError, DataError
from sensorium.data.splitting import folds, split
from sensorium.data.tables.table import Table


def whole(train: Any, valid: Any, rows: int) -> None:
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(rows))
    assert train.dtype == valid.dtype == np.int64
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()


@settings(max_examples=80, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=2, max_size=80),
    part=st.floats(0.02, 0.9),
    seed=st.integers(0, 5),
)
def test_random_is_stratified(labels: list[str | None], part: float, seed: int) -> None:
    table = Table.read({"y": labels})
    train, valid = split(table, part=part, target="y", seed=seed)
    whole(train, valid, len(labels))
    assert len(train)
    assert len(valid)
    again = split(table, part=part, target="y", seed=seed)
    np.testing.assert_array_equal(valid, again[1])
    counts, kept, held = Counter(labels), Counter(labels[i] for i in train), Counter(labels[i] for i in valid)
    for label, count in counts.items():
        if len(counts) <= len(labels) / 2 and count >= 2 and None not in counts:
            assert kept[label] >= 1
            assert abs(held[label] - part * count) <= 1.5


def test_shares_are_exact_where_possible() -> None:
    labels = ["a"] * 100 + ["b"] * 40 + ["c"] * 20
    np.random.default_rng(0).shuffle(labels)
    _, valid = split(Table.read({"y": labels}), part=0.25, target="y")
    assert Counter(labels[i] for i in valid) == {"a": 25, "b": 10, "c": 5}
    other = split(Table.read({"y": labels}), part=0.25, target="y", seed=1)[1]
    assert not np.array_equal(valid, other)


def test_random_without_classes() -> None:
    table = Table.read({"y": [i * 0.1 for i in range(200)], "p": [np.zeros(2)] * 200})
    for target in (None, "y", "p"):
        train, valid = split(table, part=0.1, target=target)
        whole(train, valid, 200)
        assert len(valid) == 20


def test_groups_stay_together() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{i}" for i in rng.integers(0, 40, 500)]
    groups[3] = groups[8] = ""
    labels = [str(int(g[1:] or 0) % 3) for g in groups]
    table = Table.read({"g": groups, "y": labels})
    train, valid = split(table, kind="group", by="g", target="y", part=0.2, seed=3)
    whole(train, valid, 500)
    assert not {groups[i] for i in train if groups[i]} & {groups[i] for i in valid}
    assert abs(len(valid) - 100) <= 10
    share = Counter(labels[i] for i in valid)
    assert all(abs(share[c] / len(valid) - count / 500) < 0.1 for c, count in Counter(labels).items())
    np.testing.assert_array_equal(valid, split(table, kind="group", by="g", target="y", part=0.2, seed=3)[1])


def test_few_groups() -> None:
    train, valid = split(Table.read({"g": ["a"] * 9 + ["b"]}), kind="group", by="g", part=0.5)
    assert (len(train), len(valid)) in ((9, 1), (1, 9))
    with pytest.raises(DataError, match="one group"):
        split(Table.read({"g": ["a"] * 9}), kind="group", by="g")


start = datetime(2024, 1, 30)


@pytest.mark.parametrize(
    "write",
    [
        lambda i: i,
        lambda i: f"{i}.0",
        lambda i: (start + timedelta(days=i)).isoformat(),
        lambda i: f"{start + timedelta(days=i):%Y/%m/%d %H:%M}",
        lambda i: f"{start + timedelta(days=i):%d.%m.%Y}",
        lambda i: start + timedelta(days=i),
        lambda i: date(2024, 1, 30) + timedelta(days=i),
        lambda i: f"{start + timedelta(days=i):%Y-%m-%dT%H:%M:%SZ}",
    ],
)
def test_time_holds_out_the_latest(write: Any) -> None:
    order = np.random.default_rng(0).permutation(100)
    cells = [write(int(i)) for i in order]
    train, valid = split(Table.read({"t": [*cells, None]}), kind="time", by="t", part=0.2)
    whole(train, valid, 101)
    assert 100 in train
    assert len(valid) == 20
    assert max(order[train[:-1]]) < min(order[valid])


def test_rows_of_equal_time_stay_together() -> None:
    train, valid = split(Table.read({"t": [1] * 50 + [2] * 30 + [3] * 20}), kind="time", by="t", part=0.3)
    assert (len(train), len(valid)) == (80, 20)
    with pytest.raises(DataError, match="same time"):
        split(Table.read({"t": [1, 1, None]}), kind="time", by="t")
    with pytest.raises(DataError, match=r"row 2, column 't': 'soon' is not a time"):
        split(Table.read({"t": ["1", "soon"]}), kind="time", by="t")


def test_invalid_arguments() -> None:
    table = Table.read({"a": [1, 2, 3]})
    for wrong in ({"part": 0.0}, {"part": 1.0}, {"kind": "tme"}, {"kind": "group"}, {"kind": "time"}):
        with pytest.raises(ConfigError):
            split(table, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="did you mean"):
        split(table, kind="group", by="aa")
    with pytest.raises(DataError, match="cannot be split"):
        split(table.take([0]))
    with pytest.raises(ConfigError):
        folds(table, 4)
    with pytest.raises(ConfigError):
        folds(table, 2, kind="group")


def test_folds() -> None:
    labels = ["a", "b", "b"] * 33
    groups = [i // 7 for i in range(99)]
    table = Table.read({"y": labels, "g": groups})
    for kind in ("random", "group"):
        parts = folds(table, 4, kind=kind, target="y", by="g", seed=2)
        assert sorted(np.concatenate([valid for _, valid in parts]).tolist()) == list(range(99))
        for train, valid in parts:
            whole(train, valid, 99)
            if kind == "group":
                assert not {groups[i] for i in train} & {groups[i] for i in valid}
                assert 21 <= len(valid) <= 28
            else:
                assert len(valid) in (24, 25)
                assert abs(sum(labels[i] == "a" for i in valid) - 33 / 4) < 1.5
