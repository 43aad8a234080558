"""Rows gathered in chunks are those that came, in their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.training import row_buffers
from sensorium.training.row_buffers import DenseRows, SparseRows


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_chunks_are_gathered_in_order(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_buffers, "LARGE", 4)
    draw = np.random.default_rng(chunk)
    whole = np.where(draw.random((40, 9)) < 0.3, draw.normal(size=(40, 9)), 0).astype(np.float32)
    whole[5] = 0
    dense, sparse = DenseRows(50), SparseRows(50)
    for start in range(0, 40, chunk):
        dense.add(whole[start : start + chunk])
        sparse.add(torch.from_numpy(whole[start : start + chunk]).to_sparse())
    np.testing.assert_array_equal(dense.array, whole)
    matrix = sparse.matrix
    assert matrix.shape == (40, 9)
    assert matrix.nnz == np.count_nonzero(whole)
    assert matrix.has_canonical_format
    np.testing.assert_array_equal(matrix.toarray(), whole)
