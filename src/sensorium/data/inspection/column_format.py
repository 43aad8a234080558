"""How the cells of a column will be read, decided by all of them before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sensorium.core import registry
from sensorium.core.errors import ConfigError
from sensorium.core.modality import Modality
from sensorium.core.schema import PLACING, TARGETS


class Reading(NamedTuple):
    """How a column is read.

    Args:
        options: Those that were left to the cells (``decimal: auto``), as these decided.
        how: In words; empty where there was nothing to decide.
        doubts: What a user should look at, each a sentence with its remedy.
    """

    options: dict[str, Any]
    how: str = ""
    doubts: tuple[str, ...] = ()


def reading(name: str, spec: Mapping[str, Any], cells: Sequence[Any], role: str = "input") -> Reading:
    """How cells of a table (numbers, dates, categories, tags) are read by the modality of ``spec``, in their ``role``."""
    given = {key: value for key, value in spec.items() if key not in PLACING}
    try:
        modality: Modality = registry.build("modalities", given)
        if modality.stream is None or modality.media:
            return Reading({})
        modality.fit(cell for cell in cells if not modality.missing(cell))
    except ConfigError as error:
        raise ConfigError(error.problem, column=name, fix=error.fix) from None
    options, said = modality.settled_target if role in TARGETS else ({}, "")
    # What is an input as well keeps the options that it shares with the target.
    settled = modality.settled | (options if role == "target" else {})
    return Reading(settled, "; ".join(filter(None, [modality.reading, said])), tuple(modality.doubts))
