"""Lip-assisted speech recognition: a voice in noise, the lips, and both. Synthetic data."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_lips import ALIKE, make

RECIPE = Path(__file__).parents[1] / "recipes" / "lip_reading.yaml"
LOOKS = {word: words for words in ALIKE for word in words}
"""Words that look like a word on the lips, with it."""

with TemporaryDirectory() as folder:
    tables = make(folder, rows=280, noise=1.0)  # only the sounds of the test are noisy
    quick = ["model.size=tiny", "training.epochs=24", "training.lr=0.005", "columns.voice.snr_db=-5"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    table = sm.Table.read(tables["test"])
    last = [str(text).split()[-1] for text in table.column("words")]
    print("in noise                 word error rate   last word right   or one that looks like it")
    for name, absent in (("the voice", "lips"), ("the lips", "voice"), ("both", None)):
        part = table if absent is None else table.with_column(absent, [None] * len(table))
        wer = model.evaluate(part).targets["words"].metrics["wer"]
        heard = [(str(answer.value).split() or [""])[-1] for answer in model.predict(part)]
        right = sum(word == true for word, true in zip(heard, last, strict=True)) / len(last)
        alike = sum(word in LOOKS[true] for word, true in zip(heard, last, strict=True)) / len(last)
        print(f"  {name:<10} {wer:>27.3f} {right:>17.2f} {alike:>27.2f}")
    answer = model.predict(tables["test"])[0].targets["words"]
    print(f"{answer['value']!r}, truly {table.row(0)['words']!r}")
    for word in answer["words"]:
        print(f"  {word['word']:<6} {word['start']:.2f} to {word['end']:.2f} s")
