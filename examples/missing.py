"""Scores with every subset of streams, and a model that lost a stream compared with one trained without it."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=200)

    def trained_on(*inputs: str) -> sm.Trained:
        others = {"photo", "note", "sound", "sensor", "temperature", "when", "room"} - set(inputs)
        small = ["model.size=tiny", "training.epochs=6", "model.experts=[linear]"]
        return sm.fit(tables["train"], target="event", valid=tables["valid"], ignore=others, overrides=small, quiet=True)

    model = trained_on("sound", "sensor", "temperature")
    scores = model.evaluate(tables["test"]).targets["event"]
    print("accuracy with these streams only (temperature is the stream called table)")
    for streams, metrics in scores.subsets.items():
        print(f"  {streams:<20} {metrics['accuracy']:.2f}  {'█' * round(30 * metrics['accuracy'])}")

    never = trained_on("sensor", "temperature").evaluate(tables["test"]).targets["event"].metrics["accuracy"]
    rest = "+".join(stream for stream in scores.whole if stream != "sound")
    print(f"\nsound taken away {scores.subsets[rest]['accuracy']:.2f}, sound never had {never:.2f}")

    # A missing column is the same as a column of empty cells.
    (answer,) = model.predict([{"temperature": 25.1}])
    chances = answer.targets["event"]["probabilities"]
    print(f"\nfrom 25.1 °C alone: {', '.join(f'{name} {chance:.0%}' for name, chance in chances.items())}")
    print(f"missing: {', '.join(answer.missing)}")
