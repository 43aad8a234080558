"""Education: the moment of a lecture that answers a question, found by its film, its sound and the text of its slide.

Simulated lectures. A question is a point in the space in which the segments lie, whichever of their streams are there.
"""

from math import comb
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import sensorium as sm
from sensorium.data.synthetic_lectures import make

RECIPE = Path(__file__).parents[1] / "recipes" / "lecture_search.yaml"
QUICK = ["model.size=tiny", "training.refit=none"]
SEED = 0
STREAMS = ("video", "sound", "slide")


def clock(seconds: object) -> str:
    """Return ``seconds`` as minutes and seconds."""
    minutes, rest = divmod(int(float(str(seconds))), 60)
    return f"{minutes}:{rest:02d}"


with TemporaryDirectory() as temporary:
    folder = Path(temporary)
    tables = make(folder, rows=600, seed=SEED)
    model = sm.fit(
        tables["train"],
        recipe=RECIPE,
        overrides=[*QUICK, f"seed={SEED}"],
        out=folder / "run",
        quiet=True,
    )
    segments = list(sm.Table.read(tables["test"]).rows())
    questions, moments = [row["question"] for row in segments], [row["moment"] for row in segments]

    # Chance: segments in random order. TF-IDF: the words of the question on the slide; equal ones in random order.
    right = np.array([[moment == other for other in moments] for moment in moments])
    count = len(segments)
    chance = [np.mean([1 - comb(count - k, n) / comb(count, n) for k in right.sum(axis=1).tolist()]) for n in (1, 5)]
    words = TfidfVectorizer().fit([row["slide"] for row in sm.Table.read(tables["train"]).rows()])
    similar = (words.transform(questions) @ words.transform([row["slide"] for row in segments]).T).toarray()
    order = (-similar - 1e-9 * np.random.default_rng(0).random(similar.shape)).argsort(axis=1)
    ranked = np.take_along_axis(right, order, axis=1)
    scores = {"by chance": chance, "TF-IDF of question and slide": [ranked[:, :n].any(axis=1).mean() for n in (1, 5)]}

    # The index of whole segments, and those of segments that lack streams.
    indices = {}
    for kept in (STREAMS, ("video", "sound"), ("slide",), ("sound",), ("video",)):
        name = "+".join(kept)
        shown = ("lecture", "moment", "start", "end")
        rows = [{column: row[column] for column in (*kept, *shown)} for row in segments]
        index, _ = sm.Index.create(folder / "index" / name, model, rows, media=folder, show=shown, run=folder / "run")
        found = [[hit.cells["moment"] for hit in index.search({"question": text}, top=5)] for text in questions]
        scores[name] = [np.mean([m in f[:n] for m, f in zip(moments, found, strict=True)]) for n in (1, 5)]
        indices[name] = index
    print(f"{count} segments of {len({row['lecture'] for row in segments})} new lectures; the right moment is")
    for name, (first, five) in scores.items():
        print(f"  {name:<30} first {first:.2f}, within five {five:.2f}")

    for name in ("+".join(STREAMS), "video+sound"):
        print(f"{questions[4]!r}, asked of {name} (right: {moments[4]})")
        for hit in indices[name].search({"question": questions[4]}, top=3):
            cells = hit.cells
            print(f"  {hit.score:.2f}  {cells['moment']}, {clock(cells['start'])} to {clock(cells['end'])}")
