"""Dimensionality reduction of wide features by their Gram matrix, exact for linear models with a quadratic penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS = 3_000
"""Largest number of rows for which the Gram matrix is computed."""
DENSE = 0.1
"""Columns of a sparse matrix with a larger share of non-zeros are multiplied as dense columns."""
JITTER = 1e-8


def products(x: Any) -> Floats:
    """Return the Gram matrix ``x @ x.T`` ``[n, n]`` of an array or CSR matrix ``[n, F]``."""
    if isinstance(x, np.ndarray):
        wide = x.astype(np.float64, copy=False)
        gram: Floats = wide @ wide.T
        return gram
    filled = np.asarray((x != 0).sum(axis=0)).ravel() > DENSE * x.shape[0]
    often = x[:, filled].toarray().astype(np.float64)
    rare = x[:, ~filled].astype(np.float64)
    both: Floats = often @ often.T + np.asarray((rare @ rare.T).todense())
    return both


@dataclass(frozen=True)
class GramProjection:
    """Scaled blocks of features, concatenated in the form a linear model is fitted on.

    If there are more columns than rows and all Gram matrices are known, they are replaced by the Cholesky factor L of
    K = L Lᵀ. It preserves lengths and angles, so a model with a quadratic penalty, on all rows or a part, is the same
    (representer theorem).

    Args:
        x: ``[n, F]`` or ``[n, n]``.
        blocks: The original features.
        scales: Factor of each block.
        factor: L, if ``x`` is that; else None.
    """

    x: Any
    blocks: Sequence[Any]
    scales: Sequence[float]
    factor: Floats | None = None

    @classmethod
    def of(
        cls, blocks: Sequence[Any], scales: Sequence[float], pairs: Sequence[Floats | None], kind: Any
    ) -> GramProjection:
        """Build the matrix from blocks of features.

        Args:
            blocks: Features ``[n, F_i]``, arrays or CSR matrices.
            scales: Factor of each block.
            pairs: Gram matrix of each block, or None where unknown.
            kind: Number type of the concatenated features.
        """
        rows, width = blocks[0].shape[0], sum(block.shape[1] for block in blocks)
        from scipy import sparse
        from scipy.linalg import cholesky

        if width > rows and all(pair is not None for pair in pairs):
            total, term = np.zeros((rows, rows)), np.empty((rows, rows))
            for scale, pair in zip(scales, pairs, strict=True):
                assert pair is not None
                total += np.multiply(pair, scale**2, out=term)
            total[np.diag_indices(rows)] += JITTER * max(float(np.trace(total)) / rows, 1e-12)
            factor: Floats = cholesky(total, lower=True, overwrite_a=True, check_finite=False)
            return cls(factor.astype(np.float32), blocks, scales, factor)

        made = [_scaled(block, scale, kind) for block, scale in zip(blocks, scales, strict=True)]
        if len(made) == 1:
            return cls(made[0], blocks, scales)
        dense = all(isinstance(block, np.ndarray) for block in made)
        return cls(np.concatenate(made, axis=1) if dense else sparse.hstack(made, format="csr"), blocks, scales)

    def weights(self, fitted: Floats) -> Floats:
        """Convert ``fitted`` weights of ``x`` ``[columns, k]`` to weights ``[F, k]`` of the original features."""
        if self.factor is None:
            each = np.concatenate([np.full(b.shape[1], s) for b, s in zip(self.blocks, self.scales, strict=True)])
            weights: Floats = fitted * each[:, None]
            return weights
        from scipy.linalg import solve_triangular

        rows = solve_triangular(self.factor, fitted, lower=True, trans="T")
        return np.concatenate(
            [scale**2 * np.asarray(block.T @ rows) for block, scale in zip(self.blocks, self.scales, strict=True)]
        )


def _scaled(block: Any, scale: float, kind: type) -> Any:
    """``block`` times ``scale`` as numbers of ``kind``; a sparse one shares its indices with ``block``, which are as large
    as its values."""
    if isinstance(block, np.ndarray):
        return (block * scale).astype(kind, copy=False)
    values = (block.data * scale).astype(kind, copy=False)
    return type(block)((values, block.indices, block.indptr), shape=block.shape)
