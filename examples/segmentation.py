"""Masks of one picture: which shape is where, and which thing a sentence means; their scores with and without the words."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_scenes import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=240)
    settings = ["model.size=tiny", "training.epochs=15", "training.lr=0.006", "columns.photo.size=32", "columns.note=text"]
    model = sm.fit(tables["train"], target=["shapes", "meant"], overrides=settings, quiet=True)

    found = model.evaluate(tables["test"]).targets
    for name, target in found.items():
        print(f"{name}: mean IoU {target.metrics['mean_iou']:.2f}, of the mean mask {target.baseline['mean_iou']:.2f}")
        for streams, metrics in target.subsets.items():
            print(f"  {streams:<12} {metrics['mean_iou']:.2f}  {'█' * round(30 * metrics['mean_iou'])}")

    # An answer is a mask in the pixels of the user's own file, written as the training masks are.
    answer = model.predict(tables["test"])[0].targets["shapes"]
    print(f"\n{answer['value'].data.shape} pixels, confidence {answer['confidence']:.2f}")
    print(", ".join(f"{name}: {share:.0%}" for name, share in answer["areas"].items()))
