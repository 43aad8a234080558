"""Speech recognition helped by a second stream: words of tones, and the same words written as a line of signs, in noise."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_speech import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=240, noise=0.6)  # only the rows of the test are noisy
    settings = ["model.size=tiny", "training.epochs=25", "training.lr=0.005"]
    settings += ["columns.clip.snr_db=0", "columns.strip.noise=0.8"]  # noise in training
    model = sm.fit(
        tables["train"], target="transcript", task="transcription", ignore=["times"], overrides=settings, quiet=True
    )
    table = sm.Table.read(tables["test"])
    for name, absent in (("the sound", "strip"), ("the line", "clip"), ("both", None)):
        part = table if absent is None else table.with_column(absent, [None] * len(table))
        print(f"word error rate of {name:<10} {model.evaluate(part).targets['transcript'].metrics['wer']:.3f}")
    answer = model.predict(tables["test"])[0].targets["transcript"]
    print(f"{answer['value']!r}, probability {answer['confidence']:.2f}")
    for word in answer["words"]:
        print(f"  {word['word']:<6} {word['start']:.2f} to {word['end']:.2f} s")
