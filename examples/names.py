"""Labels of words: who, where and when in a request, in English and Chinese, as spans of characters. Simulated requests."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_requests import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=320)
    settings = ["model.size=tiny", "training.epochs=10", "training.lr=0.008"]
    model = sm.fit(tables["train"], target="slots", overrides=settings, quiet=True)  # spans are recognised by their cells

    scores = model.evaluate(tables["test"]).targets["slots"]
    print(f"exact spans, F1: {scores.metrics['span_f1']:.2f}; words that are right: {scores.metrics['step_accuracy']:.2f}")
    requests = ["Send flowers to Carla Novak tomorrow", "Does Bo know Eva Park in Quebec City?", "明天送花给李小红到成都"]
    for request, answer in zip(requests, model.predict([{"request": text} for text in requests]), strict=True):
        found = ", ".join(f"{label} {request[start:end]}" for start, end, label in answer.value)
        print(f"{request}\n    {found}")
