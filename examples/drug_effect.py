"""The effect of drugs: a molecule and its description → a number, after pretraining on unlabelled molecules.

A second part gives molecules as files with the positions of their atoms, where the effect also depends on their shape.

Simulated data. Needs RDKit: pip install 'sensorium[molecule]'
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdFingerprintGenerator
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeCV

import sensorium as sm
from sensorium.data.synthetic_drugs import make

RECIPE = Path(__file__).parents[1] / "recipes" / "drug_effect.yaml"


def fingerprints(rows: sm.Table) -> np.ndarray:
    """Return Morgan fingerprints ``[N, 1024]`` of the molecules of ``rows``, counted."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    molecules = [Chem.MolFromSmiles(text) for text in rows.column("molecule")]
    return np.stack([generator.GetCountFingerprintAsNumPy(molecule) for molecule in molecules]).astype(float)


def with_shapes(rows: sm.Table, folder: Path, rng: np.random.Generator) -> list[dict[str, object]]:
    """Return ``rows`` with a MOL file in place of each SMILES: a stretched or a folded conformer, which changes the effect.

    Their spread, the root of the mean square distance of atoms from their centre, adds 15 to the effect for each ångström
    above that of the other conformers.
    """
    changed = []
    for i, row in enumerate(rows.rows()):
        molecule = Chem.AddHs(Chem.MolFromSmiles(row["molecule"]))
        rdDistGeom.EmbedMultipleConfs(molecule, 5, randomSeed=i)
        molecule = Chem.RemoveHs(molecule)
        spread = [np.sqrt(c.GetPositions().var(axis=0).sum()) for c in molecule.GetConformers()]
        number = int(np.argmax(spread) if rng.random() < 0.5 else np.argmin(spread))
        file = folder / f"{rows.source.rpartition('/')[2]}-{i}.mol"
        Chem.MolToMolFile(molecule, str(file), confId=number)
        effect = float(row["effect"]) + 15 * (spread[number] - np.mean(spread))
        changed.append({**row, "smiles": row["molecule"], "molecule": file.name, "effect": effect})
    return changed


with TemporaryDirectory() as temporary:
    folder = Path(temporary)
    tables = make(folder, rows=400, test=0.4, unlabelled=600)
    train, test = sm.Table.read(tables["train"]), sm.Table.read(tables["test"])
    quick = ["model.size=tiny", "training.epochs=50", "training.lr=0.005", "training.batch_size=16", "model.experts=[]"]

    columns = {"molecule": "molecule", "description": "text"}
    # What simple methods reach: a constant, and a linear model of fingerprints and words.
    known, true = (np.array(table.column("effect"), dtype=float) for table in (train, test))
    words = CountVectorizer().fit(train.column("description"))
    parts = [np.hstack([fingerprints(t), words.transform(t.column("description")).toarray()]) for t in (train, test)]
    linear = RidgeCV(np.logspace(-2, 3, 12)).fit(parts[0], known).predict(parts[1])
    errors = {
        "the median": np.abs(np.median(known) - true).mean(),
        "linear, fingerprints and words": np.abs(linear - true).mean(),
    }
    fast = sm.fit(tables["train"], target="effect", columns=columns, quality="fast", quiet=True)
    errors["quality fast"] = fast.evaluate(tables["test"]).targets["effect"].metrics["mae"]

    base = folder / "base"
    sm.pretrain(
        tables["unlabelled"], columns=columns, epochs=15, lr=4e-3, overrides=["model.size=tiny"], out=base, quiet=True
    )
    for name, init in (("from scratch", None), ("from the base", base)):
        model = sm.fit(tables["train"], recipe=RECIPE, init=init, overrides=quick, quiet=True)
        scores = model.evaluate(tables["test"]).targets["effect"]
        for streams, metrics in scores.subsets.items():
            errors[f"{name}: {streams}"] = metrics["mae"]
    print(f"mean absolute error of {len(true)} new molecules, {len(known)} of training")
    for name, error in errors.items():
        print(f"  {name:<42} {error:.2f}")
    both = "molecule+description"
    print(f"gain of pretraining: {errors[f'from scratch: {both}'] - errors[f'from the base: {both}']:+.2f}")

    # The same molecules, stretched or folded: a file with positions tells the two apart, a SMILES does not.
    rng = np.random.default_rng(0)
    shaped, new = (with_shapes(table, folder, rng) for table in (train, test))
    for row in shaped[::5]:  # both forms may stand in one column
        row["molecule"] = row["smiles"]
    models = {}
    print("mean absolute error where the effect depends on the shape")
    for name in ("smiles", "molecule"):
        rows = [[{**row, "molecule": row[name]} for row in part] for part in (shaped, new)]
        models[name] = sm.fit(rows[0], recipe=RECIPE, ignore=["smiles"], media=folder, overrides=quick, quiet=True)
        error = models[name].evaluate(rows[1], media=folder).targets["effect"].metrics["mae"]
        print(f"  {'SMILES' if name == 'smiles' else 'files with positions, one in five a SMILES':<42} {error:.2f}")
    asked = [{**new[0], "molecule": cell} for cell in (new[0]["molecule"], new[0]["smiles"])]
    file, graph = (p.targets["effect"]["value"] for p in models["molecule"].predict(asked, media=folder))
    print(f"{new[0]['smiles']}: {new[0]['effect']:.1f}; answered from its file {file:.1f}, from its SMILES {graph:.1f}")
