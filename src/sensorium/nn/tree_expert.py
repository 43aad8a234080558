"""Base class of tree-based experts: the sets of streams that trees are fitted for, and prediction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.expert import Expert, Observed, Response
from sensorium.core.stream_subsets import coalitions, route_rows
from sensorium.nn.linear_solvers import Floats, fits, prior
from sensorium.nn.tree_ensemble import TYPES, Trees, check_trees, evaluated

FEWEST = 20
"""Fewest rows for which a set of streams gets trees; other rows fall back to a smaller set."""
BYTES = 30_000_000
"""Size limit of all trees of one expert together."""


class TreeExpert(Expert):
    """Trees for all streams together, for all but one, and for each alone; a row uses the largest set it has.

    A set with fewer than twenty rows, or whose targets do not vary, has no trees.
    """

    reads: Literal["features", "compact"] = "compact"  # type: ignore[misc]

    def __init__(self, response: Response, streams: Sequence[str]) -> None:
        super().__init__(response, streams)
        n = len(self.streams)
        self.sets = [some for some in coalitions(self.streams) if len(some) in (n, n - 1, 1, 0)]
        self.bytes = BYTES // max(1, len(self.sets) - 1)
        self.prior: Tensor
        self.declare("prior", torch.float32, 1)
        for place in range(len(self.sets) - 1):
            for name, kind in TYPES.items():
                self.declare(f"{name}_{place}", kind, 2 if name == "value" else 1)

    @abstractmethod
    def grown(self, some: tuple[str, ...], x: NDArray[np.float32], y: NDArray[Any], weight: Floats, seed: int) -> Trees:
        """Fit trees for one set of streams.

        Args:
            some: The streams of the set.
            x: Features ``[rows, f]``, NaN where missing.
            y: Targets of the rows.
            weight: Weight of each row.
            seed: Random seed.
        """

    @abstractmethod
    def answered(self, raw: Tensor) -> Tensor:
        """Convert the trees' output ``raw`` ``[B, K]`` to scores ``[B, size]``, both float64."""

    def fit(self, rows: Observed, seed: int) -> None:
        self.keep("prior", torch.from_numpy(prior(self.response, rows.target, rows.weight)))
        for place, some in enumerate(self.sets[:-1]):
            index = np.flatnonzero(np.all([rows.present[stream] for stream in some], axis=0))
            if len(index) < FEWEST or not fits(self.response, rows.target[index]):
                continue
            x = np.concatenate([rows.compact[stream][index] for stream in some], axis=1).astype(np.float32, copy=False)
            if x.shape[1]:
                weight = rows.weight[index] / rows.weight[index].mean()
                for name, values in self.grown(some, x, rows.target[index], weight, seed)._asdict().items():
                    self.keep(f"{name}_{place}", values)

    def check(self) -> None:
        for place in range(len(self.sets) - 1):
            check_trees(Trees(*(getattr(self, f"{name}_{place}") for name in TYPES)))

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        trees = {i: Trees(*(getattr(self, f"{name}_{i}") for name in TYPES)) for i in range(len(self.sets) - 1)}
        fitted = [i for i, those in trees.items() if len(those.root)]
        which = route_rows(self.streams, [*(self.sets[i] for i in fitted), ()], present)
        out = self.prior.expand(len(which), -1).clone()
        for number, place in enumerate(fitted):
            index = (which == number).nonzero()[:, 0]
            if len(index):
                x = torch.cat([features[stream][index] for stream in self.sets[place]], dim=1).float()
                out[index] = self.answered(evaluated(trees[place], x)).to(out)
        return out
