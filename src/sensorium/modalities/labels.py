"""Labels along a sequence: one per step, or spans."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout, Points
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.core.scalars import plain
from sensorium.language.category_values import fold_label, label, nearest_label

if TYPE_CHECKING:
    from sensorium.core.batch import Field

IGNORED = -100
"""Code of a step without a label, which neither loss nor scores count."""
UNLABELLED = -1.0
LONGEST = 1_000_000
"""Most labels of a cell."""
CLASSES = 1000


@component
class Labels(Modality):
    """Labels along a series, a recording, a video or a text: which activity when, who speaks, which words are a name.

    A cell is a list of spans, ``[[0, 1.5, "walk"], [1.5, 4, "run"]]`` (or objects with ``start``, ``end`` and ``label``),
    in steps of a series, seconds of a recording or a video (frames of an array), characters of a text; or one label for
    each step or word, ``["walk", "walk", "run"]`` or ``walk walk run``, null (or ``-``) where it is unknown. Tags such as
    ``B-PER I-PER O`` (BIO, BIOES) are spans too. Words are separated by blanks; a character of a script without blanks is
    a word. Between spans lies the background. Encoded as ``[n, 3]`` float32: start, end and class of every stretch;
    prepared as class codes ``[B, T]`` of the steps of the input, -100 if unknown. On a text the number of classes is added
    to the code of a token that begins a span.

    Args:
        step: The length that one label of a list stands for, in steps of the series or seconds of the recording.
        background: The name of what lies between spans, and of labels in lists that make no spans; null: the steps between
            spans are unknown, and do not count.
    """

    checked = True
    ragged = True
    classed = True
    lies_on = ("series", "audio")
    lies_on_else = ("video", "text")
    task = "labelling"

    def __init__(self, *, step: float = 1.0, background: str | None = "none") -> None:
        super().__init__()
        if not 0 < step < math.inf:
            raise ConfigError(f"labels: a step of {step} is not above 0")
        self.step, self.background = step, background

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        spans = named_lists = 0
        for cell in cells:
            try:
                form, stretches = _parsed(cell)
            except CellError:
                continue
            # A list of triples of numbers is more likely points; a label in quotes may be a number.
            named = form == SPANS and any(isinstance(_label(item), str) for item in _items(cell))
            named_lists += named
            spans += form == SPANS and (named or not stretches)
        if not named_lists or spans < len(cells):
            return Guess(0.0, f"{spans} of {len(cells)} cells are lists of spans")
        return Guess(0.95, "every cell is a list of spans: start, end and label")

    def fit(self, cells: Iterable[Any]) -> None:
        read: list[tuple[str, list[Stretch]]] = []
        for cell in cells:
            try:
                read.append(_parsed(cell, self.step))
            except CellError:
                continue  # reported by encode
        forms = {form for form, _ in read}
        tagged = TAGS in forms and SPANS not in forms
        names = {_untagged(n) if tagged else n for _, stretches in read for _, _, n in stretches if n is not None}
        names -= {OUTSIDE} if tagged else set()
        background = self.background if tagged or SPANS in forms or self.background in names else None
        rest = sorted(names - {background})
        if len(rest) > CLASSES:
            raise ConfigError(f"labels: there are {len(rest):,} different labels, and at most {CLASSES:,} are learnt")
        longest = max([len(stretches) for _, stretches in read] or [1])
        self.state = {"values": ([] if background is None else [background]) + rest, "longest": max(longest, 1)}
        self.state |= {"background": background is not None, "tagged": tagged, "listed": SPANS not in forms}

    @property
    def classes(self) -> list[str]:
        """The known labels, in the order of their codes; the background, if any, is the first."""
        return list(self.state["values"])

    @property
    def has_background(self) -> bool:
        """Whether the first class is the background, between spans."""
        return bool(self.state["background"])

    @property
    def layout(self) -> Layout:
        return Points(3, self.state["longest"])

    @property
    def longest(self) -> int:
        return max(int(self.state["longest"]), 1)

    def encode(self, cell: Any) -> Array:
        stretches = self._stretches(cell)[1]
        codes = {name: i for i, name in enumerate(self.state["values"])}
        out = np.empty((len(stretches), 3), np.float32)
        for i, (start, end, name) in enumerate(stretches):
            if name is not None and name not in codes:
                near = nearest_label(name, {fold_label(known): known for known in self.state["values"]})
                raise CellError(
                    f"the label {name!r} is not known from training",
                    fix=f"{near!r}?" if near else "train with rows that have it",
                )
            out[i] = start, end, UNLABELLED if name is None else codes[name]
        return out[: self.longest]

    def _stretches(self, cell: Any) -> tuple[str, list[Stretch]]:
        """Return the form of a cell and its labelled stretches; tags are spans if the training cells had tags."""
        form, stretches = _parsed(cell, self.step)
        tagged = self.state.get("tagged", False) and form != SPANS
        return form, _spans_of_tags(stretches, self.step) if tagged else stretches

    def extent(self, cell: Any) -> Array | None:
        """Return where the last stretch begins and the latest ends, whether the cell is a list of labels, not of spans, and
        where the earliest stretch ends."""
        try:
            form, stretches = _parsed(cell, self.step)
        except CellError:  # reported by encode
            return None
        last = max((start for start, _, _ in stretches), default=0.0)
        ends = [end for _, end, _ in stretches] or [0.0]
        return np.array([last, max(ends), form != SPANS, min(ends)], np.float32)

    def framing(self, extent: Array) -> Array:
        """Map the user's units to themselves: the input's own frame maps them to steps."""
        return np.tile(np.array([[[1.0, 0.0]]], np.float32), (len(extent), 1, 1))

    def misfit(self, extent: Array, on: Array) -> str:
        """Check that labels of words are as many as the words, and in the form of the training cells."""
        start, end, listed, _ = (float(value) for value in extent)
        if len(on) <= _TEXT or (start, end) == (0.0, 0.0):
            return ""
        if bool(listed) != self.state["listed"]:
            form, trained = ("a list of labels", "spans") if listed else ("a list of spans", "a label for each word")
            return f"this is {form}, and the training cells are {trained}"
        count = round(end / self.step)
        return f"there are {count:,} labels for {on[1]:,.0f} words" if listed and count != round(float(on[1])) else ""

    def adjusted(self, extent: Array, on: Array) -> str:
        """Return a note on spans that lie wholly before or beyond their input."""
        start, end, listed, earliest = (float(value) for value in extent)
        text = len(on) > _TEXT
        length = on[0] if text else on[2] if len(on) == _TEXT else on.sum()
        begin = float(on[1]) if len(on) == 2 else 0.0
        if (text and listed) or (start, end) == (0.0, 0.0):
            return ""
        if earliest <= begin:
            where = "text" if text else f"recording, which is read from {begin:g} on"
            return f"labels that end at {earliest:g} lie before the {where}: they are not used"
        if start <= 0 or start < length:
            return ""
        where = "text, which has" if text else "recording, which ends at"
        unit = " characters" if text else ""
        return f"labels from {start:g} on lie beyond the {where} {length:g}{unit}: they are not used"

    def decode(self, value: Array) -> list[list[Any]]:
        """Return the spans ``[start, end, label]``; the label is None where it is unknown."""
        names = self.state["values"]
        return [
            [round(float(start), 4), round(float(end), 4), None if code < 0 else names[int(code)]]
            for start, end, code in np.asarray(value, np.float64).tolist()
        ]

    def blank(self) -> Array:
        return np.zeros((0, 3), np.float32)

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return class codes ``[B, T]`` int64 of the steps of the input ``on``, each that of the span over its centre.

        The frame of the input maps spans to its steps, shifts by augmentation included. -100 where a step has no label or
        lies past the end.
        """
        import torch

        from sensorium.signal.label_places import to_steps, word_places

        if on is None or on.data.dim() < 2:
            return field
        places = word_places(on)
        words = on.data.dim() == 2
        rows, steps = on.data.shape[0], on.data.shape[1 if words else 2]
        centre = (torch.arange(steps, device=on.data.device) + 0.5).expand(rows, steps)
        if places is not None:
            centre = places.word + 0.5 if self.state["listed"] else places.bounds.mean(dim=2)
            centre = centre * self.step if self.state["listed"] else centre
        ends = field.data[..., :2] if words else to_steps(on, field.data[..., :2])
        real = torch.ones(field.data.shape[:2], dtype=torch.bool) if field.mask is None else field.mask
        codes = torch.full((rows, steps), 0 if self.has_background else IGNORED, device=on.data.device)
        begun = torch.full_like(codes, -1)  # which span lies over a step
        for i in range(field.data.shape[1]):  # later spans lie over earlier ones
            over = (centre >= ends[:, i, :1]) & (centre < ends[:, i, 1:]) & real[:, i, None].to(centre.device)
            code = field.data[:, i, 2].long()
            codes = torch.where(over, torch.where(code < 0, IGNORED, code)[:, None], codes)
            begun = torch.where(over, i, begun)
        inside = on.present[:, None].expand(rows, steps) if on.mask is None else on.mask
        if words:
            first = torch.ones_like(inside)
            first[:, 1:] = (begun[:, 1:] != begun[:, :-1]) | (codes[:, 1:] != codes[:, :-1])
            spanned = (codes >= 0) & (codes != 0 if self.has_background else True)
            codes = codes + len(self.classes) * (first & spanned)
        codes = codes.masked_fill(~(inside & field.present[:, None]), IGNORED)
        return replace(field, data=codes, mask=None, frame=on.frame, extent=on.extent)


