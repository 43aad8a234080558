"""Attribution maps: which parts of each stream of a row (pixels, samples, words, cells, points) a prediction depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorium.core import registry
from sensorium.core.batch import Batch, Encoded, Field, repeated
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.explainer import Explainer, Probe
from sensorium.core.forward import Forward, average_outputs
from sensorium.core.layout import Ids, Row
from sensorium.core.module_dict import NamedModules
from sensorium.core.recipe import Spec
from sensorium.core.rendering import Rendered
from sensorium.core.schema import Schema
from sensorium.core.task import Task
from sensorium.model import Model
from sensorium.signal.geometry import points

Values = NDArray[Any]


@dataclass
class Map(Rendered):
    """The attribution map of one stream for one prediction.

    Args:
        row: Number of the row in its table, from 1.
        target: The predicted target.
        what: The explained quantity: ``probability of dog``, or ``value``.
        stream: The explained stream; all others are held fixed.
        kind: The kind of its column; ``table`` for tabular streams.
        layout: Its layout: ``grid``, ``ids``, ``row``, ``points``, ``graph``.
        explainer: Name of the attribution method.
        value: The explained quantity for the row.
        blank: The baseline output; the values sum to ``value - blank``. None where the values only rank parts.
        values: ``[C or 1, *size]``, ``[N]`` or ``[cells]``; empty if there is no map.
        data: The encoder's input without the batch axis.
        names: The word of each id, or the column of each cell.
        sound: The samples behind a spectrogram, if available.
        scale: For images, the mean and standard deviation per channel by which ``data`` was standardised.
        note: Why there is no map; empty if there is one.
        measured: Whether the values are in units of the output.
    """

    renderer: ClassVar[str] = "attribution_maps"

    row: int
    target: str
    what: str
    stream: str
    kind: str
    layout: str
    explainer: str = ""
    value: float = float("nan")
    blank: float | None = None
    values: Values = field(default_factory=lambda: np.zeros(0))
    data: Values = field(default_factory=lambda: np.zeros(0))
    names: list[str] = field(default_factory=list)
    sound: Values = field(default_factory=lambda: np.zeros(0))
    scale: tuple[list[float] | None, list[float] | None] = (None, None)
    note: str = ""
    measured: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return JSON-serialisable data, with pictures as ``data:`` URLs and the map as self-contained HTML."""
        plain: dict[str, Any] = self.render("to_json")
        return plain

    @property
    def lost(self) -> float | None:
        """Completeness error: ``|sum(values) - change| / |change|``; None where the values only rank parts."""
        if self.blank is None:
            return None
        change = self.value - self.blank
        return abs(float(self.values.sum()) - change) / max(abs(change), 1e-6)

    def named(self) -> list[tuple[str, float]]:
        """Return the value of each word or column, in order, summed over its tokens or cells."""
        words: list[tuple[str, float]] = []
        for name, value in zip(self.names, self.values.tolist(), strict=True):
            begins = self.layout != "ids" or not words or name[:1].isspace() or _alone(name) or _alone(words[-1][0])
            same = words and (words[-1][0] == name if self.layout == "row" else not begins)
            if same:
                words[-1] = (name if self.layout == "row" else words[-1][0] + name, words[-1][1] + value)
            else:
                words.append((name, value))
        return words


def subjects_of(tasks: NamedModules[Task[Any]], run: Forward) -> dict[str, list[str]]:
    """Return the parts of the answers of ``tasks`` to the row of ``run`` that can be explained, in words by task."""
    subjects = {name: task.plain.subjects(run.outputs[name]) for name, task in tasks.items()}
    return {name: words for name, words in subjects.items() if words}


