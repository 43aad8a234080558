"""Checks of tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sensorium.core.answer import attachments
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.collation import with_frames
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid, Layout, Row
from sensorium.core.modality import Modality
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import build, find, kinds
from sensorium.core.scorer import Scorer, plain_scores
from sensorium.core.task import EncodedRows, Task
from sensorium.data.files.attachment_files import encode_attachment, with_data_urls
from sensorium.signal.geometry import compose, frame_of_flip
from sensorium.testing import samples
from sensorium.testing.general import assert_same, check_description, check_gradients, check_module, perturbed

DIM = 16
TASK = "class"
"""The name of the task that is checked, and of its target where there is one."""


def check_task(kind: str, goal: Goal | None = None, batch: Batch | None = None) -> None:
    """Check the task ``kind`` on ``goal`` and ``batch``: finite losses ``[B]`` whatever rows without a target contain,
    correct scores, answers that are JSON."""
    check_description("tasks", kind)
    where = f"tasks/{kind}"
    if goal is None or batch is None:
        goal, batch = goal_of(kind)
    full_batch, rows = batch, batch.rows
    parts = streams(rows, goal)
    fused = next(iter(parts.values()))

    def make() -> Task[Any]:
        torch.manual_seed(0)
        task: Task[Any] = build("tasks", kind, goal, DIM)
        target = task.target(full_batch)
        task.fit([] if target is None else [target])
        return task

    check_module(make, lambda task: task(fused, parts, full_batch.prompts))
    task = perturbed(make()).eval()
    target = task.target(full_batch)
    assert target is not None, f"{where}: the batch holds no target of {list(goal.targets)}"
    with torch.no_grad():
        output = task(fused, parts, full_batch.prompts)
        loss = task.loss(output, target)
        assert loss.shape == (rows,), f"{where}: the loss is {tuple(loss.shape)}, not [B]"
        assert bool(loss.isfinite().all()), f"{where}: the loss is not finite"
        _check_litter(task, output, target, loss, where)
        nothing = {name: part.hide(torch.zeros_like(part.present)) for name, part in parts.items()}
        empty = task(fused.hide(torch.zeros_like(fused.present)), nothing, full_batch.prompts)
        assert bool(task.loss(empty, target).isfinite().all()), f"{where}: a row with nothing has no finite loss"
        check_answers(task, output, full_batch, where)
        check_answers(task, empty, full_batch, f"{where}, rows with nothing")
        check_scorer(task, output, full_batch, where)
        check_explained(task, output, empty, rows, where)
        check_baseline(task, full_batch, target, where)
        if task.per_row:
            first_row = _rows(full_batch, slice(0, 1))
            alone = {s: p.map(lambda t: t[:1]) for s, p in parts.items()}
            first = task(next(iter(alone.values())), alone, first_row.prompts)
            own = task.target(first_row)
            assert own is not None
            assert_same(
                task.loss(first, own), loss[:1], f"{where}: a row's loss depends on its batch (say per_row = False)"
            )
    task.train()
    # Some rows lack the input that the target lies on: a task may answer those in another way.
    partial_parts = {
        s: part.hide(torch.arange(rows) % 3 > 0) if s in goal.lies_on.values() else part for s, part in parts.items()
    }
    check_gradients(task, task.loss(task(fused, partial_parts, full_batch.prompts), target))
    if type(task).fit_after_training is not Task.fit_after_training:
        check_settled(make(), perturbed(make(), seed=1), full_batch, where)


def _check_litter(task: Task[Any], output: Any, target: Field, loss: Tensor, where: str) -> None:
    """Check that the contents of rows without a target do not matter."""
    presence = target.present & (torch.arange(len(loss)) > 0)
    loss = task.loss(output, Field(target.data, presence, target.mask))
    for littered in (float("nan"), 1e6, -3.0) if target.data.is_floating_point() and target.data.shape[1:].numel() else ():
        data = target.data.clone()
        data[0] = littered
        other = task.loss(output, Field(data, presence, target.mask))
        assert bool(other.isfinite().all()), f"{where}: {littered} in a row without a target makes the loss infinite"
        assert_same(other[1:], loss[1:], f"{where}: a row without a target changes the loss of others")


def check_settled(task: Task[Any], twin: Task[Any], batch: Batch, where: str) -> None:
    """Check what ``task`` learns after the network, on ``batch``: it is in the state dict (``twin`` loads it), row-wise,
    and needs no target. ``where`` names the case in messages."""
    target = task.target(batch)
    assert target is not None
    parts = streams(batch.rows, task.goal)
    fused = next(iter(parts.values()))
    task.eval().fit_after_training(seen(parts, target, batch.prompts), seen(parts, target, batch.prompts))
    nothing = Field(target.data, torch.zeros_like(target.present), target.mask)
    with torch.no_grad():
        output = task(fused, parts, batch.prompts)
        check_answers(task, output, batch, f"{where}, settled")
        check_scorer(task, output, batch, f"{where}, settled")
        twin.eval().load_state_dict(task.state_dict())
        lost = f"{where}: the state dict does not carry what settle learnt"
        assert_same(twin(fused, parts, batch.prompts), output, lost)
        assert with_data_urls(twin.answers(output, batch)) == with_data_urls(task.answers(output, batch)), lost
        alone = {s: p.map(lambda t: t[:1]) for s, p in parts.items()}
        first = task(next(iter(alone.values())), alone, _rows(batch, slice(0, 1)).prompts)
        own = Field(target.data[:1], target.present[:1], None if target.mask is None else target.mask[:1])
        if task.per_row:
            assert_same(task.loss(first, own), task.loss(output, target)[:1], f"{where}: settled rows depend on others")
        task.fit_after_training(seen(parts, nothing, batch.prompts), seen(parts, nothing, batch.prompts))
        assert bool(task.loss(task(fused, parts, batch.prompts), target).isfinite().all()), (
            f"{where}: no target settles badly"
        )


def seen(parts: dict[str, Encoded], target: Field, prompts: Mapping[str, Field] | None = None) -> EncodedRows:
    """The encoded streams ``parts``, ``target`` and ``prompts`` as a task sees them after training; the first stream
    stands in for the fused vector."""

    def vectors(part: Encoded) -> Encoded:
        return Encoded(part.pooled.unsqueeze(1), part.present.unsqueeze(1), part.pooled, part.present)

    fused = {name: vectors(part) for name, part in parts.items()}
    return EncodedRows(next(iter(fused.values())), fused, target, torch.ones(target.present.shape[0]), prompts or {})


def check_answers(task: Task[Any], output: Any, batch: Batch, where: str) -> None:
    """Check the answers of ``task`` to ``output`` for ``batch``: one for each row, with a value; JSON except for
    attachments. ``where`` names the case in messages."""
    answers = task.answers(output, batch)
    assert len(answers) == batch.rows, f"{where}: {len(answers)} answers for {batch.rows} rows"
    assert all("value" in answer for answer in answers), f"{where}: an answer has no value"
    assert json.loads(json.dumps(with_data_urls(answers))) == with_data_urls(answers), f"{where}: the answers are not JSON"
    for attachment in attachments(answers[0]):
        assert encode_attachment(attachment), f"{where}: an attachment has no bytes"
    for label in task.labels:
        assert all(label in answer["probabilities"] for answer in answers), f"{where}: no probability of {label}"
    truths = task.truths(batch)
    assert len(truths) == batch.rows, f"{where}: {len(truths)} truths for {batch.rows} rows"


def check_scorer(task: Task[Any], output: Any, batch: Batch, where: str) -> None:
    """Check the scorer of ``task`` on ``output`` and ``batch``: it keeps one entry per row, returns one number per
    metric and resample, and accumulates batches. ``where`` names the case in messages."""
    scorer = task.scorer()
    assert set(scorer.compute()) == set(scorer.compute(names=None)), where
    assert task.headline in scorer.compute(), f"{where}: the headline {task.headline!r} is not among its metrics"
    scorer.update(output, batch)
    lengths = {name: len(values) for name, values in scorer.kept.items()}
    assert len(set(lengths.values())) == 1, f"{where}: the scorer keeps different numbers of rows: {lengths}"
    scores = plain_scores(scorer)
    assert next(iter(scores)) == task.headline, f"{where}: the headline is not the first metric"
    resampled = scorer.compute(torch.ones(3, scorer.rows, dtype=torch.float64))
    for name, values in resampled.items():
        assert values.shape == (3,), f"{where}: {name} of three resamples is {tuple(values.shape)}"
        assert float(values[1].float()) == scores[name] or scores[name] != scores[name], (
            f"{where}: {name} with weights of 1"
        )
    assert set(scorer.compute(names=[task.headline])) == {task.headline}, f"{where}: names are not heeded"
    again: Scorer[Any] = task.scorer()
    again.load(scorer.kept)
    assert str(plain_scores(again)) == str(scores), f"{where}: what a scorer kept does not carry its scores"
    for view in task.views(scorer):
        json.dumps(view.to_json())
    nobody = replace(
        batch,
        targets={name: part.hide(torch.zeros_like(part.present)) for name, part in batch.targets.items()},
        weight=torch.zeros_like(batch.weight),
    )
    none = task.scorer()
    none.update(output, nobody)
    assert none.rows == 0, f"{where}: rows without a target are scored"
    assert all(score != score for score in plain_scores(none).values()), f"{where}: no rows have a score"


def check_explained(task: Task[Any], output: Any, empty: Any, rows: int, where: str) -> None:
    """Check that ``task`` gives one finite number to be explained, with a description, for each of ``rows`` rows of
    ``output``, relative to ``empty``. ``where`` names the case in messages."""
    value = task.explained(output, output)
    if value is None:
        return
    assert value.shape == (rows,), f"{where}: what is explained is {tuple(value.shape)}, not [B]"
    other = task.explained(empty, output)
    assert other is not None
    assert bool(value.isfinite().all() & other.isfinite().all()), f"{where}: what is explained is not finite"
    assert len(task.question(output)) == rows, f"{where}: words for what is explained are not one a row"


def check_baseline(task: Task[Any], batch: Batch, target: Field, where: str) -> None:
    """Check that the baseline of ``task`` from ``target`` is JSON, and that a constant answer for ``batch`` can be made
    from it. ``where`` names the case in messages."""
    known = task.baseline([target])
    if known is None:
        return
    assert json.loads(json.dumps(known)) == known, f"{where}: what is known of the targets alone is not JSON"
    constant = task.constant(known, batch.rows)
    check_answers(task, constant, batch, f"{where}, baseline")
    check_scorer(task, constant, batch, f"{where}, baseline")


PART_CELLS: dict[str, list[Any]] = {
    "number": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8],
    "category": ["yes", "no", "yes", "yes", "yes", "no", "no", "yes", "yes", "no", "yes", "yes"],
}
"""Cells of the parts of one target, by kind of column."""


def goal_of(kind: str) -> tuple[Goal, Batch]:
    """The goal of a built-in task ``kind``: a fitted modality with the targets of its sample cells; numbers for tasks
    without one."""
    if parts := find("tasks", kind).parts:
        readers: dict[str, Modality] = {}
        fields: dict[str, Field] = {}
        # As many kinds as parts: one each, in order; else any will do.
        predicts = find("tasks", kind).predicts
        kinds_of = predicts if len(predicts) == len(parts) else predicts[:1] * len(parts)
        for part, name in zip(parts, kinds_of, strict=True):
            readers[part] = build("modalities", name)
            readers[part].fit(iter(PART_CELLS[name]))
            fields[part] = readers[part].collate([readers[part].encode_target(cell) for cell in PART_CELLS[name]])
        return Goal(TASK, readers), Batch({}, fields, torch.ones(len(next(iter(fields.values())).present)))
    if not find("tasks", kind).predicts:
        names = [f"{TASK}_prompt_{name}" for name in find("tasks", kind).prompted]
        prompts = [_prompt(name) for name in find("tasks", kind).prompted.values()]
        rows = len(samples.cells("number"))
        layouts: dict[str, Layout] = {"one": Row((0,)), "two": Row((0,))}
        goal = Goal(TASK, {}, {name: reader for name, (reader, _) in zip(names, prompts, strict=True)}, layouts)
        prompt_fields = {name: field for name, (_, field) in zip(names, prompts, strict=True)}
        present = torch.ones(rows, dtype=torch.bool)
        inputs = {s: Field(samples.data(layout, rows, seed=i), present) for i, (s, layout) in enumerate(layouts.items())}
        return goal, Batch(inputs, {}, torch.ones(rows), prompt_fields)
    modality, target = target_of(kind)
    rows = target.present.shape[0]
    if modality.lies_on:
        return _goal_on_a_grid(modality, target)
    prompted = find("tasks", kind).prompted
    if not prompted:
        return Goal.of(modality, TASK), Batch({}, {TASK: target}, torch.ones(rows))
    prompt_columns = {f"{TASK}_prompt_{name}": _prompt(form) for name, form in prompted.items()}
    readers, fields = (
        {name: reader for name, (reader, _) in prompt_columns.items()},
        {name: field for name, (_, field) in prompt_columns.items()},
    )
    fields = {name: field.hide(torch.arange(rows) != 1) for name, field in fields.items()}  # a row that is not asked
    goal = Goal(TASK, {TASK: modality}, readers, {"one": Row((0,)), "two": Row((0,))})
    return goal, Batch({}, {TASK: target}, torch.ones(rows), fields)


def _goal_on_a_grid(modality: Modality, target: Field) -> tuple[Goal, Batch]:
    """The goal of a ``target`` of ``modality`` that lies on an input: one of its kinds, with feature maps."""
    base: Modality = build("modalities", modality.lies_on[0])
    cells = samples.cells(modality.lies_on[0])
    base.fit(iter(cells))
    stored = with_frames(base.collate([base.encode(cell) for cell in cells]), base, [base.extent(cell) for cell in cells])
    field, layout = base.prepare(stored), base.layout
    assert isinstance(layout, Grid), f"{modality.lies_on[0]} is no grid"
    if len(layout.size) == 2:
        field = _partly_mirrored(field)
    # The samples of the target have sizes of their own: they are stretched to those of the input.
    assert field.frame is not None
    assert field.extent is not None
    if isinstance(modality.layout, Grid):
        target = replace(target, frame=torch.from_numpy(modality.framing(field.extent.numpy())), extent=field.extent)
    lying = modality.prepare_target(target, field)
    levels = {"one": tuple(Level(4 * step, (step,) * len(layout.size)) for step in (2, 4))}
    # A target that runs along several inputs names none.
    streams: dict[str, Layout] = {"one": layout, "two": layout if modality.lies_along else Row((0,))}
    goal = Goal(TASK, {TASK: modality}, {}, streams, levels, {TASK: "one"}, {TASK: base})
    if modality.lies_along:
        goal = replace(goal, lies_on={}, bases={})
    inputs = {"one": field, "two": field} if modality.lies_along else {"one": field}
    # Tasks that look at the input get it among the prompts.
    return goal, Batch(inputs, {TASK: lying}, torch.ones(len(cells)), {"one": field})


def _partly_mirrored(field: Field) -> Field:
    """The prepared images ``field`` with every third one mirrored, as augmentation may."""
    assert field.frame is not None
    chosen = torch.arange(len(field.present)) % 3 == 0
    data = torch.where(chosen[:, None, None, None], field.data.flip(3), field.data)
    mirror = frame_of_flip(chosen, field.data.shape[3], 0, 2, field.frame)
    return replace(field, data=data, frame=compose(mirror, field.frame))


def _prompt(kind: str) -> tuple[Modality, Field]:
    """A fitted modality of ``kind`` and the cells of a prompt column."""
    cells = samples.cells(kind)
    modality: Modality = build("modalities", kind)
    modality.fit(iter(cells))
    return modality, modality.prepare(modality.collate([modality.encode(cell) for cell in cells]))


def target_of(kind: str) -> tuple[Modality, Field]:
    """A fitted modality of which ``kind`` is the task, and the targets of its sample cells."""
    predicts = find("tasks", kind).predicts
    for name in kinds("modalities"):
        if find("modalities", name).task == kind or name in predicts[:1]:
            cells = samples.cells(name)
            modality: Modality = build("modalities", name)
            modality.fit(iter(cells))
            return modality, modality.collate([modality.encode_target(cell) for cell in cells])
    raise ConfigError(f"no modality has the task {kind!r}", fix="pass your own: check_task(kind, goal, batch)")


def _rows(batch: Batch, index: slice) -> Batch:
    return batch.map(lambda t: t[index])


def streams(rows: int, goal: Goal | None = None) -> dict[str, Encoded]:
    """Encoded streams of ``rows`` rows, all present: those of ``goal``, or two generic ones."""
    names = list(goal.streams) if goal is not None and goal.streams else ["one", "two"]
    sizes = {name: 4 - i % 2 for i, name in enumerate(names)}
    parts = samples.streams(sizes, DIM, torch.ones(rows, len(names), dtype=torch.bool))
    for name, levels in ({} if goal is None else goal.levels).items():
        grid = goal.streams[name] if goal is not None else None
        assert isinstance(grid, Grid), f"{name}: levels of a stream that is no grid"
        draw = torch.Generator().manual_seed(len(name))
        maps = tuple(torch.randn(rows, level.channels, *level.size(grid.size), generator=draw) for level in levels)
        parts[name] = replace(parts[name], pyramid=maps)
    return parts
