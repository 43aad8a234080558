"""Molecule parser: SMILES, and MOL and SDF files with the positions of atoms, as graphs of atoms and bonds, by RDKit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sensorium.core.errors import CellError, MissingExtraError
from sensorium.core.modality import Array, Blob

if TYPE_CHECKING:
    from rdkit import Chem

CHARACTERS = 5_000
BYTES = 1_000_000
"""The largest MOL or SDF file; one of 512 atoms has about 50,000 bytes."""
FARTHEST = 10_000.0
"""The largest coordinate in ångström."""
ENDINGS = (".sdf", ".sd", ".mol")
SPLIT = "split the file after each line $$$$, and name the parts in rows of their own"
ELEMENTS = ("H", "B", "C", "N", "O", "F", "Na", "Si", "P", "S", "Cl", "K", "Ca", "Fe", "Zn", "Se", "Br", "Sn", "I")
SIZES = (len(ELEMENTS) + 1, 7, 5, 5, 2, 2, 7, 3)
"""Number of values of each atom code: element, degree, charge, hydrogens, aromatic, ring, hybridisation, chirality."""
BONDS = 5
"""Number of bond types: single, double, triple, aromatic, other."""


class Atoms(NamedTuple):
    """A molecule without its plain hydrogens.

    Args:
        codes: Codes of each atom ``[N, 8]`` uint8, below ``SIZES``.
        bonds: Types of bonds ``[N, N]`` uint8, 0 for none.
        positions: Positions in ångström ``[N, 3]`` float32 with their mean at 0; None if the molecule came without.
    """

    codes: Array
    bonds: Array
    positions: Array | None


def names_molecule_file(cell: Any) -> bool:
    """Return whether ``cell`` is the name of a MOL or SDF file. No SMILES ends like one."""
    if not isinstance(cell, (str, os.PathLike)):
        return False
    text = os.fspath(cell).strip()
    return text.lower().endswith(ENDINGS) and "\n" not in text


def is_molfile(text: str) -> bool:
    """Return whether ``text`` is the content of a MOL or SDF file rather than a SMILES."""
    start = text[:2000]  # the version ends the fourth line
    return "\n" in start and ("V2000" in start or "V3000" in start)


def read_molecule(cell: Any) -> Atoms:
    """Parse a molecule: SMILES, or the content of a MOL file (V2000, V3000) or of an SDF file with one molecule.

    Coordinates of a drawing (2-D) are no positions.

    Args:
        cell: Text, or an opened file.

    Raises:
        CellError: The cell is no possible molecule, is damaged or too large, or holds several molecules.
    """
    name = cell.name if isinstance(cell, Blob) else None
    if isinstance(cell, Blob):
        if len(cell.data) > BYTES:
            raise CellError(f"{len(cell.data):,} bytes are more than the {BYTES:,} allowed for a molecule", file=name)
        cell = cell.data.decode("utf-8-sig", "replace")
    if not isinstance(cell, str):
        raise CellError(f"a {type(cell).__name__} is no molecule", fix="write SMILES (CCO), or name a MOL or SDF file")
    try:
        return _read_file(cell) if "\n" in cell.strip() else read_smiles(cell)
    except CellError as error:
        raise CellError(error.problem, file=name, fix=error.fix) from None


def read_smiles(text: str) -> Atoms:
    """Parse the SMILES ``text``.

    Raises:
        CellError: The text is not the SMILES of a possible molecule, or is too long.
    """
    chem, silent = _rdkit("reading SMILES")
    text = text.strip()
    if len(text) > CHARACTERS:
        raise CellError(f"{len(text)} characters are more than the {CHARACTERS} allowed for a molecule")
    if not text.isascii() or "\0" in text:
        raise CellError(f"{text[:40]!r} is not a SMILES")
    with silent():
        # A name may follow the SMILES after a blank.
        molecule = chem.MolFromSmiles(text.split()[0]) if text else None
    if molecule is None:
        raise CellError(f"{text[:60]!r} is not the SMILES of a possible molecule")
    return _atoms(molecule)


def _read_file(text: str) -> Atoms:
    chem, silent = _rdkit("reading MOL and SDF files")
    if len(text) > BYTES:
        raise CellError(f"{len(text):,} characters are more than the {BYTES:,} allowed for a molecule")
    if "\0" in text or not is_molfile(text):
        raise CellError("not a MOL or SDF file", fix="its fourth line ends in V2000 or V3000")
    first, *others = text.replace("\r\n", "\n").replace("\r", "\n").split("$$$$")
    records = 1 + sum(bool(part.strip()) for part in others)
    if records > 1:
        # In the words of the problem: lists of unusable cells do not show the fix.
        raise CellError(f"the file holds {records} molecules, and a cell is one; {SPLIT}")
    with silent():
        try:
            molecule = chem.MolFromMolBlock(first, removeHs=True)
        except (RuntimeError, ValueError):  # conditions of RDKit that a damaged file violates
            molecule = None
    if molecule is None:
        raise CellError("the file is damaged, or its molecule is impossible", fix="open it in a chemistry program")
    return _atoms(molecule)


def _rdkit(purpose: str) -> tuple[Any, Any]:
    """RDKit's chemistry and what keeps it from writing to the terminal."""
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise MissingExtraError(purpose, "molecule") from None
    return Chem, rdBase.BlockLogs


def _atoms(molecule: Chem.Mol) -> Atoms:
    from rdkit import Chem

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
    return Atoms(np.array(codes, np.uint8), bonds, _positions(molecule))


def _positions(molecule: Chem.Mol) -> Array | None:
    """The positions ``[N, 3]`` around their mean; None where the molecule has none, or only those of a drawing."""
    conformers = molecule.GetConformers()
    if not conformers or not conformers[0].Is3D():
        return None
    places = np.asarray(conformers[0].GetPositions(), np.float64)
    if not np.isfinite(places).all() or np.abs(places).max() > FARTHEST:
        raise CellError(f"positions are not within {FARTHEST:,.0f} Å of the origin")
    if len(places) > 1 and not np.ptp(places, axis=0).any():
        return None  # all in one place: a file whose positions were never computed
    centred: Array = (places - places.mean(axis=0)).astype(np.float32)
    return centred


def _code(value: object, known: Sequence[object]) -> int:
    """Return the index of a value among the known ones, from 1; 0 for any other."""
    return known.index(value) + 1 if value in known else 0
