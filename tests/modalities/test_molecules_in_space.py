"""Molecules with positions: MOL and SDF files beside SMILES in one column, read by distances alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sensorium as sm
from sensorium.codecs import molecule as codec
from sensorium.codecs.molecule import read_molecule
from sensorium.core.errors import CellError, DataError
from sensorium.core.modality import Blob
from sensorium.data.tables.table import Table
from sensorium.encoders.graph import Graph
from sensorium.modalities.molecule import Molecule

Chem = pytest.importorskip("rdkit.Chem", reason="molecules need the extra molecule")


def conformers(smiles: str, count: int) -> Any:
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMultipleConfs(molecule, count, randomSeed=1)
    return molecule


def molfile(molecule: Any, number: int = 0, change: Any = None, **options: Any) -> Blob:
    """The MOL file of a conformer, its positions ``[N, 3]`` changed by ``change``."""
    molecule = Chem.Mol(molecule)
    conformer = molecule.GetConformer(number)
    if change is not None:
        for i, place in enumerate(change(conformer.GetPositions())):
            conformer.SetAtomPosition(i, place.tolist())
    return Blob(Chem.MolToMolBlock(molecule, confId=number, **options).encode(), "m.mol")


HEXANOL = conformers("CCCCCCO", 4)


def moved(places: np.ndarray) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    if np.linalg.det(turn) < 0:
        turn[:, 0] *= -1
    return np.asarray(places @ turn + [30.0, -7.0, 4.0])


def encoded(cells: list[Any], *, fitted: list[Any] | None = None) -> torch.Tensor:
    """The vectors ``[B, D]`` of molecules."""
    reader = Molecule(count=16)
    reader.fit(cells if fitted is None else fitted)
    torch.manual_seed(0)
    encoder = Graph(reader.layout, dim=16).eval()  # type: ignore[arg-type]
    field = reader.prepare(reader.collate([reader.encode(cell) for cell in cells]))
    vectors: torch.Tensor = encoder(field.data, field.mask).pooled.detach()
    return vectors


def test_turned_and_moved_molecules_are_the_same_and_others_are_not() -> None:
    first, turned, second, plain = encoded(
        [molfile(HEXANOL), molfile(HEXANOL, change=moved), molfile(HEXANOL, 1), "CCCCCCO"]
    )
    rounding = float((first - turned).abs().max())  # MOL files have four digits after the point
    assert rounding < 1e-3
    assert (first - second).abs().max() > 20 * rounding, "two conformers are the same graph in other positions"
    assert (first - plain).abs().max() > 20 * rounding


def test_positions_count_only_where_training_had_them() -> None:
    cells = [molfile(HEXANOL), molfile(HEXANOL, 1)]
    graph, other = encoded(cells, fitted=["CCCCCCO"])
    assert torch.equal(graph, other)
    reader = Molecule()
    reader.fit(["CCO", cells[0]])
    assert reader.layout.placed  # type: ignore[union-attr]
    assert reader.encode("CCO")[:, -4:].tolist() == [[0.0] * 4] * 3
    assert reader.encode(cells[0])[:, -1].tolist() == [1.0] * 7
    reader.state = {"count": 16}  # of a model from before there were positions
    assert reader.encode("CCO").shape == (3, 24)


@pytest.mark.parametrize("options", [{}, {"forceV3000": True}])
def test_files_hold_the_graph_of_the_smiles_and_the_positions(options: dict[str, bool]) -> None:
    read, plain = read_molecule(molfile(HEXANOL, **options)), read_molecule("CCCCCCO")
    assert np.array_equal(read.codes, plain.codes)
    assert np.array_equal(read.bonds, plain.bonds)
    assert plain.positions is None
    assert read.positions is not None
    heavy = HEXANOL.GetConformer(0).GetPositions()[:7]
    assert np.allclose(read.positions, heavy - heavy.mean(axis=0), atol=1e-3)
    text = molfile(HEXANOL, **options).data.decode()
    assert np.array_equal(read_molecule(f"{text}> <name>\nhexanol\n\n$$$$\n").codes, read.codes)


def test_coordinates_of_a_drawing_are_no_positions() -> None:
    from rdkit.Chem import AllChem

    drawn = Chem.MolFromSmiles("CCO")
    AllChem.Compute2DCoords(drawn)
    assert read_molecule(Chem.MolToMolBlock(drawn)).positions is None


TEXT = molfile(HEXANOL).data.decode()
BAD = [
    (TEXT[:300], "damaged"),
    (TEXT.replace("V2000", "V9000"), "not a MOL"),
    (TEXT.replace(" C ", " Xx"), "damaged"),
    (f"{TEXT}$$$$\n{TEXT}$$$$\n", r"holds 2 molecules, and a cell is one; split the file after each line \$\$\$\$"),
    (TEXT + " " * 1_000_001, "1,000,000 allowed"),
    (TEXT.replace("\n", "\0\n", 5), "not a MOL"),
    ("two\nlines", "not a MOL"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_unusable_files_are_refused_by_name(text: str, problem: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CellError, match=problem) as caught:
        read_molecule(Blob(text.encode(), "bad.sdf"))
    assert caught.value.file == "bad.sdf"
    assert capfd.readouterr().err == ""


def test_a_file_of_molecules_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "many.sdf").write_text(f"{TEXT}$$$$\n{TEXT}$$$$\n")
    with pytest.raises(DataError, match=r"split it after each line \$\$\$\$"):
        Table.read(tmp_path / "many.sdf")


def test_positions_far_away_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "FARTHEST", 0.5)
    with pytest.raises(CellError, match="Å"):
        read_molecule(molfile(HEXANOL))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.sampled_from("0 9-CHX.\n")), max_size=6))
def test_any_damage_gives_a_molecule_or_a_cell_error(changes: list[tuple[int, str]]) -> None:
    text = list(TEXT)
    for place, sign in changes:
        text[place] = sign
    try:
        codes, bonds, positions = read_molecule("".join(text))
    except CellError:
        return
    assert len(codes) == len(bonds)
    assert positions is None or positions.shape == (len(codes), 3)


def test_files_and_smiles_in_one_column_of_a_table(tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"{i}.mol").write_bytes(molfile(HEXANOL, i).data)
    (tmp_path / "bad.sdf").write_text(TEXT[:300])
    cells = ["0.mol", "1.mol", "CCO", "bad.sdf", "gone.sdf", "C1CC(", "", *["CCCO", "0.mol"] * 6]
    table = tmp_path / "train.csv"
    table.write_text("molecule,effect\n" + "".join(f"{cell},{i / 4}\n" for i, cell in enumerate(cells)))
    assert Molecule.sniff([cell for cell in cells if cell], "x").score > 0.9
    settings = ["model.size=tiny", "training.epochs=1", "training.refit=none", "data.split={kind: random, part: 0.1}"]
    model = sm.fit(table, target="effect", overrides=settings, quiet=True)
    assert model.recipe.columns["molecule"]["kind"] == "molecule"
    rows = [{"molecule": cell} for cell in cells[:6]]
    answers = list(model.predict(rows, media=tmp_path))
    files = [[(problem.file, problem.column) for problem in answer.problems] for answer in answers]
    assert files == [[], [], [], [("bad.sdf", "molecule")], [("gone.sdf", "molecule")], [(None, "molecule")]]
    assert answers[0].targets["effect"]["value"] != answers[1].targets["effect"]["value"]


def test_atoms_at_one_place_have_finite_gradients() -> None:
    from sensorium.encoders.graph import nearness

    positions = torch.zeros(1, 3, 3, requires_grad=True)
    nearness(positions, torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    assert positions.grad is not None
    assert torch.isfinite(positions.grad).all()
