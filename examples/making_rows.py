"""A generator of sensor readings under a label: rows are made, judged, and learnt from beside real ones.

The data are synthetic: two sensors that hear the same event. Labels are few.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import sensorium as sm

COLUMNS = {"vibration": "series", "load": "number"}
EVENTS = ("idle", "start", "fault")


def record(rows: int, seed: int) -> list[dict[str, Any]]:
    """Return ``rows`` events: a vibration, a load and the name of the event."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, 24)
    table = []
    for i in range(rows):
        kind = i % len(EVENTS)
        vibration = rng.uniform(0.7, 1.3) * np.sin(2 * np.pi * (1 + kind) * time + rng.normal(0, 0.3))
        vibration += 0.3 * rng.normal(size=24)
        load = 2.0 * kind + rng.normal()
        table.append({"vibration": vibration.round(3).tolist(), "load": load, "event": EVENTS[kind]})
    return table


small = ["model.size=tiny", "training.lr=0.004"]  # so that this takes seconds
train, test = record(90, 0), record(60, 1)

maker = sm.fit(
    train,
    target=list(COLUMNS),
    task="generation",
    options={"given": ["event"]},
    columns=COLUMNS,
    epochs=20,
    overrides=small,
    quiet=True,
)
scores = maker.evaluate(test).targets["generation"].metrics
print({name: round(value, 2) for name, value in scores.items()})

made = maker.sample(20, given={"event": "fault"}, seed=0)
print(f"load of made faults {np.mean([row['load'] for row in made]):.1f}, of real ones 4.0")

few = [*small, "model.experts=[]", "training.epochs=15"]
model = sm.fit(train[:30], target="event", columns=COLUMNS, augment_with=made, overrides=few, quiet=True)
both = model.artifact.report["more_rows"]["scores"]["event"]
print(f"{both['metric']} without made rows {both['without']:.2f}, with them {both['with']:.2f}")
