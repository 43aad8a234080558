"""Questions about pictures and films, written or spoken, answered in words. Synthetic data."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.codecs.speech_synthesis import SpeechSynthesiser
from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_questions import make

RECIPES = Path(__file__).parents[1] / "recipes"

with TemporaryDirectory() as folder:
    tables = make(folder, rows=400)
    train, test = (sm.Table.read(tables[name]) for name in ("train", "test"))
    # Written as recognised: a recogniser writes no question marks.
    train, test = (
        table.with_column("question", [cell.rstrip("?") for cell in table.column("question")]) for table in (train, test)
    )
    quick = ["model.size=tiny", "training.lr=0.005"]

    # The question in words.
    written = sm.fit(
        train,
        target="answer",
        task="answering",
        options={"prompt": "question"},
        ignore=["spoken"],
        overrides=[*quick, "training.epochs=40"],
        quiet=True,
    )
    # A recogniser of the spoken questions.
    heard = sm.fit(
        train,
        target="question",
        task="transcription",
        options={"on": ["spoken"]},
        ignore=["photo", "film", "answer"],
        overrides=[*quick, "training.epochs=40"],
        quiet=True,
    )
    # The recording as a stream like the picture.
    listening = sm.fit(
        train,
        recipe=RECIPES / "spoken_questions.yaml",
        ignore=["question"],
        overrides=[*quick, "training.epochs=60"],
        quiet=True,
    )

    print(f"word error rate of the recogniser {heard.evaluate(test).targets['question'].metrics['wer']:.3f}")
    recognised = [answer.value for answer in heard.predict(test)]
    spoken_test = test.with_column("question", recognised)
    print("share of the answers that are right")
    for name, model, table in (
        ("written question", written, test),
        ("spoken, through the recogniser", written, spoken_test),
        ("spoken, as a stream", listening, test),
    ):
        scores = model.evaluate(table).targets["answer"]
        blind = scores.controls["inputs of other rows"].metrics["exact_match"]
        print(f"  {name:<31} {scores.metrics['exact_match']:.2f}, with the pictures of other rows {blind:.2f}")
    for row, question, answer in list(zip(test.rows(), recognised, written.predict(spoken_test), strict=True))[:4]:
        print(f"{row['photo'] or row['film']}: {question!r} → {answer.value!r} (truly {row['answer']!r})")
    try:
        speech = SpeechSynthesiser().speak(f"It is {answer.value}.").sound
        print(f"the last answer, spoken: {speech.seconds:.1f} s of sound")
    except ConfigError as error:
        print(f"the answers are not spoken: {error.problem}")
