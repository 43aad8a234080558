"""A multimodal language model: a tiny one is trained on the spot, then learns to answer about pictures."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.testing import tiny_language_model

with TemporaryDirectory() as folder:
    # It reads texts in which words stand where a picture will lie: "red square red what colour is it? red".
    lm = tiny_language_model.write(Path(folder) / "tiny", steps=80)
    train = tiny_language_model.table(Path(folder) / "train", 120, 1, sound=False)
    test = tiny_language_model.table(Path(folder) / "test", 60, 2, sound=False)
    model = sm.fit(
        train,
        target="answer",
        task="conversation",
        options={"prompt": "question", "lm": str(lm)},
        ignore=["sound"],
        overrides=["model.size=tiny", "training.epochs=6", "training.lr=0.01", "training.batch_size=16"],
        quiet=True,
    )
    scores = model.evaluate(test).targets["answer"]
    print(f"right answers {scores.metrics['exact_match']:.2f}")
    for name, control in scores.controls.items():
        print(f"  {name:<22} {control.metrics['exact_match']:.2f}")
    for question in ("what colour is it?", "who says moo?"):
        print(question, "→", model.predict([{"question": question}])[0].value)