SPANS, LABELS, TAGS = "spans", "labels", "tags"
"""Forms of a cell: a list of spans, of labels, of tags that begin and continue spans."""
OUTSIDE = "O"
_TAG = re.compile(r"[BIESLUM][-_](.+)")
_TEXT = 4
"""Maximum length of the extent of an input along time; that of a text is longer."""
Stretch = tuple[float, float, str | None]


def _items(cell: Any) -> Sequence[Any]:
    """Return the labels or spans of a cell, unparsed."""
    cell = plain(cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, str):
        cell = _from_text(cell)
    if not isinstance(cell, (list, tuple)):
        raise CellError(f"a {type(cell).__name__} is not a list of labels or spans")
    return cell


def _label(span: Any) -> Any:
    return span.get("label") if isinstance(span, Mapping) else span[2]


def _parsed(cell: Any, step: float = 1.0) -> tuple[str, list[Stretch]]:
    """Return the form of a cell and its labelled stretches in order."""
    cell = _items(cell)
    if not cell:
        return SPANS, []
    if len(cell) > LONGEST:
        raise CellError(f"{len(cell):,} labels are more than {LONGEST:,}")
    if all(isinstance(item, (list, tuple, Mapping)) for item in cell):
        return SPANS, sorted((_span(item, i) for i, item in enumerate(cell)), key=lambda span: span[:2])
    names = [_name(item) for item in cell]
    known = {name for name in names if name is not None}
    tags = all(name == OUTSIDE or _TAG.fullmatch(name) for name in known) and any(n[0] in "BSU" for n in known)
    return TAGS if tags else LABELS, _runs(names, step)


