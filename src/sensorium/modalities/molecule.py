"""Molecules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.graph import NODES
from sensorium.codecs.molecule import BONDS, SIZES, is_molfile, names_molecule_file, read_molecule
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Graph, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_NAME = re.compile(r"(?i)smiles|(^|[\W_])(mol|molecule|compound|ligand|drug)s?($|[\W_])|分子")
_SMILES = re.compile(r"(\[[A-Za-z0-9@+\-#:*]+\]|Cl|Br|[BCNOPSFIbcnops*]|[=#$:/\\.\-()%]|\d)+")
_BOUND = re.compile(r"[=#(\[]|[cnos]\d")  # rare in words, frequent in molecules


@component
class Molecule(Modality):
    """A molecule: SMILES, such as ``CC(=O)Oc1ccccc1C(=O)O``, or a MOL or SDF file with the positions of its atoms.

    The graph of its atoms and bonds; plain hydrogens are left out. Both forms may stand in one column: positions are read
    if a training molecule has them (3-D, in ångström), and unknown in molecules without. Encoded as ``[N, 8 + count]``
    uint8: codes of each atom (element, bonds, charge, hydrogens, aromatic, ring, hybridisation, chirality), then the kind
    of bond to each other atom; with positions ``[N, 8 + count + 4]`` float32: then x, y, z and 1 where they are known.
    Prepared as the layout ``Graph``, whose encoder reads distances alone, so that turning and moving a molecule changes
    nothing. A damaged, impossible or too large molecule, or one with more than ``count`` atoms, raises ``CellError``. Needs
    the extra ``molecule`` (RDKit).

    Args:
        count: Maximum number of atoms; None: 1.5 times the largest training molecule, at most 512.
        augment: In training, masks the codes of 1 in 20 atoms (``light``) or 1 in 7 (``strong``): attribute masking,
            https://arxiv.org/abs/1905.12265, § 3.1.2.
    """

    media = True
    ragged = True

    # Augmentation is off, since its benefit was not measured (docs/results.md, "Augmentation").
    def __init__(self, *, count: int | None = None, augment: Literal["none", "light", "strong"] = "none") -> None:
        super().__init__()
        if count is not None and not 1 <= count <= NODES:
            raise ConfigError(f"molecule: a count of {count} atoms is not between 1 and {NODES}")
        self.count, self.augment = count, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        files = sum(names_molecule_file(cell) or is_molfile(_text(cell)) for cell in cells)
        texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
        fits = [text for text in texts if len(text) < 2000 and _SMILES.fullmatch(text)]
        # Plain numbers use the same characters.
        fits = [text for text in fits if any(c.isalpha() for c in text)]
        if files:
            share = (files + len(fits)) / len(cells)
            return Guess(0.98 * share, f"{files} of {len(cells)} cells are MOL or SDF files")
        if not fits:
            return Guess(0.0, "no cell is written as a molecule is (SMILES), and none is a MOL or SDF file")
        share = len(fits) / len(cells)
        reason = f"{len(fits)} of {len(cells)} cells are written as molecules are (SMILES)"
        # Codes such as C12 use the same characters, and a column of drugs may contain them.
        whole = sum(len(text) > 4 or bool(_BOUND.search(text)) for text in fits) / len(fits)
        named = _NAME.search(name)
        if named and share > 0.5 and (whole > 0.3 or "smiles" in name.lower()):
            return Guess(0.97 * share, f"{reason}, and the column is called {name!r}")
        bound = sum(bool(_BOUND.search(text)) and len(text) > 4 for text in fits) / len(fits)
        return Guess(0.9 * share if share > 0.9 and bound > 0.6 else 0.1 * share * bound, reason)

    @classmethod
    def written_out(cls, cell: Any) -> bool:
        return isinstance(cell, str) and not names_molecule_file(cell) and not cell.startswith("data:")

    def fit(self, cells: Iterable[Any]) -> None:
        largest, placed = 1, False
        for cell in cells:
            try:
                atoms = read_molecule(cell)
            except CellError:
                continue  # reported by encode
            largest = max(largest, len(atoms.codes))
            placed = placed or atoms.positions is not None
        self.state = {"count": self.count or min(max(16, largest + largest // 2), NODES), "placed": placed}

    def notes(self) -> str:
        return "with 3-D positions of atoms" if self._placed else ""

    @property
    def _placed(self) -> bool:
        return bool(self.state.get("placed"))  # models of earlier versions read no positions

    @property
    def layout(self) -> Layout:
        return Graph(sum(SIZES), BONDS, self.state["count"], placed=self._placed)

    def encode(self, cell: Any) -> Array:
        codes, bonds, positions = read_molecule(cell)
        count = self.state["count"]
        if len(codes) > count:
            fix = "give larger molecules in training, or set count"
            name = cell.name if isinstance(cell, Blob) else None
            raise CellError(f"the molecule has {len(codes)} atoms, more than the {count} kept", file=name, fix=fix)
        parts = [codes, bonds, np.zeros((len(codes), count - len(codes)), np.uint8)]
        if not self._placed:
            return np.concatenate(parts, axis=1)
        known = positions is not None
        parts += [positions if positions is not None else np.zeros((len(codes), 3)), np.full((len(codes), 1), known)]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def blank(self) -> Array:
        width = len(SIZES) + self.state["count"]
        return np.zeros((0, width + 4), np.float32) if self._placed else np.zeros((0, width), np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Expand atoms ``[B, N, 8 + count]`` to one-hot codes and bonds, followed by positions; zero where padded."""
        import torch

        from sensorium.signal.augmentation import uniform

        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        codes = field.data[..., : len(SIZES)].long()
        parts = [torch.nn.functional.one_hot(codes[..., i], size) for i, size in enumerate(SIZES)]
        values = torch.cat(parts, dim=-1).float()
        if generator is not None and self.augment != "none":
            chance = uniform(mask.shape, 0, 1, values, generator)
            values = values * (chance >= (1 / 7 if self.augment == "strong" else 1 / 20))[..., None]
        data = torch.cat([values, field.data[..., len(SIZES) :].float()], dim=-1)
        return replace(field, data=data * mask[..., None], mask=mask)

    @property
    def store_options(self) -> dict[str, Any]:
        return {"count": self.state["count"], "placed": self._placed}


def _text(cell: Any) -> str:
    """The beginning of the text that ``cell`` holds; empty for others."""
    data = cell.data if isinstance(cell, Blob) else cell
    return data if isinstance(data, str) else data[:2000].decode("latin-1") if isinstance(data, bytes) else ""
