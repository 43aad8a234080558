"""Feelings in a dialogue, utterance by utterance: words, voice and face, with what went before. Synthetic data."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_dialogues import TURNS, make

RECIPE = Path(__file__).parents[1] / "recipes" / "emotion.yaml"
NOW = ("words", "voice", "face")

with TemporaryDirectory() as folder:
    tables = make(folder, rows=360, holes=0.05)
    quick = ["model.size=tiny", "training.epochs=30", "training.lr=0.005"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    table = sm.Table.read(tables["test"])
    print("share of the utterances that are right, from")
    sets = {name: (name,) for name in NOW}
    sets |= {f"all but {name}": tuple(other for other in NOW if other != name) for name in NOW}
    sets |= {"all three": NOW, "all three, and before": (*NOW, *(f"{name}_before" for name in NOW))}
    for title, kept in sets.items():
        part = table
        for name in set(model.schema.streams) - set(kept):
            part = part.with_column(name, [None] * len(table))
        accuracy = model.evaluate(part).targets["feeling"].metrics["accuracy"]
        print(f"  {title:<22} {accuracy:.2f}  {'█' * round(30 * accuracy)}")
    print("one dialogue")
    for row, answer in zip(table.rows(), model.predict(tables["test"])[:TURNS], strict=False):
        sure = answer.targets["feeling"]["probabilities"][answer.value]
        print(f"  {row['words'] or '(not understood)':<26} {answer.value:<6} {sure:.2f}  (truly {row['feeling']})")
