"""Chest X-rays: picture, note and laboratory values → lungs, opacities and diagnosis, from one model. Simulated patients.

python examples/chest.py                        simulated pictures
python examples/chest.py SEGMENTED FINDINGS     your own: folders with train.csv and valid.csv, the first with the columns
                                                image, mask, opacity_mask and patient, the second with image,
                                                notes_masked, temperature, pO2_saturation, label and patient
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sensorium as sm
from sensorium.data.synthetic_chests import make

RECIPE = Path(__file__).parents[1] / "recipes" / "chest.yaml"
QUICK = ["model.size=tiny", "training.batch_size=16", "training.lr=0.003", "model.experts=[]"]
LABORATORY = {"temperature": "temperature", "oxygen": "pO2_saturation"}


def columns(names: dict[str, str]) -> list[str]:
    """Settings of the columns of the user's own table, by kind."""
    return [f"columns.{name}={{{kind}}}" for name, kind in names.items()]


def own_rows(segmented: Path, findings: Path, part: str) -> list[dict[str, Any]]:
    """The rows of both tables: the first have masks, the second a note, laboratory values and a diagnosis.

    A number is taken for the same patient in both tables.
    """
    masks = [
        {"photo": segmented / row["image"], "lungs": segmented / row["mask"], "opacities": segmented / row["opacity_mask"],
         "patient": row["patient"]}
        for row in sm.Table.read(segmented / f"{part}.csv").rows()
    ]  # fmt: skip
    diagnoses = [
        {"photo": findings / row["image"], "note": row["notes_masked"], "diagnosis": row["label"],
         "patient": row["patient"], **{name: row[column] for name, column in LABORATORY.items()}}
        for row in sm.Table.read(findings / f"{part}.csv").rows()
    ]  # fmt: skip
    names = dict.fromkeys(name for row in (*masks, *diagnoses) for name in row)
    return [{name: str(row.get(name) or "") for name in names} for row in (*masks, *diagnoses)]


def report(model: Any, test: Any) -> None:
    """Print the scores of all targets for each subset of the streams, and those of the training targets alone."""
    scores = model.evaluate(test).targets
    print("with these streams      lungs IoU  opacities IoU  diagnosis accuracy")
    for streams in (*scores["diagnosis"].subsets, "no stream"):
        lungs, clouds, diagnosis = (
            scores[name].baseline if streams == "no stream" else scores[name].subsets[streams]
            for name in ("lungs", "opacities", "diagnosis")
        )
        accuracy = diagnosis["accuracy"]
        print(f"  {streams:<22} {lungs['mean_iou']:8.2f}  {clouds['mean_iou']:13.2f}  {accuracy:18.2f}")


with TemporaryDirectory() as folder:
    arguments = [Path(argument) for argument in sys.argv[1:]]
    if len(arguments) == 2 and all(path.is_dir() for path in arguments):
        own = columns({
            "patient": "role: group", "photo": "kind: image, size: 96", "note": "kind: text", "temperature": "kind: number",
            "oxygen": "kind: number", "lungs": "kind: mask, role: target, on: photo",
            "opacities": "kind: mask, role: target, on: photo", "diagnosis": "kind: category, role: target",
        })  # fmt: skip
        train, test = (own_rows(arguments[0], arguments[1], part) for part in ("train", "valid"))
        held = {row["patient"] for row in test}  # no patient is in both training and test rows
        train = [row for row in train if row["patient"] not in held]
        split = "data.split={kind: group, by: patient, part: 0.15}"
        report(sm.fit(train, overrides=[*own, split, *QUICK, "training.epochs=16"], quiet=True), test)
    else:
        tables = make(folder, rows=192, holes=0.08)
        quick = [*QUICK, "training.epochs=8"]
        model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
        report(model, tables["test"])

        row = sm.Table.read(tables["test"]).row(0)
        for cells in (row, {**row, "photo": None}):
            answer = model.predict([cells], media=folder)[0]
            diagnosis, clouds = answer.targets["diagnosis"], answer.targets["opacities"]["areas"]
            print(
                f"missing: {', '.join(answer.missing) or 'nothing'}; {diagnosis['value']} "
                f"({diagnosis['probabilities'][diagnosis['value']]:.0%}), clouded: {list(clouds.values())[-1]:.0%}"
            )
