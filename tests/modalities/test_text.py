"""Text cells."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Ids
from sensorium.modalities.text import APART, Text

CELLS = [f"The cat number {i} sat on the mat" + " again" * (i % 7) for i in range(300)]


@pytest.fixture
def text() -> Text:
    modality = Text(vocabulary=300)
    modality.fit(CELLS)
    return modality


def test_layout_and_ids(text: Text) -> None:
    layout = text.layout
    assert isinstance(layout, Ids)
    assert layout.vocabulary <= 300
    ids = [text.encode(cell) for cell in CELLS]
    assert all(i.min() > 0 and i.max() < layout.vocabulary and i.dtype == np.int32 for i in ids)
    assert layout.length == max(map(len, ids)) < 256


def test_state_is_all_there_is(text: Text) -> None:
    again = Text(vocabulary=300)
    again.state = json.loads(json.dumps(text.state))
    for cell in CELLS[:30]:
        np.testing.assert_array_equal(again.encode(cell), text.encode(cell))
    assert again.layout == text.layout


def test_bad_and_odd_cells(text: Text) -> None:
    for cell in ("\x00\u200b", "   ", [3], [], b"a", None):
        with pytest.raises(CellError):
            text.encode(cell)
    assert len(text.encode("𝒳ж\ud800q")) > 0
    assert len(text.encode(12.5)) > 0


def test_a_huge_cell_is_quick(text: Text) -> None:
    start = time.perf_counter()
    assert len(text.encode("cat mat " * 1_300_000)) == text.state["length"]
    assert len(text.encode("x" * 10_000_000)) <= text.state["length"]
    assert time.perf_counter() - start < 1


def test_options_change_something() -> None:
    def learnt(**options: object) -> Text:
        modality = Text(**options)  # type: ignore[arg-type]
        modality.fit(CELLS)
        return modality

    base = learnt()
    assert learnt(tokeniser="word").layout != base.layout
    assert len(learnt(tokeniser="character").encode("the cat")) == 7
    assert learnt(length=4).layout.length == 4  # type: ignore[union-attr]
    assert not np.array_equal(learnt(lowercase=False).encode("The the"), base.encode("The the"))
    assert np.array_equal(base.encode("THE the"), base.encode("the the"))
    with pytest.raises(ConfigError):
        Text(drop=1.0)


def test_dropped_tokens() -> None:
    text = Text(drop=0.1)
    text.fit(CELLS)
    field = text.collate([text.encode(CELLS[6]), None, text.encode("cat")] * 200)
    assert field.mask is not None
    plain = text.prepare(field)
    assert plain.data.dtype == torch.int64
    assert (plain.data[~field.mask] == 0).all()
    noisy = text.prepare(field, torch.Generator().manual_seed(0))
    again = text.prepare(field, torch.Generator().manual_seed(0))
    assert torch.equal(noisy.data, again.data)
    changed = noisy.data != plain.data
    assert (noisy.data[changed] == 1).all()
    assert not changed[~field.mask].any()
    long = field.mask.sum(dim=1) > 5
    share = changed[long].sum() / field.mask[long].sum()
    assert 0.07 < share < 0.13
    # A row of one token keeps it: there must be something left to read.
    assert not changed[2::3].any()
    assert torch.equal(Text(drop=0.0).prepare(field, torch.Generator()).data, plain.data)


def test_drop_does_not_touch_what_is_stored(text: Text) -> None:
    other = Text(vocabulary=300, drop=0.5)
    other.fit(CELLS)
    assert other.store_options == text.store_options
    assert "drop" not in text.store_options


def test_an_empty_column() -> None:
    text = Text()
    text.fit([])
    assert len(text.encode("hello")) == 1
    assert text.collate([None, None]).data.shape == (2, 1)


def test_several_wordings_come_back_as_several() -> None:
    text = Text(alternatives="pick")
    text.fit([["a dog", "the dog runs"], "a cat"])
    assert text.decode(text.encode(["a dog", "the dog runs"])) == ["a dog", "the dog runs"]
    assert text.decode(text.encode("a cat")) == "a cat"
    assert text.decode(text.blank()) == ""
    joined = Text()
    joined.fit([["a dog", "the dog runs"], "a cat"])
    assert joined.decode(joined.encode(["a dog", "a cat"])) == "a dog ¶ a cat"


def test_the_first_of_several_wordings_is_the_one_that_is_placed() -> None:
    text = Text(alternatives="pick")
    text.fit([["a dog", "the dog runs"], "a cat"])
    extent = text.extent(["", "a dog"])
    assert extent is not None
    assert extent[:2].tolist() == [5, 2]
    several = text.encode(["a dog ¶ a cat", "a dog"])
    assert (several == APART).sum() == 1, "only entries of the list are wordings of their own"
