"""SMILES parser: molecules as graphs of atoms and bonds, read by RDKit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sensorium.core.errors import CellError, MissingExtraError
from sensorium.core.modality import Array

CHARACTERS = 5_000
ELEMENTS = ("H", "B", "C", "N", "O", "F", "Na", "Si", "P", "S", "Cl", "K", "Ca", "Fe", "Zn", "Se", "Br", "Sn", "I")
SIZES = (len(ELEMENTS) + 1, 7, 5, 5, 2, 2, 7, 3)
"""Number of values of each atom code: element, degree, charge, hydrogens, aromatic, ring, hybridisation, chirality."""
BONDS = 5
"""Number of bond types: single, double, triple, aromatic, other."""


def read_smiles(text: str) -> tuple[Array, Array]:
    """Parse the SMILES ``text`` to codes of atoms ``[N, 8]`` and types of bonds ``[N, N]`` (0: no bond), both uint8.

    Raises:
        CellError: The text is not the SMILES of a possible molecule, or is too long.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise MissingExtraError("reading SMILES", "molecule") from None
    text = text.strip()
    if len(text) > CHARACTERS:
        raise CellError(f"{len(text)} characters are more than the {CHARACTERS} allowed for a molecule")
    if not text.isascii() or "\0" in text:
        raise CellError(f"{text[:40]!r} is not a SMILES")
    with rdBase.BlockLogs():
        # A name may follow the SMILES after a blank.
        molecule = Chem.MolFromSmiles(text.split()[0]) if text else None
    if molecule is None:
        raise CellError(f"{text[:60]!r} is not the SMILES of a possible molecule")
    atoms = list(molecule.GetAtoms())
    if not atoms:
        raise CellError("the molecule has no atoms")
    hybrids = [getattr(Chem.HybridizationType, name) for name in ("S", "SP", "SP2", "SP3", "SP3D", "SP3D2")]
    hands = [Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW]
    codes = [
        (
            _code(atom.GetSymbol(), ELEMENTS),
            min(atom.GetDegree(), 6),
            min(max(atom.GetFormalCharge(), -2), 2) + 2,
            min(atom.GetTotalNumHs(), 4),
            int(atom.GetIsAromatic()),
            int(atom.IsInRing()),
            _code(atom.GetHybridization(), hybrids),
            _code(atom.GetChiralTag(), hands),
        )
        for atom in atoms
    ]
    orders = [getattr(Chem.BondType, name) for name in ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")]
    bonds = np.zeros((len(atoms), len(atoms)), np.uint8)
    for bond in molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[i, j] = bonds[j, i] = _code(bond.GetBondType(), orders) or BONDS
    return np.array(codes, np.uint8), bonds


def _code(value: object, known: Sequence[object]) -> int:
    """Return the index of a value among the known ones, from 1; 0 for any other."""
    return known.index(value) + 1 if value in known else 0
