"""Vectors that another model made."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Blob
from sensorium.modalities.series import Series
from sensorium.modalities.vector import Vector

VECTORS = [row * 3 + 1 for row in np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)]


def fitted(**options: Any) -> Vector:
    modality = Vector(**options)
    modality.fit(VECTORS)
    return modality


def npy(array: Any) -> Blob:
    file = io.BytesIO()
    np.save(file, array)
    return Blob(file.getvalue(), "a.npy")


def test_every_way_to_write_one_is_the_same() -> None:
    modality = fitted()
    vector = VECTORS[0]
    for cell in (vector, vector.tolist(), npy(vector), npy(vector[None]), npy(vector.astype(">f8"))):
        assert np.array_equal(modality.encode(cell), vector)


def test_normalised_as_asked() -> None:
    for normalise, mean, deviation in (("standard", np.mean(VECTORS, 0), np.std(VECTORS, 0)), ("none", 0, 1)):
        modality = fitted(normalise=normalise)
        field = modality.prepare(modality.collate([modality.encode(v) for v in VECTORS]))
        assert np.allclose(field.data[..., 0], (np.array(VECTORS) - mean) / deviation, atol=1e-4)
    modality = fitted(normalise="unit")
    field = modality.prepare(modality.collate([modality.encode(v * 1e20) for v in VECTORS]))
    expected = np.array(VECTORS) / np.linalg.norm(VECTORS, axis=1, keepdims=True) * 8**0.5
    assert np.allclose(field.data[..., 0], expected, atol=1e-4)


def test_noise_in_training_only() -> None:
    modality = fitted(noise=0.5)
    stored = modality.collate([modality.encode(v) for v in VECTORS])
    noise = modality.prepare(stored, torch.Generator().manual_seed(0)).data - modality.prepare(stored).data
    assert 0.4 < float(noise.std()) < 0.6


BAD = [
    ([1.0, 2.0], "2 numbers, in training they had 8"),
    ([1.0] * 7 + [float("nan")], "not finite"),
    ([1.0] * 7 + [1e300], "not finite"),
    (["a"] * 8, "not a vector"),
    ([[1.0] * 8] * 2, "not a vector"),
    ([], "not a vector"),
    (Blob(b"0.1 0.2", "a.txt"), "NPY"),
    (Blob(npy(VECTORS[0]).data[:-1], "cut.npy"), "cut short"),
]


@pytest.mark.parametrize(("cell", "problem"), BAD)
def test_bad_cells_are_refused_in_words(cell: Any, problem: str) -> None:
    with pytest.raises(CellError, match=problem):
        fitted().encode(cell)


def test_what_is_guessed() -> None:
    cells = [v.tolist() for v in VECTORS]
    for inputs in (cells, [json.dumps(cell) for cell in cells], VECTORS, ["a.npy"]):
        for name, wins in (("clip_embedding", True), ("vec", True), ("heartbeat", False), ("vectorised", False)):
            assert (Vector.sniff(inputs, name).score > Series.sniff(inputs, name).score) == wins, name


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="noise"):
        Vector(noise=-1.0)
