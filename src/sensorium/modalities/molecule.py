"""Molecules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.graph import NODES
from sensorium.codecs.molecule import BONDS, SIZES, read_smiles
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Graph, Layout
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_NAME = re.compile(r"(?i)smiles|(^|[\W_])(mol|molecule|compound|ligand|drug)s?($|[\W_])|分子")
_SMILES = re.compile(r"(\[[A-Za-z0-9@+\-#:*]+\]|Cl|Br|[BCNOPSFIbcnops*]|[=#$:/\\.\-()%]|\d)+")
_BOUND = re.compile(r"[=#(\[]|[cnos]\d")  # rare in words, frequent in molecules


@component
class Molecule(Modality):
    """A molecule as SMILES, such as ``CC(=O)Oc1ccccc1C(=O)O``: the graph of its atoms and bonds.

    Plain hydrogens are left out. Encoded as ``[N, 8 + count]`` uint8: codes of each atom (element, bonds, charge,
    hydrogens,
    aromatic, ring, hybridisation, chirality), then the kind of bond to each other atom; prepared as the layout ``Graph``.
    An invalid molecule, or one with more than ``count`` atoms, raises ``CellError``. Needs the extra ``molecule`` (RDKit).

    Args:
        count: Maximum number of atoms; None: 1.5 times the largest training molecule, at most 512.
        augment: In training, masks the codes of 1 in 20 atoms (``light``) or 1 in 7 (``strong``): attribute masking,
            https://arxiv.org/abs/1905.12265, § 3.1.2.
    """

    ragged = True
    checked = True

    # Augmentation is off, since its benefit was not measured (docs/results.md, "Augmentation").
    def __init__(self, *, count: int | None = None, augment: Literal["none", "light", "strong"] = "none") -> None:
        super().__init__()
        if count is not None and not 1 <= count <= NODES:
            raise ConfigError(f"molecule: a count of {count} atoms is not between 1 and {NODES}")
        self.count, self.augment = count, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
        fits = [text for text in texts if len(text) < 2000 and _SMILES.fullmatch(text)]
        # Plain numbers use the same characters.
        fits = [text for text in fits if any(c.isalpha() for c in text)]
        if not fits:
            return Guess(0.0, "no cell is written as a molecule is (SMILES)")
        share = len(fits) / len(cells)
        reason = f"{len(fits)} of {len(cells)} cells are written as molecules are (SMILES)"
        # Codes such as C12 use the same characters, and a column of drugs may contain them.
        whole = sum(len(text) > 4 or bool(_BOUND.search(text)) for text in fits) / len(fits)
        named = _NAME.search(name)
        if named and share > 0.5 and (whole > 0.3 or "smiles" in name.lower()):
            return Guess(0.97 * share, f"{reason}, and the column is called {name!r}")
        bound = sum(bool(_BOUND.search(text)) and len(text) > 4 for text in fits) / len(fits)
        return Guess(0.9 * share if share > 0.9 and bound > 0.6 else 0.1 * share * bound, reason)

    def fit(self, cells: Iterable[Any]) -> None:
        largest = 1
        for cell in cells if self.count is None else ():
            try:
                largest = max(largest, len(_read(cell)[0]))
            except CellError:
                continue  # reported by encode
        self.state = {"count": self.count or min(max(16, largest + largest // 2), NODES)}

    @property
    def layout(self) -> Layout:
        return Graph(sum(SIZES), BONDS, self.state["count"])

    def encode(self, cell: Any) -> Array:
        codes, bonds = _read(cell)
        count = self.state["count"]
        if len(codes) > count:
            fix = "give larger molecules in training, or set count"
            raise CellError(f"the molecule has {len(codes)} atoms, more than the {count} kept", fix=fix)
        return np.concatenate([codes, bonds, np.zeros((len(codes), count - len(codes)), np.uint8)], axis=1)

    def blank(self) -> Array:
        return np.zeros((0, len(SIZES) + self.state["count"]), dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Expand atoms ``[B, N, 8 + count]`` to one-hot codes and bonds; zero where padded."""
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
        return {"count": self.state["count"]}


def _read(cell: Any) -> tuple[Array, Array]:
    if not isinstance(cell, str):
        raise CellError(f"a {type(cell).__name__} is no SMILES", fix="write molecules as text: CCO")
    return read_smiles(cell)
