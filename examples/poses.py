"""Hands and feet of figures from a picture and from sensors on the limbs, and what they do; either may be missing."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_poses import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=200, seed=1, activity=True)
    settings = ["model.size=tiny", "training.epochs=8", "training.threads=1", "columns.photo.size=32", "model.experts=[]"]
    tasks = ["columns.activity={kind: category, role: target}", "columns.points={kind: keypoints, role: target, on: photo}"]
    model = sm.fit(tables["train"], overrides=[*settings, *tasks], quiet=True)

    scores = model.evaluate(tables["test"]).targets
    print(f"mean error in pixels with these streams, {scores['points'].baseline['mean_error']:.1f} of the mean shape")
    for streams, metrics in scores["points"].subsets.items():
        accuracy = scores["activity"].subsets[streams]["accuracy"]
        bar = "█" * round(5 * metrics["mean_error"])
        print(f"  {streams:<14} {metrics['mean_error']:.1f}  activity {accuracy:.2f}  {bar}")

    # An answer names the points, in the pixels of the user's own file; without a picture, from the sensors alone.
    row = model.predict(tables["test"])[0].targets["points"]["value"]
    print("\n" + ", ".join(f"{name} ({at['x']:.0f}, {at['y']:.0f})" for name, at in row.items()))

    # From points to the activity: a second model that reads nothing but the answered points.
    parts = {}
    for part, path in tables.items():
        truths = sm.Table.read(path).column("activity")
        points = [answer.targets["points"]["value"] for answer in model.predict(path)]
        parts[part] = [
            {f"{name}_{axis}": at[axis] - own["head"][axis] for name, at in own.items() if name != "head" for axis in "xy"}
            | {"activity": truth}
            for own, truth in zip(points, truths, strict=True)
        ]
    second = sm.fit(parts["train"], target="activity", quiet=True, overrides=["model.size=tiny", "model.experts=[linear]"])
    accuracy = second.evaluate(parts["test"]).targets["activity"].metrics["accuracy"]
    print(f"activity from the answered points alone {accuracy:.2f}")
