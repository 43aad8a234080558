"""``pretrain``: a base model from rows without a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sensorium.data.inspection.column_groups import Patterns
from sensorium.trained import Trained
from sensorium.training.fit import fit
from sensorium.training.pretraining_methods import TASK, with_methods
from sensorium.training.training_request import RecipeSource, parse_recipe


def pretrain(
    train: Any = None,
    *,
    methods: Iterable[str] | None = None,
    valid: Any = None,
    recipe: RecipeSource = None,
    columns: Mapping[str, str] | None = None,
    streams: Patterns | None = None,
    ignore: Iterable[str] = (),
    group: str | None = None,
    weight: str | None = None,
    media: str | Path | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    size: str | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    time_limit: float | None = None,
    stream: bool = False,
    init: str | Path | None = None,
    init_how: str | None = None,
    init_streams: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Train encoders on rows without a target, for ``fit(..., init=...)`` to start from.

    Arguments that are not described here are those of ``fit``.

    Args:
        train: A table, or shards, with the columns to learn from; name others in ``ignore``.
        methods: What is learnt, several together: ``contrastive``, ``rebuild``, ``autoencode``, ``denoise``,
            ``variational``, ``masked``, ``matching``, ``vicreg``, ``simclr``. By default ``contrastive`` and ``rebuild``;
            with one stream ``autoencode`` and ``simclr``. See docs/pretraining.md.
        valid: A validation table; by default a part of ``train`` is held out.
        recipe: All other settings.
        columns: Column kinds, where the inferred ones are wrong.
        streams: Groups of table columns, each a separate stream.
        ignore: Columns that are not used: targets, identifiers.
        group: A column of groups that are not split between training and validation rows.
        weight: A column of row weights.
        media: The folder that media paths are relative to.
        epochs: Maximum number of passes over the rows.
        lr: Peak learning rate.
        batch_size: Rows per step; a contrast learns from large batches.
        size: ``tiny``, ``small``, ``base`` or ``large``.
        overrides: Any other settings of the recipe.
        seed: Random seed.
        time_limit: Maximum training time in seconds.
        stream: Read rows from shards during training.
        init: A trained model to continue from.
        init_how: What happens to the weights taken over.
        init_streams: By stream, the stream of ``init`` it starts from.
        out: Folder for the base; None keeps it in memory.
        resume: Continue from the last checkpoint in ``out``.
        overwrite: Replace what is in ``out``.
        cache: Folder of the cache of decoded media.
        quiet: Print warnings only.

    Raises:
        SensoriumError: Before training starts.
    """
    plan, options = with_methods(parse_recipe(recipe), None if methods is None else list(methods))
    named = any(spec == TASK or (isinstance(spec, dict) and spec.get("kind") == TASK) for spec in plan.model.tasks.values())
    return fit(
        train,
        task=None if named else TASK,
        options=None if named else options,
        valid=valid,
        recipe=plan,
        columns=columns,
        streams=streams,
        ignore=ignore,
        group=group,
        weight=weight,
        media=media,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        size=size,
        overrides=overrides,
        seed=seed,
        time_limit=time_limit,
        stream=stream,
        init=init,
        init_how=init_how,
        init_streams=init_streams,
        out=out,
        resume=resume,
        overwrite=overwrite,
        cache=cache,
        quiet=quiet,
    )
