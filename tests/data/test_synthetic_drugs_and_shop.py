"""Simulated drugs and ratings: what the tables promise."""

from __future__ import annotations

from pathlib import Path

import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.data import synthetic_drugs, synthetic_shop


def test_every_drug_is_a_different_molecule(tmp_path: Path) -> None:
    chem = pytest.importorskip("rdkit.Chem", reason="molecules need the extra molecule")
    tables = synthetic_drugs.make(tmp_path / "a", rows=200, unlabelled=synthetic_drugs.MOLECULES - 200)
    read = {name: sm.Table.read(path) for name, path in tables.items()}
    assert {name: len(table) for name, table in read.items()} == {"train": 150, "test": 50, "unlabelled": 988}
    assert list(read["unlabelled"].columns) == ["molecule", "description"]
    texts = [text for table in read.values() for text in table.column("molecule")]
    # Two SMILES of one molecule are equal in canonical form, such as those of a symmetric ring with its groups exchanged.
    canonical = {chem.MolToSmiles(chem.MolFromSmiles(text)) for text in texts}
    assert len(set(texts)) == synthetic_drugs.MOLECULES
    assert len(canonical) == len(texts)
    again = synthetic_drugs.make(tmp_path / "b", rows=200, unlabelled=synthetic_drugs.MOLECULES - 200)
    assert all(path.read_bytes() == again[name].read_bytes() for name, path in tables.items())
    with pytest.raises(ConfigError, match="1188 molecules"):
        synthetic_drugs.make(tmp_path / "c", rows=1000, unlabelled=1000)


def test_new_items_are_in_no_other_table_and_no_pair_is_rated_twice(tmp_path: Path) -> None:
    tables = synthetic_shop.make(tmp_path / "a", rows=60, users=6, items=12, new=3)
    rows = {name: list(sm.Table.read(path).rows()) for name, path in tables.items()}
    assert {name: len(part) for name, part in rows.items()} == {"train": 45, "test": 15, "new": 18}
    known = {row["item"] for name in ("train", "test") for row in rows[name]}
    assert known.isdisjoint(row["item"] for row in rows["new"])
    every = [row for part in rows.values() for row in part]
    assert len({(row["user"], row["item"]) for row in every}) == len(every)
    again = synthetic_shop.make(tmp_path / "b", rows=60, users=6, items=12, new=3)
    assert all(path.read_bytes() == again[name].read_bytes() for name, path in tables.items())
    for row in every:
        assert 1 <= float(row["rating"]) <= 5
        assert (tmp_path / "a" / row["picture"]).read_bytes() == (tmp_path / "b" / row["picture"]).read_bytes()
    with pytest.raises(ConfigError, match="counts for 100 ratings"):
        synthetic_shop.make(tmp_path / "c", rows=100, users=6, items=12)
