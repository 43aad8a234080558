"""Scoring of a trained model on encoded rows."""

from __future__ import annotations

import torch

from sensorium.data import encoded_rows as encoded
from sensorium.evaluation.score_accumulator import ScoreAccumulator
from sensorium.trained import Trained


def score_rows(trained: Trained, rows: encoded.Rows) -> ScoreAccumulator:
    """Return the scores of every task of ``trained`` over ``rows``."""
    model = trained.predictor.model.eval()
    tally = ScoreAccumulator(model.tasks, losses=False)
    with torch.inference_mode():
        for batch in trained.batches(rows):
            tally.update(model(batch), batch)
    return tally
