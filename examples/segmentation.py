"""A mask of the thing that a sentence means: its scores with and without the words, and what an answer is."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_scenes import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=200, seed=1)
    settings = ["model.size=tiny", "training.epochs=20", "training.lr=0.006", "columns.note=text"]
    settings += ["columns.photo.size=32", "columns.photo.augment=none", "training.threads=1"]
    model = sm.fit(tables["train"], target="meant", ignore=["shapes"], overrides=settings, quiet=True)

    evaluation = model.evaluate(tables["test"]).targets["meant"]
    print(f"foreground IoU with these streams, {evaluation.baseline['foreground_iou']:.2f} of the mean mask")
    for streams, metrics in evaluation.subsets.items():
        print(f"  {streams:<12} {metrics['foreground_iou']:.2f}  {'█' * round(30 * metrics['foreground_iou'])}")

    # An answer is a mask in the pixels of the user's own file, written as the training masks are.
    answer = model.predict(tables["test"])[0].targets["meant"]
    print(f"\n{answer['value'].data.shape} pixels, confidence {answer['confidence']:.2f}")
    print(", ".join(f"{name}: {share:.0%}" for name, share in answer["areas"].items()))
