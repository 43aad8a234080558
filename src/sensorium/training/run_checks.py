"""Checks of a run before anything is decoded: what its recipe asks for and its rows allow."""

from __future__ import annotations

from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.training.fold_ensemble import why_unsuitable
from sensorium.training.table_splits import TableSplits


def check_search(
    plan: Recipe,
    separate_valid: bool,
    search: int | None,
    tune_speed: bool,
    splits: TableSplits,
    trials: int | None,
    resolved: Recipe,
) -> None:
    """Refuse several networks or a search where the recipe or the rows do not allow them.

    Args:
        plan: The recipe with its settings left open.
        separate_valid: Whether the user gave a validation table.
        search: Number of trials that the user asks for.
        tune_speed: Whether speed is to be tuned.
        splits: The declared columns and the tables.
        trials: Number of trials that a quality asks for.
        resolved: The recipe with every setting chosen.
    """
    if plan.model.networks > 1 and (why := why_unsuitable(resolved, splits, separate_valid=separate_valid)) is not None:
        raise ConfigError(f"{plan.model.networks} networks cannot be trained: {why}", fix="model.networks=1")
    if search is None and trials is None:
        return
    if tune_speed:
        raise ConfigError("tune_speed measures one setting, but a search tries many", fix="leave out one of the two")
    if splits.stream is not None:
        raise ConfigError("a search needs a table in memory", fix="leave out --stream, or --search and --quality best")
    if plan.training.devices * plan.training.nodes > 1:
        raise ConfigError(
            "a search trains in one process", fix="leave out training.devices and training.nodes, or --search"
        )
