"""Simulated drugs: a molecule and a description, and how strong the effect is.

    molecule     SMILES: a ring with two groups, one of them on a chain of carbon
    description  how it is taken, and what the two groups are called
    effect       a number, roughly between -12 and 12

How strong the effect of a molecule is, and its sign, depend on how it is taken, so the molecule is not enough; the
description lacks the ring and the chain. The rule is invented: it is no chemistry. No molecule occurs twice: those of the
test are new.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_tables import check, write

GROUPS = {
    "acid": ("OC(=O)", "C(=O)O", "carboxylic acid"),
    "amine": ("N", "N", "amine"),
    "chlorine": ("Cl", "Cl", "chloride"),
    "methoxy": ("CO", "OC", "methyl ether"),
    "nitrile": ("N#C", "C#N", "nitrile"),
    "hydroxyl": ("O", "O", "alcohol"),
    "fluorine": ("F", "F", "fluoride"),
    "trifluoromethyl": ("FC(F)(F)", "C(F)(F)F", "trifluoromethyl"),
    "amide": ("NC(=O)", "C(=O)N", "amide"),
}
"""Groups by name: their SMILES before a ring and within brackets, and what a description calls them."""
RINGS = {"benzene": "c1ccc({})cc1", "pyridine": "c1ccc({})nc1", "thiophene": "c1ccc({})s1", "hexane": "C1CCC({})CC1"}
ROUTES = {
    "mouth": ("taken by mouth", "a tablet", "swallowed with water"),
    "vein": ("injected into a vein", "an infusion", "given intravenously"),
    "skin": ("rubbed into the skin", "an ointment", "a patch on the arm"),
}
_WORTH = (2.5, 1.5, -1.0, 0.5, -2.0, 1.0, -0.5, -1.5, 0.0)
_SHARE = {"mouth": 1.0, "vein": 2.0, "skin": -0.5}
_RING = {"benzene": 0.5, "pyridine": -0.5, "thiophene": 1.0, "hexane": -1.0}
_EVERY = [
    (first, second, ring, chain)
    for first, second, ring, chain in product(GROUPS, GROUPS, RINGS, range(4))
    # Without a chain, the groups of a symmetric ring can change places: the same molecule.
    if chain or ring == "pyridine" or first <= second
]
MOLECULES = len(_EVERY)
"""How many different molecules there are: 1,188."""


def make(
    folder: Path | str,
    rows: int = 300,
    seed: int = 0,
    *,
    holes: float = 0.0,
    test: float = 0.25,
    unlabelled: int = 0,
) -> dict[str, Path]:
    """Write ``train.csv``, ``test.csv`` and ``unlabelled.csv``; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of drugs with an effect.
        seed: Random seed.
        holes: The share of molecules and descriptions that are missing.
        test: The share of ``rows`` in ``test.csv``.
        unlabelled: The number of further drugs without an effect, in ``unlabelled.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid, or more molecules are wanted than there are (1,188).
    """
    check("drugs", rows, holes, test)
    if unlabelled < 0 or rows + unlabelled > MOLECULES:
        raise ConfigError(f"synthetic drugs: {rows} + {unlabelled} rows are not between 1 and {MOLECULES} molecules")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng([seed, rows]).permutation(MOLECULES)[: rows + unlabelled]
    written = []
    for i, number in enumerate(drawn):
        rng = np.random.default_rng([seed, rows, i])
        first, second, ring, chain = _EVERY[number]
        route = str(rng.choice(list(ROUTES)))
        named = " and ".join(GROUPS[group][2] for group in rng.permutation([first, second]))
        taken = str(rng.choice(ROUTES[route]))
        written.append(
            {
                "molecule": smiles(first, second, ring, chain),
                "description": str(rng.choice([f"{taken}, with {named}", f"{named}, {taken}", f"{named}: {taken}"])),
                "effect": f"{effect(first, second, ring, chain, route) + rng.normal(0, 0.3):.2f}",
            }
        )
    paths = write(folder, written[:rows], test=test, holes=holes, keep=("effect",), seed=seed)
    if unlabelled:
        path = write(folder / "unlabelled", _bare(written[rows:], folder / "unlabelled"), test=0.0, holes=holes, seed=seed)
        paths["unlabelled"] = path["train"].rename(folder / "unlabelled.csv")
        (folder / "unlabelled").rmdir()
    return paths


def smiles(first: str, second: str, ring: str, chain: int) -> str:
    """Return the SMILES of a molecule.

    Args:
        first: The group at the end of the chain.
        second: The group on the ring.
        ring: The ring.
        chain: Carbon atoms between the first group and the ring.
    """
    return GROUPS[first][0] + "C" * chain + RINGS[ring].format(GROUPS[second][1])


def effect(first: str, second: str, ring: str, chain: int, route: str) -> float:
    """Return the effect without noise.

    Args:
        first: The group at the end of the chain.
        second: The group on the ring.
        ring: The ring.
        chain: Carbon atoms between the first group and the ring.
        route: How the drug is taken.
    """
    worth = dict(zip(GROUPS, _WORTH, strict=True))
    return _SHARE[route] * (worth[first] + worth[second] + _RING[ring] - 0.4 * abs(chain - 1.5))


def _bare(rows: list[dict[str, str]], folder: Path) -> list[dict[str, str]]:
    """Return ``rows`` without effects, with their ``folder`` created."""
    folder.mkdir(exist_ok=True)
    return [{name: cell for name, cell in row.items() if name != "effect"} for row in rows]
