"""An assistant in a car: a spoken command, the camera and the state of the car in, an action and a spoken answer out.

The data are simulated; a word is two tones. A stand-in speaks them, since the words of ``flite`` or ``espeak-ng`` are none
of tones: elsewhere leave out the line with ``install``.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import sensorium as sm
from sensorium.codecs.speech_synthesis import SpeechSynthesiser
from sensorium.data import synthetic_car as car
from sensorium.streaming.chat_session import Chat
from sensorium.streaming.spoken_chat import Recogniser, intelligibility
from sensorium.testing import tiny_language_model
from sensorium.testing.stand_in_speech import install

with TemporaryDirectory() as name, patch.dict(os.environ, PATH=f"{name}/bin{os.pathsep}{os.environ['PATH']}"):
    folder = Path(name)
    install(folder / "bin", "espeak-ng", car.TONES)
    # A tiny language model that has read "red go cold red warm ... what now? wait for green".
    lm = tiny_language_model.write(folder / "tiny", steps=150, texts=car.text, words=car.READS)
    tables = car.make(folder / "drives", rows=400)
    recipe = Path(__file__).parents[1] / "recipes" / "in_car_assistant.yaml"
    settings = ["model.size=tiny", "training.epochs=12", "training.lr=0.005", "training.batch_size=16"]
    model = sm.fit(
        tables["train"], recipe=recipe, overrides=[*settings, f"model.tasks.answer.lm={lm}"], out=folder / "run", quiet=True
    )
    scores = model.evaluate(tables["test"]).targets
    for target, metric in (("action", "accuracy"), ("answer", "exact_match")):
        print(
            f"right {target}s {scores[target].metrics[metric]:.2f}, most frequent one {scores[target].baseline[metric]:.2f}"
        )
    for what, control in scores["answer"].controls.items():
        print(f"  right answers {what}: {control.metrics['exact_match']:.2f}")

    # A recogniser of the same words transcribes commands and checks the spoken answers.
    heard = sm.fit(
        car.sentences(folder / "sentences", rows=400),
        target="transcript",
        task="transcription",
        overrides=["model.size=tiny", "training.epochs=25", "training.lr=0.01", "training.refit=none"],
        quiet=True,
    )
    recogniser, voice = Recogniser(heard.predictor), SpeechSynthesiser()
    row = next(sm.Table.read(tables["test"]).rows())
    state = {column: row[column] for column in ("command", "camera", "inside", "fuel")}
    state |= {column: str(tables["test"].parent / str(row[column])) for column in ("command", "camera")}
    print("recognised as:", recogniser.transcribe(state["command"]))
    chat = Chat(model.predictor)
    chat.show(state)
    answer = "".join(chat.ask(car.QUESTION))
    print("action:", model.predict([{**state, "question": car.QUESTION}])[0].targets["action"]["value"])
    (folder / "answer.wav").write_bytes(voice.speak(answer).wav)
    print("spoken answer:", answer)
    answers = sorted({str(row["answer"]) for row in sm.Table.read(tables["test"]).rows()})
    print(f"word error rate of the recogniser on spoken answers {intelligibility(answers, voice, recogniser).wer:.2f}")
