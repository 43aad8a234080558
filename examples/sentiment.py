"""The sentiment of posts: a picture and a few words, which may be ironic. Synthetic data."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_posts import make

RECIPE = Path(__file__).parents[1] / "recipes" / "sentiment.yaml"

with TemporaryDirectory() as folder:
    tables = make(folder, rows=320)
    quick = ["model.size=tiny", "training.epochs=30", "training.lr=0.005"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    scores = model.evaluate(tables["test"]).targets["sentiment"]
    for streams, metrics in scores.subsets.items():
        print(f"{streams:<14} {metrics['accuracy']:.2f}  {'█' * round(30 * metrics['accuracy'])}")
    # The same praise beside a glad face and beside one that is not.
    table = sm.Table.read(tables["test"])
    praised = [row for row in table.rows() if row["words"] == "what a lovely day"]
    for row, answer in list(zip(praised, model.predict(praised, media=folder), strict=True))[:4]:
        print(f"{row['words']!r}: {answer.value} (truly {row['sentiment']})")