def narrowed(name: str, task: Task[Any], run: Forward, about: int | str | None) -> Any:
    """Return the output of a row that is explained: all of it, or one of its boxes, regions or points.

    Args:
        name: The name of the task.
        task: The task.
        run: The forward pass of the row.
        about: The number of the subject, from 1; ``x,y``, a place in pixels of the user's image, for tasks that explain
            places; ``target:number`` or ``target:x,y`` where several tasks have them; None: all.

    Raises:
        ConfigError: There is no such subject or place.
    """
    output = run.outputs[name]
    if about is None:
        return output
    target, _, number = str(about).rpartition(":")
    place = "," in number
    if run.batch.rows != 1:
        unclear = "" if number.isdecimal() or place else f", by its number, not by {number!r}"
        fix = f"name the row: --row N --about {number if number.isdecimal() or place else 1}"
        raise ConfigError(f"a box, region, line, point or place is chosen of a single row{unclear}", fix=fix)
    if place:
        return _at_place(name, target, number, run)
    subjects = subjects_of(run.model.tasks, run)
    if not subjects:
        raise ConfigError(
            "the answers to this row have no boxes, regions, lines or points to choose from: classes and numbers are "
            "explained as a whole",
            fix="leave out --about",
        )
    if target and target not in subjects:
        raise ConfigError(f"no boxes, regions, lines or points of {target!r}{nearest(target, subjects)}")
    if not target and len(subjects) > 1:
        fix = " or ".join(f"--about {task_name}:{number}" for task_name in subjects)
        raise ConfigError("several targets have boxes, regions, lines or points", fix=fix)
    if name != (target or next(iter(subjects))):
        return output
    if not number.isdecimal() or not 1 <= int(number) <= len(subjects[name]):
        listed = "; ".join(f"{i} {words}" for i, words in enumerate(subjects[name], 1))
        raise ConfigError(f"there is no {number!r} of {name} to explain", fix=f"choose one of: {listed}")
    return task.plain.about(output, int(number))


def _at_place(name: str, target: str, place: str, run: Forward) -> Any:
    """The output of the task ``name``, narrowed to the ``place`` ``x,y`` if it is the task that is meant by ``target``."""
    tasks = {key: task.plain for key, task in run.model.tasks.items() if task.plain.explains_places}
    if not tasks:
        raise ConfigError("a place is chosen of edges, and no target has any", fix="choose a part by its number: --about 1")
    if target and target not in tasks:
        raise ConfigError(f"no edges of {target!r}{nearest(target, tasks)}")
    if not target and len(tasks) > 1:
        fix = " or ".join(f"--about {task_name}:{place}" for task_name in tasks)
        raise ConfigError("several targets have edges", fix=fix)
    if name != (target or next(iter(tasks))):
        return run.outputs[name]
    on = tasks[name].drawn_on
    field = None if on is None else run.batch.inputs.get(on)
    if field is None or field.frame is None or field.extent is None or not bool(field.present[0]):
        raise ConfigError(f"the row has no {on}, so there is no place on it", fix="leave out --about")
    wide, high = field.extent[0].tolist()
    try:
        x, y = (float(part) for part in place.split(","))
    except ValueError:
        x = y = float("nan")
    if not (0 <= x < wide and 0 <= y < high):
        problem = f"{place!r} is no place on an image of {wide:.0f} × {high:.0f} pixels"
        raise ConfigError(problem, fix=f"x,y in pixels from the upper left corner: --about {int(wide / 2)},{int(high / 2)}")
    prepared = points(field.frame[:1], field.frame.new_tensor([[[x, y]]]))[0, 0].tolist()
    return tasks[name].about_place(run.outputs[name], (prepared[0], prepared[1]), (x, y))


