"""Recommendation: who, what, picture and words → a rating, and the ranking of each user's items. Simulated ratings."""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torchmetrics.retrieval import RetrievalNormalizedDCG, RetrievalRecall

import sensorium as sm
from sensorium.data.synthetic_shop import make

RECIPE = Path(__file__).parents[1] / "recipes" / "recommendation.yaml"
LIKED = 4.0  # ratings from here on count as liked


def ranking(rows: sm.Table, guesses: np.ndarray) -> tuple[float, float]:
    """Return NDCG@5 and recall@5 of liked items, means over users who liked any, of items ranked by ``guesses``."""
    users = np.unique(rows.column("user"), return_inverse=True)[1]
    ratings = torch.tensor([float(cell) for cell in rows.column("rating")])
    scores, indexes = torch.tensor(guesses, dtype=torch.float32), torch.tensor(users)
    gains = RetrievalNormalizedDCG(top_k=5, empty_target_action="skip")(scores, ratings - 1, indexes=indexes)
    recall = RetrievalRecall(top_k=5, empty_target_action="skip")(scores, ratings >= LIKED, indexes=indexes)
    return float(gains), float(recall)


def answers(model: sm.Model, rows: sm.Table, media: str) -> np.ndarray:
    """Return the rating that ``model`` expects in each of ``rows``."""
    return np.array([answer.value for answer in model.predict(list(rows.rows()), media=media)])


with TemporaryDirectory() as folder:
    tables = make(folder, rows=1300, test=0.3, new=20)
    train = sm.Table.read(tables["train"])
    quick = ["model.size=tiny", "training.epochs=25", "training.lr=0.005", "model.experts=[]"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    content = sm.fit(tables["train"], recipe=RECIPE, overrides=[*quick, "columns.item.role=ignore"], quiet=True)

    rated = defaultdict(list)
    for row in train.rows():
        rated[row["item"]].append(float(row["rating"]))
    everything = np.mean([float(cell) for cell in train.column("rating")])
    for name in ("test", "new"):
        rows = sm.Table.read(tables[name])
        print(f"{'known items' if name == 'test' else 'items that training never had'}, {len(rows)} ratings")
        # The mean rating of an item, shrunk to the mean of all; of a new one nothing is known.
        popular = np.array([(sum(rated[item]) + 3 * everything) / (len(rated[item]) + 3) for item in rows.column("item")])
        chance = np.mean([ranking(rows, np.random.default_rng(i).random(len(rows))) for i in range(20)], axis=0)
        scores = {
            "by chance": chance,
            "popularity": ranking(rows, popular) if name == "test" else chance,
            "who, what, picture, words": ranking(rows, answers(model, rows, folder)),
            "without the item's id": ranking(rows, answers(content, rows, folder)),
        }
        for method, (gains, recall) in scores.items():
            print(f"  {method:<26} NDCG@5 {gains:.2f}  recall@5 {recall:.2f}")
