"""Checks of the corruptions of modalities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid, Ids, Row
from sensorium.core.modality import Array, Modality

DRAWS = 6
"""Random corruptions of each sample cell; enough that the mean distance grows with the level."""


def check_corruptions(modality: Modality, arrays: Sequence[Array], where: str) -> None:
    """Check the corruptions of ``modality`` on encoded ``arrays``: level 0 changes nothing, results are reproducible,
    dtypes and shapes stay, and higher levels differ more. ``where`` names the case in messages."""
    for how in modality.corruptions:
        place = f"{where}: corruption {how!r}"
        distances = []
        for level in (0.0, 0.3, 1.0):
            total = 0.0
            for i, array in enumerate(arrays):
                for draw in range(DRAWS):
                    before = array.copy()
                    spoiled = modality.corrupt(array, how, level, np.random.default_rng((i, draw)))
                    again = modality.corrupt(array, how, level, np.random.default_rng((i, draw)))
                    assert np.array_equal(array, before), f"{place} changes the cell it is given"
                    assert np.array_equal(spoiled, again), f"{place} draws from elsewhere than its generator"
                    _check_kind(modality, array, spoiled, place)
                    total += _distance(modality, array, spoiled)
            distances.append(total)
        assert distances[0] == 0, f"{place} at level 0 is not the cell itself"
        assert 0 < distances[1] < distances[2], f"{place}: more of it is not further away: {distances}"
    for how, level in (("no such thing", 0.5), *((how, 1.5) for how in modality.corruptions[:1])):
        try:
            modality.corrupt(arrays[0], how, level, np.random.default_rng(0))
        except ConfigError:
            continue
        raise AssertionError(f"{where}: corrupt takes {how!r} at level {level}")


def _check_kind(modality: Modality, array: Array, spoiled: Array, place: str) -> None:
    """Check that a corrupted cell can be stored and prepared like any other."""
    blank = modality.blank()
    assert spoiled.dtype == blank.dtype, f"{place} gives {spoiled.dtype}, not {blank.dtype}"
    if modality.ragged:
        assert spoiled.shape[1:] == blank.shape[1:], f"{place} gives {spoiled.shape}"
        assert len(spoiled) > 0 or len(array) == 0, f"{place} leaves nothing: that is a missing cell, not a spoiled one"
        layout = modality.layout
        if isinstance(layout, Ids):
            assert len(spoiled) <= layout.length, f"{place}: {len(spoiled)} ids where {layout.length} are the most"
            assert bool((spoiled > 0).all() and (spoiled < layout.vocabulary).all()), f"{place}: ids outside the vocabulary"
    else:
        assert spoiled.shape == blank.shape, f"{place} gives {spoiled.shape}, not {blank.shape}"
    ready = modality.prepare(modality.collate([spoiled, None]))
    assert ready.present.tolist() == [True, False], f"{place} changes what is present"
    assert bool(torch.isfinite(ready.data.float()).all()), f"{place} is not finite once prepared"
    if isinstance(modality.layout, Row):
        for value, known in zip(spoiled.tolist(), modality.layout.cardinalities, strict=True):
            assert not known or (0 <= value < known and value == int(value)), f"{place}: {value} is no code below {known}"
    elif isinstance(modality.layout, Grid):
        assert ready.data.shape[1] == modality.layout.channels, f"{place}: {tuple(ready.data.shape)}"


def _distance(modality: Modality, first: Array, second: Array) -> float:
    """Return the distance of two encoded cells: the share of different values for codes and words, else a mean distance."""
    length = max(len(first), len(second))
    a, b = (np.zeros((length, *first.shape[1:])) for _ in range(2))
    a[: len(first)], b[: len(second)] = first, second
    coded = isinstance(modality.layout, Ids) or (isinstance(modality.layout, Row) and any(modality.layout.cardinalities))
    return float(np.mean(a != b) if coded else np.mean(np.abs(a - b)))
