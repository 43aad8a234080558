"""Checks that every option changes something: the module, its output or its loss."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import nn

from sensorium.core.batch import Field
from sensorium.core.contracts import Encoder
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.forward import Forward
from sensorium.core.modality import Modality
from sensorium.core.registry import build, find, kinds, options, resolve
from sensorium.core.task import Task
from sensorium.data.files.attachment_files import with_data_urls
from sensorium.testing import experts, explainers, features, modalities, objectives, option_values, samples, surgery, tasks
from sensorium.testing.encoders import ROWS, accepts
from sensorium.testing.fusions import DIM, PRESENT, SIZES
from sensorium.testing.general import same

Signature = Callable[[dict[str, Any]], Any]


def check_options(family: str, kind: str, cells: Sequence[Any] | None = None) -> None:
    """Check that another value of each option changes the component ``kind`` of ``family``. ``cells``: samples for a
    modality of a plug-in."""
    looks = [once(look) for look in signatures(family, kind, cells)]
    default = resolve(family, {"kind": kind, **option_values.brief(family, kind)})
    before = [look(default) for look in looks]
    fields = options(family, kind).model_fields
    for name, field in fields.items():
        others = partial(_others, family, kind, name, field.annotation)
        tried = _live(name, others, default, before, looks)
        if tried is None:
            continue
        for other in beside(fields, default, name):
            try:
                changed = [look(other) for look in looks]
            except ConfigError:
                continue
            if _live(name, others, other, changed, looks) is None:
                break
        else:
            raise AssertionError(f"{family}/{kind}: option {name!r} changes nothing (default {default[name]!r}, {tried=})")


def _others(family: str, kind: str, name: str, annotation: Any, default: Any) -> Iterator[Any]:
    """Return other values of an option of a component: those listed for it, then those of its type."""
    nested = isinstance(default, dict) and "kind" in default
    yield from option_values.values(family, kind, name)
    yield from kinds(family) if nested else alternatives(annotation, default)


def _live(
    name: str,
    others: Callable[[Any], Iterator[Any]],
    default: dict[str, Any],
    before: list[Any],
    looks: Sequence[Signature],
) -> list[Any] | None:
    """Return None if another value of the option changes any output; otherwise the values that were tried."""
    tried = []
    for value in others(default[name]):
        try:
            after = [look({**default, name: value}) for look in looks]
        except ConfigError:
            continue  # this value does not go with the other options
        tried.append(value)
        if not all(same(a, b, 1e-7) for a, b in zip(before, after, strict=True)):
            return None
    return tried


def beside(fields: Mapping[str, Any], default: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The ``default`` value and alternatives of every option among ``fields``, except those of ``name``."""
    for other, field in fields.items():
        if other != name:
            few = None if get_origin(field.annotation) is Literal else 3
            yield from ({**default, other: value} for value in islice(alternatives(field.annotation, default[other]), few))


