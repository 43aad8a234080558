"""Words out: a caption of a picture, and an answer to a question about it, each beside simple baselines."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_captions import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=400, sentences=True)
    settings = ["model.size=tiny", "training.epochs=25", "training.lr=0.004"]
    model = sm.fit(
        tables["train"], target="caption", task="captioning", ignore=["question", "answer"], overrides=settings, quiet=True
    )
    scores = model.evaluate(tables["test"]).targets["caption"]
    names = ("cider", "rouge_l", "token_f1", "exact_match")
    print(f"{'':<26}" + "".join(f"{name:>12}" for name in names))
    rivals = {"best constant sentence": scores.baseline} | {name: c.metrics for name, c in scores.controls.items()}
    for name, metrics in ({"captions": scores.metrics} | rivals).items():
        print(f"{name:<26}" + "".join(f"{metrics[metric]:>12.2f}" for metric in names))
    for prediction in model.predict(tables["test"])[:3]:
        answer = prediction.targets["caption"]
        print(f"{answer['value']!r}, confidence {answer['confidence']:.2f}")
