"""Lip-assisted speech recognition: a voice in noise, the lips, and both. Synthetic data."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_lips import make

RECIPE = Path(__file__).parents[1] / "recipes" / "lip_reading.yaml"

with TemporaryDirectory() as folder:
    tables = make(folder, rows=200, noise=1.5)  # only the sounds of the test are noisy
    quick = ["model.size=tiny", "training.epochs=24", "training.lr=0.005", "columns.voice.snr_db=-5"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    table = sm.Table.read(tables["test"])
    print("word error rate in noise of")
    for name, absent in (("the voice", "lips"), ("the lips", "voice"), ("both", None)):
        part = table if absent is None else table.with_column(absent, [None] * len(table))
        print(f"  {name:<10} {model.evaluate(part).targets['words'].metrics['wer']:.3f}")
    answer = model.predict(tables["test"])[0].targets["words"]
    print(f"{answer['value']!r}, truly {table.row(0)['words']!r}")
    for word in answer["words"]:
        print(f"  {word['word']:<6} {word['start']:.2f} to {word['end']:.2f} s")
