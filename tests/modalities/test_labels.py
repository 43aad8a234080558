"""Labels along time as people write them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.batch import Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Modality
from sensorium.core.registry import build, find
from sensorium.modalities.labels import Labels

SPANS = [[0, 3, "walk"], [5, 9, "run"]]


def fitted(cells: list[Any], **options: Any) -> Modality:
    modality: Modality = build("modalities", {"kind": "labels", **options})
    modality.fit(iter(cells))
    return modality


def codes(modality: Modality, cell: Any, steps: int, frame: torch.Tensor | None = None) -> list[int]:
    """The codes of a target on an input of so many real steps, two more being padding."""
    on = Field(
        torch.zeros(1, 1, steps + 2), torch.ones(1, dtype=torch.bool), torch.arange(steps + 2)[None] < steps, frame=frame
    )
    stored = modality.collate([modality.encode_target(cell)])
    return modality.prepare_target(stored, on).data[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "cell",
    [
        SPANS,
        json.dumps(SPANS),
        [{"start": 5, "end": 9, "label": "run"}, {"start": 0, "end": 3, "label": " walk "}],
        np.array(SPANS, dtype=object),
    ],
)
def test_spans_in_every_form_give_the_same(cell: Any) -> None:
    modality = fitted([cell])
    assert modality.classes == ["none", "run", "walk"]
    assert modality.decode(modality.encode(cell)) == [[0.0, 3.0, "walk"], [5.0, 9.0, "run"]]
    assert codes(modality, cell, 10) == [2, 2, 2, 0, 0, 1, 1, 1, 1, 0, -100, -100]


@pytest.mark.parametrize("cell", [["a", "a", None, "b"], '["a", "a", null, "b"]', "a a - b", "a,a,-,b", "a\na\n-\nb"])
def test_a_label_for_each_step(cell: Any) -> None:
    modality = fitted([cell])
    assert modality.classes == ["a", "b"], "nothing lies between the labels of steps"
    assert codes(modality, cell, 5) == [0, 0, -100, 1, -100, -100, -100]


def test_numbers_are_labels_too() -> None:
    assert fitted([[1, 1, 2]]).classes == ["1", "2"]
    assert codes(fitted(["1 1 2"]), np.array([1, 2, 2]), 3)[:3] == [0, 1, 1]


def test_a_step_has_a_length() -> None:
    modality = fitted([["a", "b"]], step=0.5)
    assert modality.decode(modality.encode(["a", "b"])) == [[0.0, 0.5, "a"], [0.5, 1.0, "b"]]
    frame = torch.tensor([[[4.0, 0.0]]])  # four steps of the input a second
    assert codes(modality, ["a", "b"], 4, frame)[:4] == [0, 0, 1, 1]


def test_without_background_steps_between_spans_are_unknown() -> None:
    modality = fitted([SPANS], background=None)
    assert modality.classes == ["run", "walk"]
    assert codes(modality, SPANS, 6)[:6] == [1, 1, 1, -100, -100, 0]


def test_labels_follow_a_shift_of_their_input() -> None:
    shifted = torch.tensor([[[1.0, 2.0]]])  # begins two steps later
    assert codes(fitted([SPANS]), SPANS, 8, shifted)[:8] == [0, 0, 2, 2, 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ([[3, 3, "walk"]], "span 1 ends at 3 and starts at 3"),
        ([[0, 3, "walk"], [4, "run"]], "span 2 is"),
        ([[0, float("inf"), "walk"]], "span 1 ends at inf"),
        ([["0", 3, "walk"]], "span 1 is"),
        ("[[0, 3, ", "not a JSON list"),
        (["walk", ["run"]], "not a label"),
        ([[0, 3, "fly"]], "'fly' is not known"),
        ([[0, 3, "walks"]], "'walks' is not known"),
        (7, "not a list"),
        (" , ", "no label"),
    ],
)
def test_damaged_cells_are_named(cell: Any, reason: str) -> None:
    with pytest.raises(CellError, match=reason):
        fitted([SPANS]).encode(cell)


def test_a_misspelt_label_is_recognised() -> None:
    with pytest.raises(CellError) as error:
        fitted([SPANS]).encode([[0, 3, "walks"]])
    assert "walk" in str(error.value.fix)


def test_only_spans_are_inferred() -> None:
    sniff = find("modalities", "labels").sniff
    assert sniff([json.dumps(SPANS)] * 4, "y").score > 0.9
    for cells in (["a b c"] * 4, ["[1, 2, 3]"] * 4, ['["a", "b"]'] * 4, ["[[1, 2], [3, 4]]"] * 4, ["[[1, 2, 3]]"] * 4, []):
        assert sniff(cells, "y").score == 0.0, cells


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        build("modalities", {"kind": "labels", "step": 0})


@pytest.mark.parametrize(
    ("cells", "spans"),
    [
        (['[[0, 2, "walk"]]', "[]"], True),
        (['[{"start": 0, "end": 2, "label": "walk"}]'], True),
        ([[[0, 16, "6"], [16, 31, "5"]]], True),  # a label that is a number in quotes
        (["[[0, 16, 6], [16, 31, 5]]"], False),  # points
        (["[]", "[]"], False),
        (["walk walk run"], False),
    ],
)
def test_spans_are_recognised_among_cells_without_any(cells: list[Any], spans: bool) -> None:
    assert (Labels.sniff(cells, "labels").score > 0.9) is spans


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-PER I-PER O B-LOC", [[0, 2, "PER"], [3, 4, "LOC"]]),
        ("B-PER B-PER O O", [[0, 1, "PER"], [1, 2, "PER"]]),
        ("I-PER I-PER O I-LOC", [[0, 2, "PER"], [3, 4, "LOC"]]),  # as conlleval reads a missing B
        ("B-PER E-PER S-LOC O", [[0, 2, "PER"], [2, 3, "LOC"]]),
        ("B-PER I-LOC O O", [[0, 1, "PER"], [1, 2, "LOC"]]),
        ("O O O O", []),
        (["B-PER", None, "O", "I-PER"], [[0, 1, "PER"], [1, 2, None], [3, 4, "PER"]]),
    ],
)
def test_tags_are_spans(tags: Any, spans: list[list[Any]]) -> None:
    labels = Labels()
    labels.fit(["B-PER I-PER O B-LOC", "O O"])
    assert labels.classes == ["none", "LOC", "PER"]
    assert labels.decode(labels.encode(tags)) == spans


def test_a_span_beyond_its_input_is_named() -> None:
    labels = Labels()
    labels.fit([[[0, 2, "walk"]]])
    reach = labels.extent([[0, 2, "walk"], [12, 14, "walk"]])
    assert reach is not None
    assert "from 12 on lie beyond the recording, which ends at 10" in labels.adjusted(reach, np.array([10.0], np.float32))
    assert labels.adjusted(reach, np.array([13.0], np.float32)) == ""
    assert "10" in labels.adjusted(reach, np.array([640.0, 480.0, 10.0, 0.5], np.float32)), "a video"


def test_a_span_before_its_input_is_named() -> None:
    labels = Labels()
    labels.fit([[[0, 2, "walk"]]])
    early = labels.extent([[-3, -1, "walk"], [0, 2, "walk"]])
    assert early is not None
    note = "labels that end at -1 lie before the recording, which is read from 0 on"
    assert note in labels.adjusted(early, np.array([10.0], np.float32))
    within = labels.extent([[-3, 1, "walk"], [0, 2, "walk"]])
    assert within is not None
    assert labels.adjusted(within, np.array([10.0], np.float32)) == ""
    assert "read from 100 on" in labels.adjusted(within, np.array([10.0, 100.0], np.float32)), "a series with times"
    none = labels.extent([])
    assert none is not None
    assert labels.adjusted(none, np.array([10.0], np.float32)) == ""
