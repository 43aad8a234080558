"""Disease risk over time: notes, laboratory values and a picture → curves of time to progression. Synthetic patients."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_patients import make

RECIPE = Path(__file__).parents[1] / "recipes" / "disease_risk.yaml"

with TemporaryDirectory() as folder:
    tables = make(folder, rows=240, holes=0.08)
    quick = ["model.size=tiny", "training.epochs=8", "training.lr=0.003", "model.experts=[linear]"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    scores = model.evaluate(tables["test"]).targets["risk"]
    print("concordance (0.5 is chance), with these streams")
    for streams, metrics in scores.subsets.items():
        print(f"  {streams:<24} {metrics['c_index']:.2f}  {'█' * round(30 * metrics['c_index'])}")

    # The same patient with and without the picture: the answer says what it rests on.
    row = sm.Table.read(tables["test"]).row(0)
    for cells in (row, {**row, "picture": None}):
        answer = model.predict([cells], media=folder)[0]
        risk = answer.targets["risk"]
        curve = zip(risk["survival"]["time"], risk["survival"]["chance"], strict=True)
        in_a_year = min(curve, key=lambda point: abs(point[0] - 365))[1]
        print(
            f"missing: {', '.join(answer.missing) or 'nothing'}; risk group {risk['group']}, hazard "
            f"{risk['hazard_ratio']:.1f} times that of a typical patient, {in_a_year:.0%} without progression after a year"
        )
