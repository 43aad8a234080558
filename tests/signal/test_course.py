"""Courses of rows that differ in length, against plain interpolation of the running sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.signal.fixed_length import course


@pytest.mark.parametrize("length", [1, 2, 5, 8, 24, 97])
def test_a_course_is_the_mean_over_equal_stretches(length: int) -> None:
    x = np.random.default_rng(length).normal(size=length)
    upto = np.concatenate([[0.0], np.cumsum(x)])
    expected = np.diff(np.interp(np.linspace(0, length, 9), np.arange(length + 1), upto)) / (length / 8)
    np.testing.assert_allclose(course(torch.from_numpy(x)[None], 8)[0], expected, rtol=1e-10, atol=1e-12)


def test_as_many_stretches_as_steps_are_the_steps() -> None:
    x = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(course(x, 7), x)


def test_what_stands_behind_a_row_does_not_count() -> None:
    x = torch.randn(3, 2, 10, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([10, 4, 0])
    spoilt = x.clone()
    spoilt[1, :, 4:] = float("nan")
    spoilt[2] = float("inf")
    result = course(spoilt, 5, lengths)
    torch.testing.assert_close(result[0], course(x[:1], 5)[0])
    torch.testing.assert_close(result[1], course(x[1:2, :, :4], 5)[0])
    assert not result[2].any()
