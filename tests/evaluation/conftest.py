"""A model small enough to know what it must score: streams are vectors, the fusion adds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.contracts import Adapter, Encoder, Fusion
from sensorium.core.goal import Goal
from sensorium.core.layout import Row
from sensorium.model import Model
from sensorium.tasks.classification import Classification
from sensorium.tasks.multilabel import Multilabel
from sensorium.tasks.regression import Regression

Make = Callable[..., tuple[Model, list[Batch]]]
CLASSES = ("cat", "dog", "eel")


class Plain(Encoder):
    reads = (Row,)
    dim = 3

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        present = torch.ones(data.shape[0], dtype=torch.bool)
        return Encoded(data[:, None], present[:, None], data, present)


class Same(Adapter):
    def forward(self, part: Encoded) -> Encoded:
        return part


class Sum(Fusion):
    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled = torch.stack([parts[s].pooled for s in self.streams]).sum(0)
        present = torch.stack([parts[s].present for s in self.streams]).any(0)
        return Encoded(pooled[:, None], present[:, None], pooled, present)


def classes(names: Sequence[str] = CLASSES) -> Any:
    def decode(value: Any) -> Any:
        return names[int(value[0])] if len(value) == 1 else [n for n, v in zip(names, value, strict=True) if v]

    return SimpleNamespace(classes=list(names), decode=decode, ragged=False)


def eye(task: Any) -> Any:
    with torch.no_grad():
        task.last.weight.copy_(torch.eye(*task.last.weight.shape))
        task.last.bias.zero_()
    return task


def made(
    strengths: Mapping[str, float] = {"image": 3.0, "audio": 1.0, "noise": 0.0},
    rows: int = 300,
    kinds: Sequence[str] = ("classification",),
    seed: int = 0,
) -> tuple[Model, list[Batch]]:
    """Each stream is the answer times its strength, plus noise of 1. A row in ten lacks its target."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(3, (rows,), generator=generator)
    signal = torch.nn.functional.one_hot(truth, 3).float()
    present = torch.ones(rows, dtype=torch.bool)
    inputs = {
        name: Field(s * signal + torch.randn(rows, 3, generator=generator) * (0.1 if s == 0 else 1.0), present)
        for name, s in strengths.items()
    }
    known = torch.arange(rows) % 10 != 9
    number: Any = SimpleNamespace(decode=lambda value: float(value[0]) * 2 + 5, ragged=False, logarithmic=False)
    tasks: dict[str, Any] = {}
    targets: dict[str, Field] = {}
    for kind in kinds:
        if kind == "classification":
            tasks["animal"] = eye(Classification(Goal.of(classes(), "animal"), 3))
            targets["animal"] = Field(truth.float()[:, None], known)
        elif kind == "multilabel":
            tasks["tags"] = eye(Multilabel(Goal.of(classes(), "tags"), 3))
            targets["tags"] = Field(signal, known)
        else:
            tasks["price"] = eye(Regression(Goal.of(number, "price"), 3))
            targets["price"] = Field(signal[:, :1] * 2, known)
    model = Model({s: Plain() for s in strengths}, {s: Same(3, 3) for s in strengths}, Sum(list(strengths), 3), tasks)
    batches = []
    for part in torch.arange(rows).split(64):
        pick = Batch(inputs, targets, torch.ones(rows)).map(lambda tensor, part=part: tensor[part])  # type: ignore[misc]
        batches.append(pick)
    return model, batches


@pytest.fixture
def make() -> Make:
    return made
