"""Questions about one's own pictures and sounds: a conversation that shows files, and a choice among possible answers.

A tiny language model stands for a real one (``--lm FOLDER``); the pictures and sounds are drawn on the spot.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data import synthetic_album as album
from sensorium.streaming.chat_session import Chat
from sensorium.testing import tiny_language_model

with TemporaryDirectory() as name:
    folder = Path(name)
    lm = tiny_language_model.write(folder / "tiny", steps=300, texts=album.text, words=album.WORDS)
    tables = album.make(folder / "album", rows=400)
    model = sm.fit(
        tables["train"],
        recipe=Path(__file__).parents[1] / "recipes" / "own_media.yaml",
        overrides=[
            *("model.size=tiny", "training.epochs=12", "training.lr=0.005", "training.batch_size=16"),
            f"model.tasks.answer.lm={lm}",
        ],
        quiet=True,
    )
    scores = model.evaluate(tables["test"]).targets["answer"]
    print(f"right answers {scores.metrics['exact_match']:.2f}, most frequent one {scores.baseline['exact_match']:.2f}")
    for what, control in scores.controls.items():
        print(f"  {what}: {control.metrics['exact_match']:.2f}")

    row = next(sm.Table.read(tables["test"]).rows())
    chat = Chat(model.predictor)
    chat.show({column: str(tables["test"].parent / str(row[column])) for column in ("picture", "recording")})
    print("what colour is it?", "".join(chat.ask("what colour is it?")))
    for text, probability in chat.choose("is the bell low or high?", ["low", "high"]).items():
        print(f"  {probability:.2f}  {text}")
