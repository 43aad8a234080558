"""``gain``: the gain from starting from a base with few labelled rows, compared with models from scratch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import is_blank
from sensorium.data.inspection.column_groups import Patterns
from sensorium.data.splitting import split
from sensorium.data.tables.table import Table
from sensorium.evaluation.gain import Gain, Scores
from sensorium.evaluation.results import TargetScores
from sensorium.reporting.console import Console
from sensorium.training.base_model import bases_loaded_once
from sensorium.training.fit import fit
from sensorium.training.training_request import RecipeSource

LABELS = (10, 50, 200)
"""Numbers of labelled rows."""
TEST_PART = 0.3
"""Share of the labelled rows that are scored, without a test table."""
CLASSES = 50
"""Distinct values of a target up to which each is drawn alike."""


@bases_loaded_once()
def gain(
    base: str | Path,
    train: Any,
    *,
    target: str,
    labels: Sequence[int] = LABELS,
    seeds: int = 3,
    test: Any = None,
    init_how: str | None = None,
    init_streams: Mapping[str, str] | None = None,
    recipe: RecipeSource = None,
    columns: Mapping[str, str] | None = None,
    streams: Patterns | None = None,
    ignore: Iterable[str] = (),
    media: str | Path | None = None,
    overrides: Iterable[str] = (),
    cache: str | Path | None = None,
    console: Console | None = None,
) -> Gain:
    """Fit models on few labelled rows, from scratch and from a base, and score both on the same other rows.

    Args:
        base: The folder of the base.
        train: A table with labelled rows, of which samples are drawn, the same number of every class.
        target: The target column.
        labels: Numbers of labelled rows to try; those above the rows of the table are left out.
        seeds: Number of samples of each size; the number of a sample is also the seed of its models.
        test: Rows to score; by default 30 % of the labelled rows are held out.
        init_how: As in ``fit``.
        init_streams: As in ``fit``.
        recipe: As in ``fit``.
        columns: As in ``fit``.
        streams: As in ``fit``.
        ignore: As in ``fit``.
        media: As in ``fit``.
        overrides: As in ``fit``.
        cache: As in ``fit``.
        console: Where progress is printed; None prints nothing.

    Raises:
        ConfigError: ``labels`` is empty or below 2, or ``seeds`` below 1.
        DataError: The table lacks the target or has too few labelled rows, or no model could be trained.
    """
    began = time.process_time()
    console = console or Console(quiet=True)
    if seeds < 1 or not labels or min(labels) < 2:
        raise ConfigError("labels must be numbers of rows, at least 2, and seeds at least 1")
    table = _labelled(Table.read(train, root=media), target)
    if test is None:
        kept, held = split(table, part=TEST_PART, target=target)
        table, scored = table.take(kept), table.take(held)
    else:
        scored = _labelled(Table.read(test, root=media), target)
    tried = sorted({count for count in labels if count <= len(table)})
    if not tried:
        raise DataError(f"has {len(table):,} labelled rows to train on", file=table.source, fix="fewer --labels")
    arguments: dict[str, Any] = {
        "target": target,
        "recipe": recipe,
        "columns": columns,
        "streams": streams,
        "ignore": list(ignore),
        "overrides": list(overrides),
        "cache": cache,
        "quiet": True,
    }
    start: dict[str, Any] = {"init": base, "init_how": init_how, "init_streams": init_streams}
    results: dict[int, list[tuple[TargetScores, TargetScores]]] = {}
    failed: dict[int, str] = {}
    for done, (count, seed) in enumerate((count, seed) for count in tried for seed in range(seeds)):
        console.step("fitting", done, len(tried) * seeds)
        if count in failed:
            continue
        few = table.take(draw(table.column(target), count, seed))
        try:
            starts: tuple[dict[str, Any], ...] = ({}, start)
            scores_of_pair = [
                fit(few, seed=seed, **arguments | start_arguments).evaluate(scored).targets[target]
                for start_arguments in starts
            ]
        except DataError as error:  # too few rows of a class, for instance
            failed[count] = error.problem
            results.pop(count, None)
            continue
        results.setdefault(count, []).append((scores_of_pair[0], scores_of_pair[1]))
    first = next(iter(results.values()), [])
    if not first:
        raise DataError(f"nothing could be trained: {next(iter(failed.values()))}", file=table.source)
    head = first[0][0]
    return Gain(
        target,
        head.headline,
        head.higher_is_better,
        head.rows,
        seeds,
        {count: _by_stream(pairs) for count, pairs in results.items()},
        failed,
        time.process_time() - began,
    )


def _labelled(table: Table, target: str) -> Table:
    cells = table.column(target)  # raises an error that lists the columns
    known = [i for i, cell in enumerate(cells) if not is_blank(cell)]
    if not known:
        raise DataError("holds no labelled row", file=table.source, column=target)
    return table if len(known) == len(table) else table.take(known)


def draw(cells: Sequence[Any], count: int, seed: int) -> list[int]:
    """Return the positions of ``count`` of the target's ``cells``, drawn by ``seed``; few distinct values are balanced."""
    order = np.random.default_rng(seed).permutation(len(cells)).tolist()
    groups: dict[str, list[int]] = {}
    for i in order:
        groups.setdefault(str(cells[i]).strip(), []).append(i)
    if len(groups) > CLASSES:
        return sorted(order[:count])
    rounds = max(len(group) for group in groups.values())
    by_turns = [groups[value][turn] for turn in range(rounds) for value in sorted(groups) if turn < len(groups[value])]
    return sorted(by_turns[:count])


def _by_stream(pairs: Sequence[tuple[TargetScores, TargetScores]]) -> dict[str, Scores]:
    """Return the scores of all streams together, and of each alone."""
    head = pairs[0][0].headline
    scores = {"": Scores(*([scores_of_run.metrics[head] for scores_of_run in side] for side in zip(*pairs, strict=True)))}
    streams = pairs[0][0].whole
    for stream in streams if len(streams) > 1 else ():
        if all(stream in scores_of_run.subsets for pair in pairs for scores_of_run in pair):
            scores[stream] = Scores(
                *([scores_of_run.subsets[stream][head] for scores_of_run in side] for side in zip(*pairs, strict=True))
            )
    return scores
