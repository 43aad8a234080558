"""Hands and feet of stick figures from a picture and from sensors on the limbs: what each gives, and what an answer is."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_poses import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=160, seed=1)
    settings = ["model.size=tiny", "training.epochs=8", "training.threads=1", "columns.photo.size=32", "model.experts=[]"]
    model = sm.fit(tables["train"], target="points", overrides=settings, quiet=True)

    evaluation = model.evaluate(tables["test"]).targets["points"]
    print(f"mean error in pixels with these streams, {evaluation.baseline['mean_error']:.1f} of the mean shape")
    for streams, metrics in evaluation.subsets.items():
        print(f"  {streams:<14} {metrics['mean_error']:.1f}  {'█' * round(5 * metrics['mean_error'])}")

    # An answer names the points, in the pixels of the user's own file; without a picture, from the sensors alone.
    row = model.predict(tables["test"])[0].targets["points"]["value"]
    print("\n" + ", ".join(f"{name} ({at['x']:.0f}, {at['y']:.0f})" for name, at in row.items()))
