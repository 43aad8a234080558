"""``--quality``: presets of training effort, which set what the table below lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, get_args

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.model import assemble
from sensorium.training.defaults import resolve
from sensorium.training.search_space import SIZES

Quality = Literal["fast", "good", "best"]


class Preset(NamedTuple):
    """What a quality sets where the recipe leaves it open.

    Args:
        sizes: Steps along the model sizes (tiny, small, base, large) from the default for the rows.
        passes: Maximum epochs, as a multiple of the default for the rows.
        trials: Number of search trials (``--search``); None: no search.
        networks: Number of networks, each trained without one fold of the rows (``training/fold_ensemble.py``).
        network: Whether a network is trained. Without one, experts predict alone; where they cannot, the other settings
            apply.
    """

    sizes: int
    passes: float
    trials: int | None
    networks: int = 1
    network: bool = True


QUALITY: dict[str, Preset] = {
    "fast": Preset(sizes=-1, passes=1 / 3, trials=None, network=False),
    "good": Preset(sizes=0, passes=1.0, trials=None),
    "best": Preset(sizes=0, passes=1.5, trials=16, networks=4),
}


def with_quality(
    quality: str | None, plan: Recipe, schema: Schema, rows: int, classes: Mapping[str, Sequence[int]]
) -> tuple[Recipe, int | None, list[str]]:
    """Apply a quality to a recipe.

    Args:
        quality: ``fast``, ``good``, ``best`` or None.
        plan: The recipe with settings left open.
        schema: The fitted columns.
        rows: Number of training rows.
        classes: Training rows of each class, by target.

    Returns:
        The recipe with what the quality sets, the number of search trials, and notes.
    """
    if quality is None:
        return plan, None, []
    if quality not in get_args(Quality):
        raise ConfigError(f"no quality {quality!r}{nearest(quality, QUALITY)}", fix="--quality fast, good or best")
    preset = QUALITY[quality]
    if not preset.network and plan.model.network and "network" not in plan.model.model_fields_set:
        alone = plan.model_copy(update={"model": plan.model.model_copy(update={"network": False})})
        with suppress(ConfigError):  # a task or stream that no expert supports: then use a small network
            assemble(resolve(alone, schema, rows, classes)[0].model, schema)
            return alone, preset.trials, [f"quality {quality}: experts alone, no network"]
    usual, _ = resolve(plan, schema, rows, classes)
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    # A size that a search varies is left to it.
    if plan.model.size == "auto" and preset.sizes:
        at = max(0, SIZES.index(usual.model.size) + preset.sizes)
        model["size"] = SIZES[at]
    if plan.model.network and preset.networks > 1 and "networks" not in plan.model.model_fields_set:
        model["networks"] = preset.networks
    if plan.training.epochs is None and usual.training.epochs is not None and preset.passes != 1.0:
        training["epochs"] = max(2, round(usual.training.epochs * preset.passes))
    notes = [f"{key} {value}" for key, value in (model | training).items()]
    notes += [] if preset.trials is None else [f"a search of {preset.trials} trials"]
    plan = plan.model_copy(
        update={
            "model": plan.model.model_copy(update=model) if model else plan.model,
            "training": plan.training.model_copy(update=training) if training else plan.training,
        }
    )
    return plan, preset.trials, [f"quality {quality}: {', '.join(notes) if notes else 'the defaults for these rows'}"]