def _untagged(name: str) -> str:
    """Return the label of a tag: ``PER`` of ``B-PER``."""
    tag = _TAG.fullmatch(name)
    return name if tag is None else tag[1]


def _spans_of_tags(runs: Sequence[Stretch], step: float) -> list[Stretch]:
    """The spans of runs of equal tags. ``B``, ``S`` and ``U`` begin a span, and so does a tag of another label than the
    one before it, or after the end (``E``, ``L``) of a span; ``O`` is outside."""
    spans: list[Stretch] = []
    before: str | None = None
    for start, end, name in runs:
        label, mark = (None if name is None else _untagged(name)), ("" if name is None else name[0])
        for i in range(round((end - start) / step)):
            at = start + i * step
            if name != OUTSIDE:
                ended = before is not None and before[0] in "ELSU" and before != OUTSIDE
                fresh = mark in ("B", "S", "U") or before in (None, OUTSIDE) or ended or _untagged(str(before)) != label
                if name is None or fresh or not spans:
                    spans.append((at, at + step, label))
                else:
                    spans[-1] = (spans[-1][0], at + step, label)
            before = name
    return spans


def _from_text(text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] == "[":
        try:
            return json.loads(stripped)
        except (ValueError, RecursionError):
            raise CellError(f"{stripped[:60]!r} is not a JSON list", fix='[[0, 12, "walk"]] or ["walk", "run"]') from None
    parts = [part for part in re.split(r"[\s,;|]+", stripped) if part]
    if not parts:
        raise CellError("the cell has no label")
    return [None if part == "-" else part for part in parts]


def _span(item: Any, number: int) -> Stretch:
    if isinstance(item, Mapping):
        parts = [item.get("start"), item.get("end"), item.get("label")]
    else:
        parts = list(item)
    numbers = [float(end) for end in parts[:2] if isinstance(end, (int, float)) and not isinstance(end, bool)]
    if len(parts) != 3 or len(numbers) != 2:
        raise CellError(f"span {number + 1} is {str(item)[:60]}", fix='a span is [start, end, "label"]')
    start, end = numbers
    if not (math.isfinite(start) and math.isfinite(end)) or end <= start:
        raise CellError(f"span {number + 1} ends at {end:g} and starts at {start:g}", fix="the end is after the start")
    return start, end, _name(parts[2])


def _name(item: Any) -> str | None:
    item = plain(item)
    if item is None or (isinstance(item, float) and math.isnan(item)) or (isinstance(item, str) and is_blank(item)):
        return None
    if isinstance(item, (list, tuple, Mapping, bytes)):
        raise CellError(f"{str(item)[:60]} is not a label", fix="labels or spans, not both in one cell")
    name = label(item)
    if name is None:
        raise CellError(f"{str(item)[:60]!r} is not a label")
    return name


def _runs(names: Sequence[str | None], step: float) -> list[Stretch]:
    """Join equal neighbours."""
    begins = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    return [(begin * step, end * step, names[begin]) for begin, end in zip(begins, [*begins[1:], len(names)], strict=True)]
