"""The decision of a support vector machine that scikit-learn fitted, in tensors."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn


class SupportVectors(nn.Module):
    """``SVC(kernel="rbf", decision_function_shape="ovr").decision_function`` on standardised features.

    There is room for ``most`` support vectors; places left over have coefficients of zero, so that the shapes are known
    before it is fitted. Each two classes have a machine of their own. A class's value is its number of wins, and within
    half a win how clear they were, as in scikit-learn's ``_ovr_decision_function``.
    """

    def __init__(self, dim: int, classes: int, most: int, gamma: float) -> None:
        super().__init__()
        self.classes, self.gamma = classes, gamma
        self.fitted: Tensor
        self.known: Tensor
        self.middle: Tensor
        self.spread: Tensor
        self.vectors: Tensor
        self.owner: Tensor
        self.coefficients: Tensor
        self.bias: Tensor
        pairs = classes * (classes - 1) // 2
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("known", torch.ones(classes, dtype=torch.bool))
        self.register_buffer("middle", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))
        self.register_buffer("vectors", torch.zeros(most, dim))
        self.register_buffer("owner", torch.zeros(most, dtype=torch.long))
        # A vector's coefficient against each class but its own; the column of its own class stays zero.
        self.register_buffer("coefficients", torch.zeros(most, classes))
        self.register_buffer("bias", torch.zeros(pairs))

    @torch.no_grad()
    def adopt(self, svc: Any, middle: Tensor, spread: Tensor) -> None:
        """Copy a fitted ``sklearn.svm.SVC`` ``svc``, whose classes are indices, some possibly absent; ``middle`` and
        ``spread`` standardise its inputs."""
        self.middle.copy_(middle)
        self.spread.copy_(spread)
        places = torch.as_tensor(svc.classes_)
        self.known.fill_(False)
        self.known[places] = True
        count = svc.support_vectors_.shape[0]
        for buffer in (self.vectors, self.owner, self.coefficients, self.bias):
            buffer.zero_()
        self.vectors[:count] = torch.as_tensor(svc.support_vectors_).to(self.vectors)
        own = torch.arange(len(places)).repeat_interleave(torch.as_tensor(svc.n_support_).long())
        self.owner[:count] = places[own]
        dual = torch.as_tensor(svc.dual_coef_).to(self.coefficients)  # [k - 1, n]
        for row, values in enumerate(dual):
            # Row r of libsvm's coefficients is against class r, or r + 1 from the vector's own class on.
            against = places[torch.where(row < own, row, min(row + 1, len(places) - 1))]
            self.coefficients[torch.arange(count), against] = values
        order = {pair: at for at, pair in enumerate(combinations(range(self.classes), 2))}
        # scikit-learn turns the signs round where there are two classes.
        sign = -1.0 if len(places) == 2 else 1.0
        self.coefficients *= sign
        for (a, b), value in zip(combinations(places.tolist(), 2), svc.intercept_.tolist(), strict=True):
            self.bias[order[a, b]] = sign * value
        self.fitted.fill_(True)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, D]`` to decision values ``[B, K]``; two classes: ``[-d, d]``."""
        x = (x.float() - self.middle) / self.spread
        kernel = (-self.gamma * torch.cdist(x, self.vectors).square()).exp()  # [B, n]
        owner = nn.functional.one_hot(self.owner, self.classes).to(x)
        # What the vectors of class i (last axis) say against class j.
        said = torch.einsum("bn,nj,ni->bji", kernel, self.coefficients, owner)
        first, second = torch.triu_indices(self.classes, self.classes, offset=1, device=x.device)
        margin = said[:, second, first] + said[:, first, second] + self.bias  # [B, pairs], above 0: the first wins
        both = self.known[first] & self.known[second]
        return self.counted(margin.masked_fill(~both, 0.0), first, second, both)

    def counted(self, margin: Tensor, first: Tensor, second: Tensor, both: Tensor) -> Tensor:
        """Votes for each class, and their total margin, from the pairwise ``margin`` between the classes ``first`` and
        ``second``; ``both``: whether both classes exist."""
        if self.classes == 2:
            return torch.cat([margin, -margin], dim=1)
        wins = margin.new_zeros((margin.shape[0], self.classes))
        clear = torch.zeros_like(wins)
        won = (margin >= 0).to(margin)
        wins = wins.index_add(1, first, won * both).index_add(1, second, (1 - won) * both)
        clear = clear.index_add(1, first, margin).index_add(1, second, -margin)
        decided = wins + clear / (3 * (clear.abs() + 1))
        # A class without a training row has no machine, and never wins.
        return decided.masked_fill(~self.known, -1.0)
