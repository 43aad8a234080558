"""Pretraining on rows without labels, then a model of few labelled ones, and its gain.

The data are synthetic: two sensors that hear the same event, each in its own way. Few events have a name.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import sensorium as sm

KINDS = 6
COLUMNS = {"vibration": "series", "pressure": "series"}


def record(rows: int, seed: int) -> list[dict[str, Any]]:
    """Return ``rows`` events: a vibration, a pressure and the name of the event; now and then a sensor fails."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, 24)
    made = []
    for i in range(rows):
        kind = int(rng.integers(KINDS))
        strength = rng.uniform(0.7, 1.3)
        vibration = strength * np.sin(2 * np.pi * (1 + kind) * time) + 0.5 * rng.normal(size=24)
        pressure = strength * np.sign(np.sin(2 * np.pi * (1 + kind) * time + 0.1)) + 0.5 * rng.normal(size=24)
        made.append(
            {
                "vibration": None if i % 11 == 5 else vibration[:, None].astype("float32"),
                "pressure": None if i % 11 == 9 else pressure[:, None].astype("float32"),
                "event": f"event {kind}",
            }
        )
    return made


small = ["model.size=tiny"]  # so that this takes seconds
labelled, test = record(90, 1), record(120, 2)
unlabelled = [{name: row[name] for name in COLUMNS} for row in record(200, 0)]

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary) / "base"
    base = sm.pretrain(unlabelled, columns=COLUMNS, epochs=15, lr=4e-3, overrides=small, out=folder, quiet=True)
    learnt = base.evaluate([{name: row[name] for name in COLUMNS} for row in test]).targets["pretraining"].metrics
    print(
        f"rebuilt {learnt['explained']:.2f} of each stream from the other; partner found first: {learnt['recall_at_1']:.2f}"
    )

    few = [*small, "training.epochs=20", "model.experts=[]", "training.refit=none"]
    gain = sm.gain(folder, labelled, target="event", labels=[36], seeds=2, test=test, columns=COLUMNS, overrides=few)
    print(gain.text())

    model = sm.fit(labelled, target="event", columns=COLUMNS, init=folder, overrides=few, quiet=True)
    print(f"from the base: accuracy {model.evaluate(test).targets['event'].metrics['accuracy']:.2f}")
