"""The decision function of a support vector machine fitted by scikit-learn, in tensors."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn


class SupportVectors(nn.Module):
    """``SVC(kernel="rbf", decision_function_shape="ovr").decision_function`` on standardised features.

    Buffers hold up to ``most`` support vectors, so that shapes are known before fitting; unused ones have zero
    coefficients. Each pair of classes has its own machine. The value of a class is its number of wins plus a bounded
    confidence term, as in scikit-learn's ``_ovr_decision_function``.

    Args:
        dim: Number of features.
        classes: Number of classes.
        most: Maximum number of support vectors.
        gamma: Coefficient of the RBF kernel.
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
        """Copy a fitted machine into the buffers.

        Args:
            svc: The fitted ``sklearn.svm.SVC``; its classes are indices, some may be absent.
            middle: Means of the features, for standardisation.
            spread: Standard deviations of the features.
        """
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
        # scikit-learn flips the signs for two classes.
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
        # Contributions of the vectors of class i (last axis) against class j.
        votes = torch.einsum("bn,nj,ni->bji", kernel, self.coefficients, owner)
        first, second = torch.triu_indices(self.classes, self.classes, offset=1, device=x.device)
        margin = votes[:, second, first] + votes[:, first, second] + self.bias  # [B, pairs], above 0: the first wins
        both = self.known[first] & self.known[second]
        return self.counted(margin.masked_fill(~both, 0.0), first, second, both)

    def counted(self, margin: Tensor, first: Tensor, second: Tensor, both: Tensor) -> Tensor:
        """Return the number of wins of each class plus a bounded confidence term ``[B, K]``.

        Args:
            margin: Decision values of the pairs ``[B, pairs]``; positive for the first class.
            first: First class of each pair.
            second: Second class of each pair.
            both: Whether both classes of a pair occurred in training.
        """
        if self.classes == 2:
            return torch.cat([margin, -margin], dim=1)
        wins = margin.new_zeros((margin.shape[0], self.classes))
        clear = torch.zeros_like(wins)
        won = (margin >= 0).to(margin)
        wins = wins.index_add(1, first, won * both).index_add(1, second, (1 - won) * both)
        clear = clear.index_add(1, first, margin).index_add(1, second, -margin)
        decided = wins + clear / (3 * (clear.abs() + 1))
        # A class without training rows has no machine and never wins.
        return decided.masked_fill(~self.known, -1.0)
