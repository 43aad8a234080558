"""Customer service: words, a picture of the broken thing and the tone of voice in; intent, feeling and a spoken answer out.

The answer is grounded in a small manual: the customer's words find a section in a search index, the section is part of the
question, and the lamp on the picture decides which of its lines applies. The data are simulated, and a stand-in speaks
where neither ``espeak-ng`` nor ``flite`` is installed.
"""

import csv
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import sensorium as sm
from sensorium.codecs.speech_synthesis import PROGRAMS, SpeechSynthesiser
from sensorium.data import synthetic_service as service
from sensorium.streaming.spoken_chat import Recogniser, intelligibility
from sensorium.testing import tiny_language_model
from sensorium.testing.stand_in_speech import install

with TemporaryDirectory() as name, patch.dict(os.environ, PATH=f"{os.environ['PATH']}{os.pathsep}{name}/bin"):
    folder = Path(name)
    if not any(map(shutil.which, PROGRAMS)):
        install(folder / "bin", tones=service.TONES)
    tables = service.make(folder / "complaints", rows=320)
    rows, test = list(sm.Table.read(tables["train"]).rows()), list(sm.Table.read(tables["test"]).rows())

    # The search: messages and sections of the manual in one space.
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["message", "section"], *([row["message"], row["section"]] for row in rows)])
    search = sm.fit(
        folder / "pairs.csv",
        task="retrieval",
        options={"between": ["message", "section"]},
        columns={"message": "text", "section": "text"},
        overrides=["model.size=tiny", "training.epochs=15", "training.refit=none"],
        out=folder / "search",
        quiet=True,
    )
    index, _ = sm.Index.create(folder / "manual", search, service.manual(), run=folder / "search")

    def advice(message: str) -> str:
        """Return the advice of the section found by the words of ``message``."""
        return str(index.search({"message": message}, top=1)[0].cells["advice"])

    found = [advice(str(row["message"])) in str(row["question"]) for row in test]
    print(f"right section found {sum(found) / len(found):.2f}")

    lm = tiny_language_model.write(folder / "tiny", steps=250, texts=service.text, words=service.WORDS)
    settings = ["model.size=tiny", "training.epochs=10", "training.lr=0.005", "training.batch_size=16"]
    model = sm.fit(
        tables["train"],
        recipe=Path(__file__).parents[1] / "recipes" / "customer_service.yaml",
        overrides=[*settings, f"model.tasks.answer.lm={lm}"],
        quiet=True,
    )
    scores = model.evaluate(tables["test"]).targets
    for target, metric in (("intent", "accuracy"), ("feeling", "accuracy"), ("answer", "exact_match")):
        print(
            f"right {target} {scores[target].metrics[metric]:.2f}, most frequent one {scores[target].baseline[metric]:.2f}"
        )
    for what, control in scores["answer"].controls.items():
        print(f"  right answer {what}: {control.metrics['exact_match']:.2f}")

    # One complaint, from its words to the spoken answer.
    root = tables["test"].parent
    complaint = {column: str(root / str(test[0][column])) for column in ("picture", "voice")}
    complaint["message"] = str(test[0]["message"])
    complaint["question"] = service.ask(advice(complaint["message"]))
    targets = model.predict([complaint])[0].targets
    print(
        complaint["message"],
        "→",
        ", ".join(f"{name}: {targets[name]['value']}" for name in ("intent", "feeling", "answer")),
    )
    answer, speaker = str(targets["answer"]["value"]), SpeechSynthesiser()
    if answer:
        print(f"spoken in {speaker.speak(answer).sound.seconds:.1f} s")

    # How intelligible the spoken answers are: to a recogniser that has learnt the words of the manual in this voice.
    heard = sm.fit(
        service.sentences(folder / "sentences", lambda text: speaker.speak(text).wav, rows=240),
        target="transcript",
        task="transcription",
        overrides=["model.size=tiny", "training.epochs=25", "training.lr=0.01", "training.refit=none"],
        quiet=True,
    )
    answers = sorted({str(row["answer"]) for row in test})
    errors = intelligibility(answers, speaker, Recogniser(heard.predictor)).wer
    print(f"word error rate of the recogniser on spoken answers {errors:.2f}")
