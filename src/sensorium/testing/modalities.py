"""Checks of modalities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from sensorium.core.answer import map_attachments
from sensorium.core.batch import Field
from sensorium.core.errors import CellError
from sensorium.core.layout import Graph, Grid, Ids, Layout, Points, Row
from sensorium.core.modality import Blob, Modality
from sensorium.core.registry import build
from sensorium.data.files.attachment_files import encode_attachment, with_data_urls
from sensorium.testing import samples
from sensorium.testing.corruptions import check_corruptions
from sensorium.testing.general import assert_same, check_description

HOSTILE: tuple[Any, ...] = (
    "",
    "\x00",
    "�" * 50,
    b"\x00\xff",
    [],
    {},
    float("inf"),
    10**400,
    object(),
    "💥",
    Blob(b"", "empty"),
)


def check_modality(kind: str, cells: Sequence[Any] | None = None) -> None:
    """Check the modality ``kind`` on sample ``cells``: JSON state that is complete, ``CellError`` for bad cells, batches
    shaped as the layout states, targets decoded."""
    check_description("modalities", kind)
    where = f"modalities/{kind}"
    examples = samples.cells(kind) if cells is None else cells
    modality = fitted(kind, examples)
    arrays = [modality.encode(cell) for cell in examples]
    for array, second in zip(arrays, [modality.encode(cell) for cell in examples], strict=True):
        assert isinstance(array, np.ndarray), f"{where}: encode returns a {type(array).__name__}, not an array"
        assert array.dtype == arrays[0].dtype, f"{where}: encode returns arrays of different dtypes"
        assert array.dtype == modality.blank().dtype, f"{where}: blank has another dtype than encode returns"
        assert np.array_equal(array, second), f"{where}: encode returns another array the second time"

    twin: Modality = build("modalities", kind)
    twin.state = json.loads(json.dumps(modality.state))
    assert twin.layout == modality.layout, f"{where}: the layout is not in the state"
    for cell, array in zip(examples, arrays, strict=True):
        assert np.array_equal(twin.encode(cell), array), f"{where}: the state is not all that was learnt"
    assert json.loads(json.dumps(modality.store_options)) == modality.store_options, f"{where}: store_options are not JSON"

    mixed = modality.collate([arrays[0], None, arrays[-1]])
    assert mixed.present.tolist() == [True, False, True], f"{where}: None is not absent in a batch"
    for generator in (None, torch.Generator().manual_seed(0)):
        ready = modality.prepare(mixed, generator)
        assert ready.present.tolist() == [True, False, True], f"{where}: prepare changes what is present"
        check_layout(ready, modality.layout, where)
    for empty in (modality.prepare(modality.collate([None, None])), modality.prepare(modality.collate([arrays[0]]))):
        check_layout(empty, modality.layout, where)
    again = modality.prepare(mixed, torch.Generator().manual_seed(0))
    assert_same(
        again, modality.prepare(mixed, torch.Generator().manual_seed(0)), f"{where}: the generator is not all chance"
    )

    if modality.ragged:
        assert max(map(len, arrays)) <= modality.longest, f"{where}: encode returns more steps than longest states"
        padded = modality.collate([arrays[0], None], whole=True)
        assert padded.data.shape[1] == modality.longest, f"{where}: a whole batch is not padded to the longest"
        check_layout(modality.prepare(padded), modality.layout, where)
    for cell in [*examples, *HOSTILE]:
        decoded = modality.measure(cell)
        assert set(decoded) <= set(modality.bounds), f"{where}: measure tells {set(decoded)}, of which bounds know nothing"
    check_corruptions(modality, arrays, where)

    for cell in HOSTILE:
        with suppress(CellError):  # anything else is a crash in the middle of a table
            modality.encode(cell)
    for sample in ([], list(examples) if not modality.media else []):
        guess = type(modality).sniff(sample, "column")
        assert 0.0 <= guess.score <= 1.0, f"{where}: sniff gives {guess.score}"
        assert guess.reason, f"{where}: sniff gives no reason"
    if modality.task is not None:
        for cell in examples:
            value = modality.encode_target(cell)
            decoded = modality.decode(value)
            plain = with_data_urls(decoded)
            assert json.loads(json.dumps(plain)) == plain, f"{where}: decode gives no JSON: {decoded!r}"
            cell_again = map_attachments(decoded, lambda medium: Blob(encode_attachment(medium), "decoded"))
            back = modality.encode_target(cell_again)
            same = np.allclose(back, value, rtol=1e-4, atol=1e-5, equal_nan=True)
            assert same, f"{where}: {cell!r} comes back as {decoded!r}"


def fitted(kind: str, cells: Sequence[Any]) -> Modality:
    """The modality ``kind``, fitted to ``cells``."""
    modality: Modality = build("modalities", kind)
    modality.fit(iter(cells))
    return modality


def targets(modality: Modality, cells: Sequence[Any]) -> list[Any]:
    """``cells`` as target arrays of ``modality``, as lists, or the reason for a refusal; empty if it cannot be a target."""
    encoded: list[Any] = []
    for cell in cells if modality.task is not None else ():
        try:
            encoded.append(modality.encode_target(cell).tolist())
        except CellError as error:
            encoded.append(str(error))
    return encoded


def check_layout(field: Field, layout: Layout, where: str) -> None:
    """Check that a prepared ``field`` has the shape and dtype that ``layout`` states and is finite. ``where`` names the
    case in messages."""
    data, rows = field.data, field.present.shape[0]
    steps: int | None = None
    if isinstance(layout, Grid):
        steps = data.shape[2]
        rest = (rows, layout.channels, steps, *layout.size[1:])
        assert tuple(data.shape) == rest, f"{where}: {tuple(data.shape)} is not {layout}"
    elif isinstance(layout, Ids):
        steps = data.shape[1]
        assert data.dtype == torch.int64, f"{where}: ids are {data.dtype}"
        assert steps <= layout.length, f"{where}: {steps} ids where {layout.length} are the most"
        in_range = data.numel() == 0 or (int(data.min()) >= 0 and int(data.max()) < layout.vocabulary)
        assert in_range, f"{where}: an id lies outside the vocabulary"
    elif isinstance(layout, Points):
        steps = data.shape[1]
        assert data.shape[2] == layout.channels, f"{where}: {tuple(data.shape)} is not {layout}"
    elif isinstance(layout, Graph):
        steps = data.shape[1]
        assert data.shape[2] == layout.width, f"{where}: {tuple(data.shape)} is not {layout}"
        kinds = data[..., layout.channels : layout.channels + layout.count]
        in_range = kinds.numel() == 0 or bool(
            (kinds.frac() == 0).all() and kinds.min() >= 0 and kinds.max() <= layout.kinds
        )
        assert in_range, f"{where}: edges are of kinds 0 to {layout.kinds}"
    elif isinstance(layout, Row):
        steps = len(layout.cardinalities)
        assert tuple(data.shape) == (rows, steps), f"{where}: {tuple(data.shape)} is not {layout}"
    if not isinstance(layout, Ids):
        assert data.dtype == torch.float32, f"{where}: prepared data is {data.dtype}"
        assert bool(data.isfinite().all()), f"{where}: prepared data is not finite"
    if field.mask is not None:
        assert tuple(field.mask.shape) == (rows, steps), f"{where}: the mask is {tuple(field.mask.shape)}"
        assert field.mask.dtype == torch.bool, f"{where}: the mask is {field.mask.dtype}"
