"""How the cells of a column are parsed, decided from all of them before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sensorium.core import registry
from sensorium.core.errors import ConfigError
from sensorium.core.modality import Modality
from sensorium.core.schema import PLACING, TARGETS


class Reading(NamedTuple):
    """How a column is parsed.

    Args:
        options: Options left to the data (``decimal: auto``), as decided from the cells.
        how: A description; empty where nothing had to be decided.
        doubts: Sentences on what a user should check, with the remedy.
    """

    options: dict[str, Any]
    how: str = ""
    doubts: tuple[str, ...] = ()


def reading(name: str, spec: Mapping[str, Any], cells: Sequence[Any], role: str = "input") -> Reading:
    """Decide how the modality of a column of table cells (numbers, dates, categories, tags) parses them.

    Args:
        name: The column, for errors.
        spec: Its kind and options.
        cells: All its cells.
        role: Its role, such as ``input`` or ``target``.

    Raises:
        ConfigError: The options are invalid.
    """
    stated = {key: value for key, value in spec.items() if key not in PLACING}
    try:
        modality: Modality = registry.build("modalities", stated)
        if modality.stream is None or modality.media:
            return Reading({})
        modality.fit(cell for cell in cells if not modality.missing(cell))
    except ConfigError as error:
        raise ConfigError(error.problem, column=name, fix=error.fix) from None
    options, target_reading = modality.resolved_target_options if role in TARGETS else ({}, "")
    # A column that is both keeps its settled input options.
    settled = modality.resolved_options | (options if role == "target" else {})
    return Reading(settled, "; ".join(filter(None, [modality.reading, target_reading])), tuple(modality.doubts))
