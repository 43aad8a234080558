"""A check of a loaded model on a row without streams, which finds inconsistencies at once."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.layout import Graph, Grid, Ids, Layout, Points, Row
from sensorium.core.schema import Schema

LARGEST = 1 << 30
"""Maximum number of values per row of a stream; models that need more are refused."""
TRIED = 1 << 24
"""Above this number of values per row the check is skipped: its cost would exceed what the file size justifies."""
_CELLS = ("a word, 2", "1.5", "2020-01-02", 1)


@torch.inference_mode()
def try_out(schema: Schema, model: Any) -> None:
    """Encode a plain cell or two with the columns of ``schema``, and let ``model`` answer a row without streams.

    Raises what a component raises if its fitted state is unusable; the caller attributes the error.
    """
    largest = 0
    for stream in schema.streams:
        size = _numbers(schema.layout(stream))
        if size > LARGEST:
            raise ConfigError(f"stream {stream!r} would have {size:,} numbers per row; the maximum is {LARGEST:,}")
        largest = max(largest, size)
    for column in schema.coded:
        target = column in schema.targets
        reader = column.reader
        if not reader.media and not target:
            reader.blank()
            for cell in _CELLS:
                schema.encode_cell(column, cell, media=_NOTHING)
                reader.unfamiliar(cell)
        if target:
            for value in reader.classes[:1] or _CELLS if not reader.media else ():
                schema.encode_cell(column, value, media=_NOTHING, target=True)
    if largest > TRIED:
        return
    batch = schema.prepare(schema.collate([{}]))
    run = Forward(model.eval(), batch)
    outputs = run.outputs
    # Experts read only streams that a row has, so they are tried with each stream alone and with all.
    if model.experts is not None:
        heard = model.experts.heard
        for subset in (*((stream,) for stream in heard), tuple(heard)):
            present = {stream: torch.tensor([stream in subset]) for stream in model.streams}
            for name in model.experts.experts:
                model.experts.scores(name, run.read, present)
    for name, task in model.tasks.items():
        task.answers(outputs[name], batch)


_NOTHING: Any = None  # what opens media cells; none is opened here


def _numbers(layout: Layout) -> int:
    match layout:
        case Grid():
            return layout.channels * prod(layout.size)
        case Ids():
            return max(layout.length, layout.vocabulary)
        case Points():
            return layout.channels * layout.count
        case Graph():
            return layout.width * layout.count
        case Row():
            return len(layout.cardinalities)
