"""One-pass statistics against numpy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sensorium.signal.running_moments import Moments, subsampled


@given(st.integers(0, 500), st.integers(1, 50))
def test_thinned_is_spread_evenly(count: int, limit: int) -> None:
    kept = subsampled(range(count), limit)
    assert len(kept) <= limit
    assert len(kept) == count or len(kept) * 2 + 1 >= limit
    assert len({b - a for a, b in pairwise(kept)}) <= 1


def test_moments_in_pieces_are_those_of_the_whole() -> None:
    rows = np.random.default_rng(0).normal(1e6, 3.0, (1000, 2))
    moments = Moments(2)
    for part in np.split(rows, [3, 3, 500]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation(1e-9), rows.std(axis=0), rtol=1e-9)


def test_a_constant_can_be_divided_by() -> None:
    moments = Moments(1)
    moments.add(np.full((10, 1), 5.0))
    assert moments.deviation(1e-9) == [1.0]
    assert Moments(1).deviation(1e-9) == [1.0]