def attribute_elements(
    model: Model,
    schema: Schema,
    batch: Batch,
    *,
    row: int = 1,
    explainer: Spec | None = None,
    streams: Sequence[str] | None = None,
    stored: Batch | None = None,
    about: int | str | None = None,
) -> list[Map]:
    """Compute the attribution map of each stream and target for one prepared row.

    Args:
        model: The model, in evaluation mode.
        schema: Its schema.
        batch: A batch of one prepared row.
        row: The row's number in its table, for display.
        explainer: Name or specification of the method; None chooses a suitable one for each stream.
        streams: The streams to explain; None for all.
        stored: The same row before preparation, so that a sound's map can be drawn along its waveform.
        about: The box, region, line, point or place to explain: see ``narrowed``.

    Raises:
        ConfigError: ``batch`` does not hold exactly one row.
    """
    if batch.rows != 1:
        raise ConfigError(f"an attribution map needs a batch of one row, not of {batch.rows}")
    run = Forward(model, batch)
    with torch.no_grad():
        parts, outputs = run.streams, run.outputs
    maps = []
    for target, task in model.tasks.items():
        with torch.no_grad():
            explained_output = narrowed(target, task, run, about)
            divisible = task.explained(outputs[target], explained_output) is not None
        what = task.question(explained_output)[0] if divisible else ""
        for stream in model.streams if streams is None else streams:
            kind = _kind(schema, stream)
            attribution_map = Map(row, target, what, stream, kind, type(schema.layout(stream)).__name__.lower())
            if not bool(parts[stream].present[0]):
                attribution_map.note = f"the row has no {stream}"
            elif not divisible:
                attribution_map.note = f"predictions of {target} are not a number, so they cannot be explained"
            else:
                _explained(attribution_map, probe(model, run, schema, stream, target, explained_output), schema, explainer)
                if kind == "audio" and stored is not None:
                    attribution_map.sound = stored.inputs[stream].data[0].cpu().numpy()
            maps.append(attribution_map)
    return maps


def probe(model: Model, run: Forward, schema: Schema, stream: str, target: str, whole: Any = None) -> Probe:
    """Return the output for one row as a function of a single stream.

    Args:
        model: The model.
        run: The row's forward pass, with streams encoded without gradients.
        schema: The model's schema.
        stream: The stream that varies.
        target: The explained target.
        whole: The output that is explained; None: that of ``run``.
    """
    batch = run.batch
    task, field = model.tasks[target], batch.inputs[stream]
    whole = run.outputs[target] if whole is None else whole
    encoder: nn.Module = model.encoders[stream] if model.network else nn.Identity()
    experts = model.experts

    def answer(data: Tensor, mask: Tensor | None) -> Tensor:
        rows = data.shape[0]
        presence = field.present.expand(rows) if mask is None else mask.any(dim=1)
        # A row whose parts are all masked counts as lacking the stream.
        query = Field(data, presence, mask)
        prompts = {name: repeated(part, rows) for name, part in run.prompts.items()}
        if stream in task.prepared_streams:
            prompts[stream] = query
        networks = zip((model, *model.others), (run, *run.others), strict=True)
        stream_parts = [_parts(network, forward.streams, stream, query) for network, forward in networks]
        own = {target: _own(model, target, stream_parts, prompts)} if model.network else {}
        if experts is None or target not in experts.experts:
            output = own[target]
        else:
            kept = {form: {s: repeated(t, rows) for s, t in part.items()} for form, part in run.read.items()}
            new = experts.read({stream: query})
            read = {form: {**part, **new[form]} for form, part in kept.items()}
            output = experts(read, {s: part.present for s, part in stream_parts[0].items()}, own, {target: task})[target]
        explained = task.explained(output, whole)
        assert explained is not None
        return explained

    groups = _groups(schema, stream, field.data[0])
    layout = schema.layout(stream)
    smooth = task.differentiable and experts is None  # experts have no gradients
    return Probe(layout, encoder, field.data, field.mask, answer, smooth=smooth, groups=groups)


def _parts(model: Model, streams: Mapping[str, Encoded], stream: str, query: Field) -> dict[str, Encoded]:
    """Encode ``query`` as ``stream`` and repeat the row's other encoded streams to the same number of rows."""
    if model.network:
        mine: Encoded = model.adapters[stream](model.encoders[stream](query.data, query.mask)).hide(query.present)
    else:
        mine = model.encode_stream(stream, query)
    return {s: mine if s == stream else repeated(part, len(query.present)) for s, part in streams.items()}


