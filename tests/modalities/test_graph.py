"""Graphs and molecules as cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Graph as Layout
from sensorium.modalities.category import Category
from sensorium.modalities.graph import Graph
from sensorium.modalities.molecule import Molecule
from sensorium.modalities.text import Text

CELLS: list[Any] = [
    {"nodes": ["a", "b", "a"], "edges": [[0, 1, "x"], [1, 2, "y"]]},
    {"nodes": ["c", "b"], "edges": [[1, 0, "y"]]},
    {"nodes": ["a"], "edges": []},
]


def fitted(cells: Any = CELLS, **options: Any) -> Graph:
    modality = Graph(**options)
    modality.fit(cells)
    return modality


def ready(modality: Any, cells: Any) -> Any:
    return modality.prepare(modality.collate([modality.encode(cell) for cell in cells]))


def test_the_layout() -> None:
    modality = fitted(count=5)
    assert modality.layout == Layout(4, 3, 5)
    field = ready(modality, CELLS)
    assert field.data.shape == (3, 3, 9)
    assert field.mask.tolist() == [[True] * 3, [True, True, False], [True, False, False]]
    assert field.data[0, :, :4].argmax(-1).tolist() == [1, 2, 1]
    assert field.data[0, :, 4:7].tolist() == [[0, 2, 0], [2, 0, 3], [0, 3, 0]]
    assert not field.data[1, 2].any()


def test_directed_edges_are_heard_at_their_end() -> None:
    field = ready(fitted(count=5, directed=True), CELLS)
    assert field.data[0, :, 4:7].tolist() == [[0, 0, 0], [2, 0, 0], [0, 3, 0]]


def test_unseen_labels_are_one_more() -> None:
    modality = fitted(count=4)
    field = ready(modality, [{"nodes": ["new", "a"], "edges": [[0, 1, "new"]]}, {"nodes": ["a", "b"], "edges": [[0, 1]]}])
    assert field.data[0, 0, :4].tolist() == [1, 0, 0, 0]
    assert field.data[:, 0, 5].tolist() == [1, 1]


def test_numbers_are_standardised() -> None:
    draw = np.random.default_rng(0)
    cells = [{"nodes": (draw.standard_normal((6, 2)) * [3, 5] + 7).tolist(), "edges": [[0, 1]]} for _ in range(30)]
    modality = fitted(cells)
    assert modality.layout == Layout(2, 1, 9)
    values = ready(modality, cells).data[..., :2].flatten(0, 1)
    assert torch.allclose(values.mean(0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(values.std(0, correction=0), torch.ones(2), atol=1e-4)
    with pytest.raises(CellError, match="labels, in training they were 2 numbers"):
        modality.encode(CELLS[0])


def test_too_large_is_said() -> None:
    with pytest.raises(CellError, match="3 nodes, more than the 2"):
        fitted(count=2).encode(CELLS[0])
    molecule = Molecule(count=3)
    molecule.fit(["CCO"])
    with pytest.raises(CellError, match="4 atoms, more than the 3"):
        molecule.encode("CCCO")
    for kind in (Graph, Molecule):
        with pytest.raises(ConfigError, match="count"):
            kind(count=0)


def test_molecules_written_in_another_order_are_the_same_graph() -> None:
    molecule = Molecule()
    molecule.fit(["CCO", "OCC"])
    one, other = ready(molecule, ["CCO"]).data[0], ready(molecule, ["OCC"]).data[0]
    assert torch.equal(one[:, :-16], other.flip(0)[:, :-16])
    assert torch.equal(one[:, -16:-13], other[:, -16:-13].flip(0, 1))


def test_what_is_guessed() -> None:
    smiles = ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C)C2=O", "c1ccccc1", "CC(C)Cc1ccc(cc1)C(C)C(=O)O"]
    for name in ("smiles", "x"):
        best = max(kind.sniff(smiles, name).score for kind in (Text, Category))
        assert Molecule.sniff(smiles, name).score > best
    for words in (
        ["COCO", "PINK", "NO", "SINCE"],
        ["12", "3.5", "7"],
        ["2024-05-31", "2024-06-01"],
        ["a1", "b2"],
        ["OK", "NO"],
    ):
        assert Molecule.sniff(words, "x").score < 0.11
    assert Molecule.sniff(["C12", "C13", "N7"], "drug").score < 0.11
    assert Molecule.sniff(["CCO", "CCN", "C"], "SMILES").score > 0.9
    assert Graph.sniff(['{"nodes": 3}', {"nodes": 2}], "x").score > 0.9
    assert Graph.sniff(["a.json"], "x").score == 0.7
    assert Graph.sniff(["{x}", "words", 3], "x").score == 0
