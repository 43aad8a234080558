"""What a trained model answers for encoded rows, as the metrics take it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sensorium.core.batch import joined
from sensorium.data import rows as encoded
from sensorium.evaluation.scores import pair
from sensorium.trained import Trained


def answers(trained: Trained, rows: encoded.Rows) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Predictions and truths of the rows that have a target, as the metrics take them."""
    name, model = trained.schema.targets[0].name, trained.predictor.model.eval()
    with torch.inference_mode():
        found = [(model(batch)[name], batch.targets[name]) for batch in trained.batches(rows)]
    output, target = joined([output for output, _ in found]), joined([target for _, target in found])
    prediction, truth = pair(model.tasks[name], output, target)
    return prediction.float().numpy(), truth.numpy()
