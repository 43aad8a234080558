"""Financial risk: a table, the balance of an account and the news → default, and what is lost. Synthetic loans."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_loans import make

RECIPE = Path(__file__).parents[1] / "recipes" / "loan_risk.yaml"

with TemporaryDirectory() as folder:
    tables = make(folder, rows=240, holes=0.08)
    quick = ["model.size=tiny", "training.epochs=8", "training.lr=0.005", "model.experts=[]"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    scores = model.evaluate(tables["test"]).targets
    print("accuracy of default, error of the loss in points, with these streams")
    for streams, metrics in scores["defaulted"].subsets.items():
        error = scores["loss"].subsets[streams]["mae"]
        print(f"  {streams:<22} {metrics['accuracy']:.2f}  {error:4.1f}  {'█' * round(30 * metrics['accuracy'])}")

    # The riskiest loans, by the loss to expect, and which stream says so.
    answers = [prediction.targets for prediction in model.predict(tables["test"])]
    riskiest = sorted(range(len(answers)), key=lambda i: -answers[i]["loss"]["value"])[:3]
    for i in riskiest:
        chance = answers[i]["defaulted"]["probabilities"]["yes"]
        (shares,) = model.explain(tables["test"], row=i + 1, where=False).targets["defaulted"]
        strongest = max(shares.shares, key=lambda name: abs(shares.shares[name]))
        print(
            f"loan {i + 1}: default {chance:.0%}, expected loss {answers[i]['loss']['value']:.0f} %, mostly by {strongest}"
        )
