"""Labels along time: who does what when at home, from two sensors on one clock, and what is left with one of them off."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_activities import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=120)
    settings = [
        "model.size=tiny",
        "training.epochs=12",
        "columns.labels.on=motion",
        "columns.motion={kind: series, length: 120}",
    ]
    model = sm.fit(tables["train"], target="labels", overrides=settings, quiet=True)

    scores = model.evaluate(tables["test"]).targets["labels"]
    for name in ("segment_f1_50", "step_accuracy"):
        print(f"{name}: {scores.metrics[name]:.2f}, with the most frequent label always {scores.baseline[name]:.2f}")
    for streams, metrics in scores.subsets.items():
        print(
            f"  {streams:<14} {metrics['step_accuracy']:.2f} of the seconds  {'█' * round(30 * metrics['step_accuracy'])}"
        )

    # An answer is a list of spans, in seconds here; each could switch a device.
    switch = {"cook": "fan on", "wash": "light on", "rest": "blinds down", "away": "heating down"}
    for start, end, label in model.predict(tables["test"])[0].targets["labels"]["value"]:
        print(f"{start:5.0f} to {end:3.0f} s  {label:<5} → {switch[label]}")
