"""Graph decoder and SMILES parser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.codecs.graph import read_graph
from sensorium.codecs.molecule import ELEMENTS, SIZES, read_smiles
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob

Chem = pytest.importorskip("rdkit.Chem")

CELL = {"nodes": ["a", "b", "a"], "edges": [[0, 1, "x"], [1, 2, "y"]]}


def test_mapping_text_and_bytes_are_equivalent() -> None:
    text = json.dumps(CELL)
    for cell in (CELL, text, text.encode(), Blob(text.encode(), "a.json")):
        nodes, edges, labels = read_graph(cell)
        assert nodes == ["a", "b", "a"]
        assert edges.tolist() == [[0, 1], [1, 2]]
        assert labels == ["x", "y"]


def test_nodes_as_count_or_features() -> None:
    assert np.array_equal(read_graph({"nodes": 3}).nodes, np.ones((3, 1)))
    assert np.array_equal(read_graph({"nodes": [1, 2.5]}).nodes, [[1], [2.5]])
    assert np.array_equal(read_graph({"nodes": [[1, 2], [3, 4]]}).nodes, [[1, 2], [3, 4]])


BAD: list[tuple[Any, str]] = [
    ("{", "invalid JSON"),
    (b"\xff\xfe", "invalid JSON"),
    ([1, 2], "not a graph"),
    ({"edges": []}, "not a graph"),
    ({"nodes": 0}, "no node"),
    ({"nodes": []}, "no node"),
    ({"nodes": 10**9}, "allowed"),
    ({"nodes": True}, "bool"),
    ({"nodes": [1, "a"]}, "neither all labels"),
    ({"nodes": [[1], [1, 2]]}, "neither all labels"),
    ({"nodes": [1, float("nan")]}, "not finite"),
    ({"nodes": 2, "edges": [[0, 2]]}, "edge 1"),
    ({"nodes": 2, "edges": [[0, -1]]}, "edge 1"),
    ({"nodes": 2, "edges": [[0, 1], [0]]}, "edge 2"),
    ({"nodes": 2, "edges": [[0, 1, "x"], [1, 0]]}, "1 of 2 edges"),
    ({"nodes": 2, "edges": 5}, "int"),
    ({"nodes": 2, "edges": [[0, 1]] * 200_001}, "allowed"),
]


@pytest.mark.parametrize(("cell", "problem"), BAD)
def test_invalid_graphs_are_refused(cell: Any, problem: str) -> None:
    with pytest.raises(CellError, match=problem):
        read_graph(cell)


MOLECULES = [
    "CCO",
    "c1ccccc1",
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "[NH4+].[Cl-]",
    "F/C=C/F",
    "N#C[Fe]",
]


@pytest.mark.parametrize("smiles", MOLECULES)
def test_atoms_and_bonds_agree_with_rdkit(smiles: str) -> None:
    codes, bonds, positions = read_smiles(smiles)
    assert positions is None
    molecule = Chem.MolFromSmiles(smiles)
    assert codes.shape == (molecule.GetNumAtoms(), len(SIZES))
    assert (codes < np.array(SIZES)).all()
    assert np.array_equal(bonds > 0, Chem.GetAdjacencyMatrix(molecule) > 0)
    for atom, code in zip(molecule.GetAtoms(), codes, strict=True):
        assert ((None, *ELEMENTS)[code[0]] or atom.GetSymbol()) == atom.GetSymbol()
        assert code[1] == atom.GetDegree()
        assert code[3] == atom.GetTotalNumHs()
        assert bool(code[4]) == atom.GetIsAromatic()
    kinds = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 4}
    for bond in molecule.GetBonds():
        assert bonds[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] == kinds[bond.GetBondType().name]


@pytest.mark.parametrize("text", ["", "hello", "C1CC", "C(C)(C)(C)(C)C", "c1cc", "C" * 6000, "\0", "水", "CC\x00C"])
def test_invalid_smiles_are_refused_silently(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CellError):
        read_smiles(text)
    assert capfd.readouterr().err == ""  # RDKit would log to the terminal


@settings(deadline=None, max_examples=100)
@given(st.text("CNOcnos()[]=#123+-@/\\.%", max_size=30))
def test_any_text_gives_a_molecule_or_a_cell_error(text: str) -> None:
    try:
        codes, bonds, _ = read_smiles(text)
    except CellError:
        return
    assert len(codes) == len(bonds)
