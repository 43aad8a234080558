"""What every task keeps."""

from __future__ import annotations

import json
from typing import Any

import torch

from sensorium.core.batch import Encoded, Field
from sensorium.core.contracts import Seen, Task
from sensorium.core.errors import ConfigError
from sensorium.core.modality import Modality
from sensorium.core.registry import build, find, kinds
from sensorium.testing import samples
from sensorium.testing.general import assert_same, check_description, check_gradients, check_module, stirred

DIM = 16


def check_task(kind: str, modality: Modality | None = None, target: Field | None = None) -> None:
    """Losses are ``[B]`` and finite, whatever stands in rows without a target; answers are JSON.

    ``modality`` and ``target``: a fitted modality and twelve of its targets, for a task that no modality at home names.
    """
    check_description("tasks", kind)
    where = f"tasks/{kind}"
    if modality is None or target is None:
        modality, target = target_of(kind)
    reader, field = modality, target
    rows = field.present.shape[0]
    parts = streams(rows)

    def make() -> Task[Any]:
        torch.manual_seed(0)
        task: Task[Any] = build("tasks", kind, reader, DIM)
        task.fit(field)
        return task

    check_module(make, lambda task: task(parts["one"], parts))
    task = stirred(make()).eval()
    with torch.no_grad():
        output = task(parts["one"], parts)
        loss = task.loss(output, field)
        assert loss.shape == (rows,), f"{where}: the loss is {tuple(loss.shape)}, not [B]"
        assert bool(loss.isfinite().all()), f"{where}: the loss is not finite"
        for littered in (float("nan"), 1e6, -3.0):
            data = field.data.float().clone()
            data[0] = littered
            other = task.loss(
                output, Field(data.to(field.data.dtype), field.present & (torch.arange(rows) > 0), field.mask)
            )
            assert bool(other.isfinite().all()), f"{where}: {littered} in a row without a target makes the loss infinite"
            assert_same(other[1:], loss[1:], f"{where}: a row without a target changes the loss of others")
        alone = {s: p.map(lambda t: t[:1]) for s, p in parts.items()}
        assert_same(
            task.loss(task(alone["one"], alone), row(field)), loss[:1], f"{where}: a row's loss depends on its batch"
        )
        base = task.baseline(field, rows)
        for answer in (output, base):
            check_answers(task, answer, rows, where)
        check_measures(task, output, field, where)
        check_measures(task, base, field, where)
    task.train()
    check_gradients(task, task.loss(task(parts["one"], parts), field))
    if type(task).settle is not Task.settle:
        check_settled(make(), stirred(make(), seed=1), field, where)


def check_settled(task: Task[Any], twin: Task[Any], target: Field, where: str) -> None:
    """What is learnt after the network is in the state dict, holds for each row alone, and needs no target."""
    rows = target.present.shape[0]
    parts = streams(rows)
    task.eval().settle(seen(parts, target), seen(parts, target))
    nothing = Field(target.data, torch.zeros_like(target.present), target.mask)
    with torch.no_grad():
        output = task(parts["one"], parts)
        check_answers(task, output, rows, f"{where}, settled")
        check_measures(task, output, target, f"{where}, settled")
        twin.eval().load_state_dict(task.state_dict())
        assert_same(twin(parts["one"], parts), output, f"{where}: the state dict does not carry what settle learnt")
        assert twin.decode(output) == task.decode(output), f"{where}: the state dict does not carry what settle learnt"
        alone = {s: p.map(lambda t: t[:1]) for s, p in parts.items()}
        first = task(alone["one"], alone)
        assert_same(task.loss(first, row(target)), task.loss(output, target)[:1], f"{where}: settled rows depend on others")
        task.settle(seen(parts, nothing), seen(parts, nothing))
        assert bool(task.loss(task(parts["one"], parts), target).isfinite().all()), f"{where}: no target settles badly"


def row(field: Field) -> Field:
    """The first row of a field."""
    return Field(field.data[:1], field.present[:1], None if field.mask is None else field.mask[:1])


def seen(parts: dict[str, Encoded], target: Field) -> Seen:
    """Rows as a task sees them after training; the first stream stands for the fused ones."""

    def vectors(part: Encoded) -> Encoded:
        return Encoded(part.pooled.unsqueeze(1), part.present.unsqueeze(1), part.pooled, part.present)

    fused = {name: vectors(part) for name, part in parts.items()}
    return Seen(fused["one"], fused, target, torch.ones(target.present.shape[0]))


def check_answers(task: Task[Any], output: Any, rows: int, where: str) -> None:
    """One JSON-ready answer a row, with a value."""
    answers = task.decode(output)
    assert len(answers) == rows, f"{where}: {len(answers)} answers for {rows} rows"
    assert all("value" in answer for answer in answers), f"{where}: an answer has no value"
    assert json.loads(json.dumps(answers)) == answers, f"{where}: the answers are not JSON"


def check_measures(task: Task[Any], output: Any, target: Field, where: str) -> None:
    """The metrics take what ``compare`` gives, and the headline is among them."""
    metrics = task.metrics()
    predicted, true = task.compare(output, target)
    rows = target.present.shape[0]
    assert predicted.shape[0] == true.shape[0] == rows, f"{where}: compare gives {predicted.shape[0]} rows of {rows}"
    metrics.update(predicted, true)
    found = metrics.compute()
    assert task.headline in found, f"{where}: the headline {task.headline!r} is not among {sorted(found)}"


def target_of(kind: str) -> tuple[Modality, Field]:
    """A fitted modality whose task this is, and the targets of its sample cells."""
    wanted = find("tasks", kind).predicts
    for name in kinds("modalities"):
        if find("modalities", name).task == kind or name == wanted[0]:
            cells = samples.cells(name)
            modality: Modality = build("modalities", name)
            modality.fit(iter(cells))
            return modality, modality.collate([modality.encode_target(cell) for cell in cells])
    raise ConfigError(f"no modality has the task {kind!r}", fix="hand your own: check_task(kind, modality, target)")


def streams(rows: int) -> dict[str, Encoded]:
    """Two encoded streams, all present."""
    return samples.streams({"one": 4, "two": 3}, DIM, torch.ones(rows, 2, dtype=torch.bool))
