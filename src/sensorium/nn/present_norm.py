"""Batch normalisation of vectors over the rows that have them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PresentNorm(nn.BatchNorm1d):
    """Batch normalisation without scale and shift of vectors ``[B, D]``, over the rows that have one; others give zero.

    A training batch with fewer than two such rows is normalised by the running statistics.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:  # type: ignore[override]
        """Return normalised ``vectors`` ``[B, D]``, zero where not ``present`` ``[B]``."""
        vectors = vectors.float()
        rows = present.nonzero()[:, 0]
        if self.training and len(rows) > 1:
            normal = super().forward(vectors[rows])
            return vectors.new_zeros(vectors.shape).index_copy(0, rows, normal)
        normal = F.batch_norm(vectors, self.running_mean, self.running_var, eps=self.eps)
        return normal.masked_fill(~present[:, None], 0.0)
