"""Memory of an evaluation whose answers are masks: it must grow with the stored counts only, not with the answers."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Results, Settings, Skipped, compared
from sensorium.core.answer import Answer, Attachment
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.contracts import Adapter, Encoder, Fusion
from sensorium.core.goal import Goal
from sensorium.core.layout import Row
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.evaluation.evaluate import evaluate
from sensorium.metrics.weighting import mean
from sensorium.model import Model
from sensorium.testing.processes import forked

SIDE, STREAMS, BATCH = 128, ("photo", "sound", "note"), 50


class _Plain(Encoder):
    reads = (Row,)
    dim = 8

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        present = torch.ones(data.shape[0], dtype=torch.bool)
        return Encoded(data[:, None], present[:, None], data, present)


class _Same(Adapter):
    def forward(self, part: Encoded) -> Encoded:
        return part


class _Sum(Fusion):
    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled = torch.stack([parts[s].pooled for s in self.streams]).sum(0)
        present = torch.stack([parts[s].present for s in self.streams]).any(0)
        return Encoded(pooled[:, None], present[:, None], pooled, present)


class _Masks(Task[Tensor]):
    """A mask of ``SIDE`` pixels a side for each row."""

    predicts = ("mask",)
    headline = "accuracy"

    def __init__(self, goal: Goal, dim: int) -> None:
        super().__init__(goal, dim)
        self.last = nn.Linear(dim, SIDE)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        line = self.last(fused.pooled)
        return line[:, :, None] + line[:, None, :]

    def loss(self, output: Tensor, target: Field) -> Tensor:
        truth = target.data.to(output)
        return nn.functional.binary_cross_entropy_with_logits(output, truth, reduction="none").mean(dim=(1, 2))

    def scorer(self) -> Scorer[Tensor]:
        return _Right(self)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        return [{"value": Attachment(mask.numpy(), "mask")} for mask in (output > 0).to(torch.uint8)]

    def truths(self, batch: Batch) -> list[Any]:
        return [None] * batch.rows


class _Right(Scorer[Tensor]):
    def __init__(self, task: _Masks) -> None:
        super().__init__()
        self._target = task.target

    def keep(self, output: Tensor, batch: Batch) -> Kept:
        target = self._target(batch)
        assert target is not None
        return {"right": ((output > 0) == (target.data > 0)).double().mean(dim=(1, 2))}

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        right = self.kept.get("right", torch.zeros(0, dtype=torch.float64))
        return {"accuracy": mean(right, self.ones() if weights is None else weights)}


def _batches(rows: int) -> Any:
    draw = torch.Generator().manual_seed(0)
    present = torch.ones(BATCH, dtype=torch.bool)
    for _ in range(rows // BATCH):
        inputs = {s: Field(torch.randn(BATCH, 8, generator=draw), present) for s in STREAMS}
        mask = (torch.rand(BATCH, SIDE, SIDE, generator=draw) < 0.3).to(torch.uint8)
        yield Batch(inputs, {"mask": Field(mask, present)}, torch.ones(BATCH))


def _peak(rows: int) -> float:
    """Return by how many MB evaluating all subsets of streams raises the peak memory of this process."""
    reader: Any = None
    torch.manual_seed(0)
    task = _Masks(Goal("mask", {"mask": reader}), 8)
    parts = {s: _Plain() for s in STREAMS}, {s: _Same(8, 8) for s in STREAMS}
    model = Model(*parts, _Sum(STREAMS, 8), {"mask": task})
    before = _status("VmRSS")
    evaluate(model, _batches(rows), resamples=20)
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """Return an entry of the process status, in MB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) / 1024


def run(settings: Settings) -> Results:
    """Compare the peak memory for ten times the rows with that for the rows, each in a process of its own."""
    if sys.platform != "linux":
        return [Skipped("evaluate masks", "reads /proc")]
    few, repeats = settings.few(1000, 200), settings.few(3, 1)
    peaks: dict[int, list[float]] = {few: [], 10 * few: []}
    for _ in range(repeats):
        for rows, result in peaks.items():
            result += forked(1, lambda _, rows=rows: _peak(rows))  # type: ignore[misc]
    note = f"{10 * few:,} rows beside {few:,}; all {2 ** len(STREAMS) - 1} subsets of streams, {SIDE} x {SIDE} masks"
    growth = [max(0.01, 1024 * (more - less) / (9 * few)) for more, less in zip(peaks[10 * few], peaks[few], strict=True)]
    mask = [4 * SIDE * SIDE / 1024] * repeats
    return [
        compared("peak memory of an evaluation, 10 x the rows", "MB", peaks[10 * few], peaks[few], note=note),
        compared("what a further row costs, beside its output", "kB", growth, mask, at_most=0.05),
    ]
