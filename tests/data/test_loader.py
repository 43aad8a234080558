"""The loader: every row once an epoch, resuming, and even parts for several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.data.loader import Loader


class Numbers:
    """Stands for rows: a batch is its index."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Any) -> list[int]:
        return [int(i) for i in index]


def loader(count: int, size: int, **options: Any) -> Any:
    return Loader(Numbers(count), size, **options)  # type: ignore[arg-type]


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 5), st.integers(0, 3))
def test_processes_together_see_every_row(count: int, size: int, ranks: int, epoch: int) -> None:
    count = max(count, 2 * ranks)
    parts = [list(loader(count, size, seed=3, epoch=epoch, rank=r, ranks=ranks)) for r in range(ranks)]
    assert len({len(part) for part in parts}) == 1, "as many steps each"
    together = [[i for part in step for i in part] for step in zip(*parts, strict=True)]
    assert sorted(i for step in together for i in step) == list(range(count))
    one = list(loader(count, size * ranks, seed=3, epoch=epoch))
    for step, (whole, met) in enumerate(zip(one, together, strict=False)):
        if step < len(together) - 1:
            assert whole == met, "the same rows, each process a stretch of them"
    for step in zip(*parts, strict=True):
        lengths = [len(part) for part in step]
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) >= (1 if size == 1 else 2), "batch statistics need two"


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_resumes_after_the_last_batch(done: int) -> None:
    whole = list(loader(53, 10, seed=1, epoch=4))
    first = loader(53, 10, seed=1, epoch=4)
    begun = iter(first)
    for _ in range(done):
        next(begun)
    again = loader(53, 10, seed=1, epoch=4)
    again.load_state_dict(first.state_dict())
    assert list(again) == whole[done:]
    assert list(again) == whole, "only once"
    assert len(again) == len(whole)
    later = loader(53, 10, seed=1, epoch=5)
    later.load_state_dict(first.state_dict())
    assert len(list(later)) == len(whole), "another epoch is whole"


def test_table_order_without_a_seed() -> None:
    assert list(loader(5, 2)) == [[0, 1], [2, 3], [4]]
    assert [i for batch in loader(5, 2, seed=0) for i in batch] != list(range(5))
    assert [len(batch) for batch in loader(5, 2, seed=0)] == [2, 3]
    assert np.array_equal(*[next(iter(loader(40, 7, seed=2, epoch=1))) for _ in range(2)])
