"""Edges that several annotators drew: the score beside that of the image's gradient, and an answer."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_edges import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=100, seed=1)
    settings = ["model.size=tiny", "training.epochs=8", "columns.photo.size=48", "training.threads=1"]
    model = sm.fit(tables["train"], target="edges", task="edges", overrides=settings, quiet=True)

    evaluation = model.evaluate(tables["test"]).targets["edges"]
    print(f"F-score at the best threshold {evaluation.metrics['ods']:.2f}")
    for name, control in evaluation.controls.items():
        print(f"  of {name}: {control.metrics['ods']:.2f}")

    # An answer is a picture of thin lines in the pixels of the user's own file; its values are probabilities, times 255.
    answer = model.predict(tables["test"])[0].targets["edges"]
    print(
        f"{answer['value'].data.shape} pixels, {answer['share']:.1%} of them edges, confidence {answer['confidence']:.2f}"
    )
