"""Candidates scored by several streams, words put together from units, and the streams that are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid, Row
from sensorium.core.recipe import Recipe
from sensorium.core.registry import build
from sensorium.data.tables.table import Table
from sensorium.heads.joint_decoding import Emissions, candidates
from sensorium.heads.word_times import words_of
from sensorium.modalities.transcript import Transcript
from sensorium.nn.ctc import log_likelihood
from sensorium.training.column_declaration import declare


def emissions(seed: int, present: list[list[bool]]) -> Emissions:
    draw = torch.Generator().manual_seed(seed)
    has_stream = torch.tensor(present)
    real = [torch.ones(len(has_stream), steps, dtype=torch.bool) & has_stream[:, i, None] for i, steps in enumerate((4, 5))]
    logits = tuple(2 * torch.randn(len(has_stream), steps, 4, generator=draw) for steps in (4, 5))
    return Emissions(logits, tuple(real), torch.zeros(len(has_stream), 4))


def test_candidates_are_scored_by_the_streams_that_a_row_has() -> None:
    output = emissions(0, [[True, True], [True, False], [False, True], [False, False]])
    result = candidates(output, 6)
    for i in range(3):
        own = [s for s in range(2) if bool(output.present(s)[i])]
        total = sum(log_likelihood(output.logs(s), output.real[s], result.ids[:, 0])[i] for s in own)
        assert float(result.score[i, 0]) == pytest.approx(float(total), abs=1e-4)
        assert result.score[i].tolist() == sorted(result.score[i].tolist(), reverse=True)
        kept = [
            tuple(row) for row, score in zip(result.ids[i].tolist(), result.score[i].tolist(), strict=True) if score > -1e20
        ]
        assert len(set(kept)) == len(kept)
    assert result.confidence[0].sum() == pytest.approx(1.0)
    assert result.confidence[1].sum() <= 1.0
    assert result.confidence[3].tolist() == [0.0] * 6


def test_words_are_put_together_from_units() -> None:
    pieces = ("", "�", " ", "a", "b", "中", "文")
    assert words_of([3, 4, 2, 4, 0, 0], pieces) == [("ab", [0, 1]), ("b", [3])]
    assert words_of([5, 6, 3, 4], pieces) == [("中", [0]), ("文", [1]), ("ab", [2, 3])]


def goal(streams: dict[str, Grid | Row], lies_on: dict[str, str] | None = None) -> Goal:
    target = Transcript()
    target.fit(["one two", "two one"] * 5)
    return Goal("text", {"text": target}, {}, streams, {}, lies_on or {})


def test_streams_are_named_or_all_along_time() -> None:
    streams = {"clip": Grid(1, (50, 8), timed=True), "photo": Grid(3, (8, 8)), "lips": Grid(2, (20,), timed=True)}
    assert build("tasks", "transcription", goal(streams), 8).on == ("clip", "lips")
    assert build("tasks", {"kind": "transcription", "on": ["lips"]}, goal(streams), 8).on == ("lips",)
    assert build("tasks", "transcription", goal(streams, {"text": "clip"}), 8).on == ("clip",)
    with pytest.raises(ConfigError, match="'photo' is no stream along time"):
        build("tasks", {"kind": "transcription", "on": ["photo"]}, goal(streams), 8)
    with pytest.raises(ConfigError, match="there is none"):
        build("tasks", "transcription", goal({"table": Row((0,))}), 8)


def test_lips_are_read_picture_by_picture() -> None:
    table = Table({"lips": [np.zeros((30, 8, 8, 3), np.uint8)] * 4, "text": ["a b", "b a", "a", "b"]})
    recipe = Recipe.parse({"columns": {"lips": {"frames": 40}}, "model": {"tasks": {"text": "transcription"}}})
    declared = declare(table, recipe, [], {}).schema
    assert declared.columns["lips"].spec["kind"] == "video"
    assert declared.columns["lips"].spec["rate"] == 25
    assert declared.columns["lips"].spec["frames"] == 40, "what the user says comes first"
