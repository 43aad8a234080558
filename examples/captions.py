"""Words out: a caption of a picture, and an answer to a question about it, each beside what simple rivals would say."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_captions import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=400)
    settings = ["model.size=tiny", "training.epochs=25", "training.lr=0.004"]
    model = sm.fit(
        tables["train"], target="caption", task="captioning", ignore=["question", "answer"], overrides=settings, quiet=True
    )
    scores = model.evaluate(tables["test"]).targets["caption"]
    print(f"CIDEr-D of the captions {scores.metrics['cider']:.2f}, of the best constant one {scores.baseline['cider']:.2f}")
    for name, control in scores.controls.items():
        print(f"  {name:<22} {control.metrics['cider']:.2f}")
    for prediction in model.predict(tables["test"])[:3]:
        answer = prediction.targets["caption"]
        print(f"{answer['value']!r}, confidence {answer['confidence']:.2f}")
