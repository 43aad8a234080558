"""Molecules as graphs, read from SMILES by RDKit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sensorium.core.errors import CellError, MissingExtraError
from sensorium.core.modality import Array

CHARACTERS = 5_000
ELEMENTS = ("H", "B", "C", "N", "O", "F", "Na", "Si", "P", "S", "Cl", "K", "Ca", "Fe", "Zn", "Se", "Br", "Sn", "I")
SIZES = (len(ELEMENTS) + 1, 7, 5, 5, 2, 2, 7, 3)
"""How many values each code of an atom has: element, bonds, charge, hydrogens, aromatic, in a ring, hybrid, handedness."""
BONDS = 5
"""Kinds of bond: single, double, triple, aromatic, another."""


def read_smiles(text: str) -> tuple[Array, Array]:
    """The codes of a molecule's atoms ``[N, 8]`` and the kinds of the bonds between them ``[N, N]``, both uint8.

    0 of ``bonds`` is none. Raises ``CellError`` on what is no molecule.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise MissingExtraError("reading SMILES", "molecule") from None
    text = text.strip()
    if len(text) > CHARACTERS:
        raise CellError(f"{len(text)} characters are more than the {CHARACTERS} allowed of a molecule")
    if not text.isascii() or "\0" in text:
        raise CellError(f"{text[:40]!r} is no SMILES")
    with rdBase.BlockLogs():
        # A name may follow after a blank.
        molecule = Chem.MolFromSmiles(text.split()[0]) if text else None
    if molecule is None:
        raise CellError(f"{text[:60]!r} is no SMILES of a possible molecule")
    atoms = list(molecule.GetAtoms())
    if not atoms:
        raise CellError("the molecule has no atom")
    hybrids = [getattr(Chem.HybridizationType, name) for name in ("S", "SP", "SP2", "SP3", "SP3D", "SP3D2")]
    hands = [Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW]
    codes = [
        (
            _place(atom.GetSymbol(), ELEMENTS),
            min(atom.GetDegree(), 6),
            min(max(atom.GetFormalCharge(), -2), 2) + 2,
            min(atom.GetTotalNumHs(), 4),
            int(atom.GetIsAromatic()),
            int(atom.IsInRing()),
            _place(atom.GetHybridization(), hybrids),
            _place(atom.GetChiralTag(), hands),
        )
        for atom in atoms
    ]
    orders = [getattr(Chem.BondType, name) for name in ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")]
    bonds = np.zeros((len(atoms), len(atoms)), np.uint8)
    for bond in molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[i, j] = bonds[j, i] = _place(bond.GetBondType(), orders) or BONDS
    return np.array(codes, np.uint8), bonds


def _place(value: object, known: Sequence[object]) -> int:
    """The place of a value among the known ones, from 1; 0 for any other."""
    return known.index(value) + 1 if value in known else 0
