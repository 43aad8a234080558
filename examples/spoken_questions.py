"""Questions about pictures and films, written or spoken, answered in words. Synthetic data."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.codecs.speech_synthesis import SpeechSynthesiser
from sensorium.core.modality import Blob
from sensorium.data.synthetic_questions import make
from sensorium.streaming.spoken_chat import Recogniser

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = {"espeak-ng": ("f1", "f2", "m1", "m3", "m7"), "flite": ("kal", "slt", "rms", "awb")}
VOICES = [SpeechSynthesiser(name, voice=voice) for name in NAMES if shutil.which(name) for voice in NAMES[name]]
"""The voices of the speech programs that are installed; without any, questions are spoken by a simulated voice."""


@cache
def say(text: str, voice: int) -> bytes:
    """Return the WAV file of ``text``, spoken by a voice."""
    return VOICES[voice].speak(text).wav


with TemporaryDirectory() as folder:
    tables = make(folder, rows=400, speak=(lambda text, i: say(text, i % len(VOICES))) if VOICES else None)
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
    # Speech in, speech out: a question spoken by each program, answered aloud by the same voice.
    row = test.row(0)
    for voice in {speech.program: speech for speech in VOICES}.values():
        question = Recogniser(heard.predictor).transcribe(Blob(voice.speak(f"{row['question']}?").wav, "question"))
        media = {name: str(Path(folder) / str(row[name])) if row[name] else None for name in ("photo", "film")}
        answer = written.predict([{**media, "question": question}])[0].value
        reply = voice.speak(f"It is {answer}.")
        Path(folder, "reply.wav").write_bytes(reply.wav)
        print(f"{voice.program} {voice.voice}: {question!r} → {answer!r}, in {reply.sound.seconds:.1f} s of sound")
    if not VOICES:
        print("no answer was spoken: neither espeak-ng nor flite is installed")