def alternatives(annotation: Any, default: Any) -> Iterator[Any]:
    """Values of an option's type ``annotation`` other than ``default``, those most likely to be valid first."""
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from alternatives(part, default)
    elif get_origin(annotation) is Literal:
        yield from (value for value in get_args(annotation) if value != default)
    elif annotation is bool:
        yield not default
    elif annotation is int:
        start = default if isinstance(default, int) else 2
        yield from (n for n in (start * 2, start + 1, max(1, start // 2), 1, 2, 3, 8, 40, 4000) if n != default)
    elif annotation is float:
        middle = default if isinstance(default, float) else 0.5
        yield from (x for x in (middle / 3, middle / 2 + 0.3, 0.0, 0.05, 0.9, middle * 3, 1.0, 5.0) if x != default)
    elif annotation == dict[str, float]:
        yield {stream: 0.5 + i for i, stream in enumerate(SIZES)}
    elif annotation == dict[str, Any]:
        # A part within a part: one by its name, or several by names of their own.
        yield {"kind": "concat"}
        yield {"pair": {"streams": list(SIZES)[:2], "fusion": "concat"}}
    elif get_origin(annotation) is list and get_args(annotation) == (float,):
        yield from ([0.25, 0.5, 0.75], [0.5])
    elif annotation is str:
        # Last those that name a file: of a tokeniser, of word vectors.
        yield from (text for text in (";", ",", "x", "auto", "red", *samples.files()) if text != default)
        # The name of a part within a part: another one of its family.
        yield from (kind for kind in kinds("encoders") if default in kinds("encoders") and kind != default)


def once(look: Signature) -> Signature:
    """The function ``look`` without gradients and from a fixed random state."""

    def seeded(spec: dict[str, Any]) -> Any:
        torch.manual_seed(0)
        with torch.no_grad():
            return look(spec)

    return seeded


def signatures(family: str, kind: str, cells: Sequence[Any] | None) -> list[Signature]:
    """The functions that compare components ``kind`` of ``family``; ``cells`` as in ``check_options``."""
    if family == "encoders":
        fitting = [x for x in samples.LAYOUTS if isinstance(x, find(family, kind).reads) and accepts(kind, x)]
        return [_encoder(layout) for layout in fitting]
    if family == "features":
        return features.looks(kind)
    if family == "experts":
        return [experts.signature(kind)]
    looks: dict[str, Signature] = {
        "adapters": _adapter,
        "fusions": _fusion,
        "modalities": lambda spec: _modality(spec, cells),
        "tasks": _task,
        "objectives": _objective,
        "surgery": surgery.signature,
        "explainers": explainers.signature,
    }
    return [looks[family]]


def _shapes(part: nn.Module) -> list[str]:
    learns = {name for name, value in part.named_parameters() if value.requires_grad}
    return [f"{name} {tuple(value.shape)} {name in learns}" for name, value in part.state_dict().items()]


def _both(part: nn.Module, run: Callable[[], Any]) -> Any:
    """Return the shapes of weights, and the outputs in training and in evaluation."""
    torch.manual_seed(1)
    trained = run()
    part.eval()
    return _shapes(part), trained, run()


def _encoder(layout: Any) -> Signature:
    data, mask = samples.data(layout, ROWS), samples.masks(layout, ROWS)

    def look(spec: dict[str, Any]) -> Any:
        part = build("encoders", spec, layout)
        before = _both(part, lambda: part(data, mask))
        if type(part).fit is not Encoder.fit:
            part.fit([Field(data, torch.ones(ROWS, dtype=torch.bool), mask)])
        return before, _both(part.train(), lambda: part(data, mask))

    return look


def _adapter(spec: dict[str, Any]) -> Any:
    part = build("adapters", spec, 12, DIM)
    encoded = samples.streams({"one": 5}, 12, torch.ones(4, 1, dtype=torch.bool))["one"]
    return _both(part, lambda: part(encoded))


def _fusion(spec: dict[str, Any]) -> Any:
    part = build("fusions", spec, list(SIZES), DIM)
    streams = samples.streams(SIZES, DIM, PRESENT)
    return _both(part, lambda: part(streams))


def _modality(spec: dict[str, Any], cells: Sequence[Any] | None) -> Any:
    examples = samples.cells(spec["kind"]) if cells is None else cells
    modality: Modality = build("modalities", spec)
    modality.fit(iter(examples))

    def encoded(cell: Any) -> Any:
        try:
            return modality.encode(cell)
        except CellError:
            return None  # with other options a cell may be too large

    stored = modality.collate([encoded(cell) for cell in examples])
    return (
        json.dumps(modality.state, sort_keys=True),
        str(modality.layout),
        [modality.missing(cell) for cell in examples],
        modality.collate([modality.blank()]),
        stored,
        modality.prepare(stored),
        modality.prepare(stored, torch.Generator().manual_seed(0)),
        modalities.targets(modality, examples),
    )


def _task(spec: dict[str, Any]) -> Any:
    goal, batch = tasks.goal_of(spec["kind"])
    part: Task[Any] = build("tasks", spec, goal, DIM)
    target = part.target(batch)
    assert target is not None
    part.fit([target])
    streams = tasks.streams(batch.rows, goal)
    fused = next(iter(streams.values()))

    def run() -> Any:
        output = part(fused, streams, batch.prompts)
        scorer = part.scorer()
        scorer.update(output, batch)
        answers = json.dumps(with_data_urls(part.answers(output, batch)))
        return output, part.loss(output, target), scorer.compute(), answers, part.explained(output, output)

    state = _both(part, run)
    encoded_rows = tasks.seen(streams, target, batch.prompts)
    part.fit_after_training(encoded_rows, encoded_rows)
    varied = part.augmented(batch, torch.Generator().manual_seed(0))
    return state, run(), part.state_dict(), varied.inputs, varied.targets


def _objective(spec: dict[str, Any]) -> Any:
    model, batch = objectives.model(), objectives.batch()
    part = build("objectives", spec, model)

    def run() -> Any:
        torch.manual_seed(1)
        model.zero_grad()
        with torch.enable_grad():
            terms = part(Forward(model, batch))
            torch.stack([*terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
        # What an option does may show in the gradients alone: where one is reversed, its strength.
        grads = [torch.zeros(()) if p.grad is None else p.grad.clone() for p in model.parameters()]
        return sorted(terms), [terms[name].detach() for name in sorted(terms)], grads

    return _both(part, run)
