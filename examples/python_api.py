"""From a table to a saved model and back, in Python."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic import make

with TemporaryDirectory() as folder:
    home = Path(folder)
    tables = make(home, rows=240)  # any table works: a file, a pandas frame, a list of dicts

    model = sm.fit(
        tables["train"],
        target="event",
        valid=tables["valid"],
        overrides=["model.size=tiny", "training.epochs=8", "model.experts=[linear]"],  # small, so that this takes seconds
        quiet=True,
    )
    evaluation = model.evaluate(tables["test"], report=home / "test.html")
    scores = evaluation.targets["event"]
    print(f"accuracy {scores.metrics['accuracy']:.2f}, always the commonest event {scores.baseline['accuracy']:.2f}")
    for stream, share in scores.shapley.items():
        print(f"  {stream} brought {share:+.2f}")

    # Cells and whole columns may be missing; the prediction lists the absent streams.
    rows = [{"note": "Saw the cups and the tea on my way past.", "temperature": 25.2}, {"temperature": 14.9}]
    for prediction in model.predict(rows):
        print(prediction.value, "without", prediction.missing)

    model.save(home / "run")
    again = sm.load(home / "run")
    assert again.predict(rows) == model.predict(rows)
    print("saved and loaded: the same answers")
