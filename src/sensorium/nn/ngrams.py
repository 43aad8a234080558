"""Groups of neighbouring ids as numbers of their own."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_PRIME = 1_000_003


def groups(data: Tensor, real: Tensor, longest: int, buckets: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The hash bucket, out of ``buckets``, of every n-gram of ``data`` ``[B, N]`` for n = 2 … ``longest``: ``[B, N -
    1]``, …, and which are real.

    N-grams may share a bucket (the hashing trick of fastText, https://arxiv.org/abs/1607.01759, § 2.3). ``real`` marks
    ids that are not padding; padding is at the end.
    """
    hashed = data
    for n in range(1, min(longest, data.shape[1])):
        hashed = (hashed[:, :-1] * _PRIME + data[:, n:]) & 0x7FFFFFFFFFF  # so that the next step cannot overflow
        yield (hashed ^ (hashed >> 15)) % buckets, real[:, n:]
