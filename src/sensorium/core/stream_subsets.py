"""The sets of streams that experts are fitted for, and the choice of the set that answers a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

ALL = 4
"""Number of streams up to which every subset is listed; beyond it, only all, all but one, and each alone."""


def coalitions(streams: Sequence[str]) -> list[tuple[str, ...]]:
    """The subsets of ``streams`` for which experts are fitted, the largest first; the last is empty."""
    n = len(streams)
    sizes = range(n, 0, -1) if n <= ALL else sorted({n, n - 1, 1}, reverse=True)
    return [*(subset for size in sizes for subset in combinations(streams, size)), ()]


def route_rows(streams: Sequence[str], sets: Sequence[Sequence[str]], present: Mapping[str, Tensor]) -> Tensor:
    """Return, for each row, the index ``[B]`` of the first of ``sets`` whose streams are all ``present``; ``streams``
    are in the model's order.

    ``sets`` are ordered as by ``coalitions``, so that the first that fits is the largest.
    """
    presence = torch.stack([present[stream] for stream in streams], dim=1)  # [B, S]
    needs = torch.tensor([[stream in subset for stream in streams] for subset in sets], device=presence.device)  # [sets, S]
    fits = (presence[:, None, :] | ~needs[None]).all(dim=2)
    return fits.to(torch.int8).argmax(dim=1)
