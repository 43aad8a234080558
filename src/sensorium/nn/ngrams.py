"""Groups of neighbouring ids as numbers of their own."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_PRIME = 1_000_003


def groups(data: Tensor, real: Tensor, longest: int, buckets: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For 2, 3, … ``longest`` neighbours in ``data`` ``[B, N]``: their bucket ``[B, N - 1]``, …, and which are real.

    Two groups may share a bucket (the hashing trick of fastText, https://arxiv.org/abs/1607.01759, § 2.3). ``real`` marks
    the ids that are no padding; padding stands at the end.
    """
    hashed = data
    for n in range(1, min(longest, data.shape[1])):
        hashed = (hashed[:, :-1] * _PRIME + data[:, n:]) & 0x7FFFFFFFFFF  # so that the next step cannot overflow
        yield (hashed ^ (hashed >> 15)) % buckets, real[:, n:]