def _own(model: Model, target: str, stream_parts: Sequence[Mapping[str, Encoded]], prompts: Mapping[str, Field]) -> Any:
    """Return the output of the network for encoded streams, or the combined output of several networks."""
    networks = zip((model, *model.others), stream_parts, strict=True)
    outputs = [network.tasks[target](network.fusion(parts), parts, prompts) for network, parts in networks]
    return average_outputs(model.tasks[target], outputs, next(iter(stream_parts[0].values())).present)


def preferred() -> list[str]:
    """Return the kinds of explainers used by default, best first."""
    places = {kind: registry.find("explainers", kind).preferred for kind in registry.kinds("explainers")}
    return sorted((kind for kind, place in places.items() if place > 0), key=lambda kind: -places[kind])


def chosen(probe: Probe, explainer: Spec | None) -> tuple[str, Explainer | None, str]:
    """Choose an explainer for a probe.

    Args:
        probe: The probe to explain.
        explainer: The requested explainer; None for the first default one that supports the probe.

    Returns:
        Its name, the explainer (None if none is applicable), and the reason if there is none.
    """
    candidates: Sequence[Spec] = preferred() if explainer is None else (explainer,)
    reason = ""
    for spec in candidates:
        made: Explainer = registry.build("explainers", spec)
        reason = made.refuses(probe)
        if not reason:
            return registry.split(spec)[0], made, ""
    return registry.split(candidates[-1])[0], None, reason


def _explained(attribution_map: Map, probe: Probe, schema: Schema, explainer: Spec | None) -> None:
    attribution_map.explainer, made, reason = chosen(probe, explainer)
    attribution_map.data = probe.data[0].detach().cpu().numpy()
    if made is None:
        attribution_map.note = f"no map of {attribution_map.stream}: {attribution_map.explainer} {reason}"
        return
    heat = made.explain(probe)
    attribution_map.measured = made.measures
    attribution_map.value, attribution_map.blank, attribution_map.values = (
        probe.value,
        heat.blank,
        heat.values.double().cpu().numpy(),
    )
    if attribution_map.layout in ("ids", "row"):
        attribution_map.names = _names(schema, attribution_map.stream, probe.data[0])
    if attribution_map.kind in ("image", "images", "video"):
        state = schema.streams[attribution_map.stream][0].reader.state
        attribution_map.scale = (state["mean"], state["deviation"])


def _kind(schema: Schema, stream: str) -> str:
    columns = schema.streams[stream]
    return "table" if columns[0].reader.stream is not None else str(columns[0].spec["kind"])


def _names(schema: Schema, stream: str, data: Tensor) -> list[str]:
    """The column name of each cell, or the text of each id."""
    columns, layout = schema.streams[stream], schema.layout(stream)
    if isinstance(layout, Row):
        return [c.name for c in columns for _ in c.reader.layout.cardinalities]  # type: ignore[union-attr]
    assert isinstance(layout, Ids)
    reader, ids = columns[0].reader, [int(i) for i in data.tolist()]
    pieces = getattr(reader, "pieces", None)
    if pieces is not None:
        texts: list[str] = pieces(ids)
        return texts
    return [f" {layout.words[i] if i < len(layout.words) and layout.words[i] else i}" for i in ids]


def _groups(schema: Schema, stream: str, data: Tensor) -> Tensor | None:
    """The column index of each cell, or the word index of each id; -1 for special tokens, which carry no text."""
    layout = schema.layout(stream)
    if not isinstance(layout, (Row, Ids)):
        return None
    names = _names(schema, stream, data)
    group, groups = -1, []
    for i, name in enumerate(names):
        if isinstance(layout, Row):
            group += i == 0 or name != names[i - 1]
        elif name:
            group += group < 0 or name[:1].isspace() or _alone(name) or _alone(names[i - 1])
        groups.append(group if name or isinstance(layout, Row) else -1)
    return torch.tensor(groups, dtype=torch.long)


def _alone(piece: str) -> bool:
    """Whether a token is a unit by itself rather than part of a space-delimited word: a CJK character, punctuation."""
    text = piece.strip()
    return not text or not text[0].isalnum() or "\u3040" <= text[0] <= "\u9fff"
