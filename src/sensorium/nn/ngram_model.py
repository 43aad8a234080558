"""A model of which unit follows which: interpolated n-grams with Witten-Bell smoothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sensorium.core.learned_buffers import LearnedBuffers

END = 0
"""Stands for the end of a sequence, and before its beginning."""


class NgramModel(LearnedBuffers):
    """Probabilities of the next unit given the ``order`` - 1 before it; empty until ``learn``.

    The probability after a context h is (c(h w) + T(h) p(w | h')) / (c(h) + T(h)): c counts, T(h) is the number of
    different units seen after h, and h' is h without its first unit; before single units stands the uniform distribution.
    So every unit has a probability after every context, and they sum to one.
    Source: Witten and Bell 1991, https://doi.org/10.1109/18.87000, method C, interpolated as in Chen and Goodman 1999,
    https://doi.org/10.1006/csla.1999.0128, § 2.4.

    ``grams`` ``[G, order]`` are the n-grams of the training sequences, ``counts`` ``[G]`` how often each occurs.

    Args:
        units: Number of ids, of which 0 means the end.
        order: n.
    """

    grams: Tensor
    counts: Tensor

    def __init__(self, units: int, order: int) -> None:
        super().__init__()
        if order < 1:
            raise ValueError("the order of n-grams is 1 or more")
        self.units, self.order = units, order
        self.declare("grams", torch.int32, 2)
        self.declare("counts", torch.int64, 1)
        self._known: tuple[Tensor, dict[tuple[int, ...], Counter[int]]] | None = None
        self._rows: dict[tuple[int, ...], Tensor] = {}

    def learn(self, sequences: Iterable[Sequence[int]]) -> None:
        """Count the n-grams of ``sequences`` of ids without 0, with the start and the end."""
        count: Counter[tuple[int, ...]] = Counter()
        for ids in sequences:
            whole = (*[END] * (self.order - 1), *ids, END)
            count.update(tuple(whole[i : i + self.order]) for i in range(len(ids) + 1))
        ordered = sorted(count)
        self.keep("grams", torch.tensor(ordered, dtype=torch.int32).reshape(-1, self.order))
        self.keep("counts", torch.tensor([count[gram] for gram in ordered], dtype=torch.int64))

    @property
    def _followers(self) -> dict[tuple[int, ...], Counter[int]]:
        """What follows each context of any length, and how often."""
        if self._known is None or self._known[0] is not self.grams:
            follow: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
            for gram, count in zip(self.grams.tolist(), self.counts.tolist(), strict=True):
                for start in range(self.order):
                    follow[tuple(gram[start:-1])][gram[-1]] += count
            self._known, self._rows = (self.grams, dict(follow)), {}
        return self._known[1]

    def after(self, context: Sequence[int]) -> Tensor:
        """Return the probabilities of all units after the ids of ``context`` ``[V]``, float64; at index 0 that it ends."""
        followers = self._followers
        context = tuple(context)[max(len(context) - self.order + 1, 0) :]
        context = (*[END] * (self.order - 1 - len(context)), *context)
        return self._row(context, followers)

    def _row(self, context: tuple[int, ...], followers: dict[tuple[int, ...], Counter[int]]) -> Tensor:
        known = self._rows.get(context)
        if known is not None:
            return known
        lower = (
            self._row(context[1:], followers) if context else torch.full((self.units,), 1 / self.units, dtype=torch.float64)
        )
        seen = followers.get(context)
        row = lower
        if seen:
            row = lower * len(seen)
            units = list(seen)
            row[units] += torch.tensor([seen[unit] for unit in units], dtype=torch.float64)
            row = row / (seen.total() + len(seen))
        self._rows[context] = row
        return row

    def scores(self, ids: Tensor, length: Tensor) -> Tensor:
        """Return the log probabilities of the units after sequences ``[B, W, V]``; at index 0 that they end.

        Args:
            ids: ``[B, W, L]``, padded with 0.
            length: ``[B, W]``.
        """
        flat, lengths = ids.flatten(0, 1).tolist(), length.flatten().tolist()
        rows = [self.after(sequence[max(n - self.order + 1, 0) : n]) for sequence, n in zip(flat, lengths, strict=True)]
        return torch.stack(rows).log().reshape(*length.shape, self.units).to(ids.device)

    def check(self) -> None:
        if len(self.grams) != len(self.counts) or self.grams.shape[1] not in (0, self.order):
            raise ValueError(f"{tuple(self.grams.shape)} n-grams of order {self.order} and {len(self.counts)} counts")
        if self.grams.numel() and not 0 <= int(self.grams.min()) <= int(self.grams.max()) < self.units:
            raise ValueError("an n-gram has ids outside the vocabulary")
        if self.counts.numel() and int(self.counts.min()) < 1:
            raise ValueError("an n-gram has no count")
