"""Hashed n-grams of token ids."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_PRIME = 1_000_003


def groups(data: Tensor, real: Tensor, longest: int, buckets: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield hashed n-grams of ids for n from 2 to ``longest``: buckets ``[B, N - n + 1]`` and their mask.

    N-grams may collide (the hashing trick of fastText, https://arxiv.org/abs/1607.01759, § 2.3).

    Args:
        data: Ids ``[B, N]``, padding last.
        real: Which ids are not padding ``[B, N]``.
        longest: Largest n.
        buckets: The number of buckets.
    """
    hashed = data
    for n in range(1, min(longest, data.shape[1])):
        hashed = (hashed[:, :-1] * _PRIME + data[:, n:]) & 0x7FFFFFFFFFF  # so that the next step cannot overflow
        yield (hashed ^ (hashed >> 15)) % buckets, real[:, n:]
