"""Word vectors in a model; padding without packing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sensorium.core.batch import Field
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Ids
from sensorium.encoders.word_vectors import WordVectors
from sensorium.nn.recurrent import Layer

torch.set_num_threads(1)

LAYOUT = Ids(6, 4, ("", "", "cat", "dog", "", "cow"))
FIELD = Field(torch.tensor([[2, 3, 0, 0], [2, 5, 4, 1]]), torch.ones(2).bool())


def test_loaded_vectors_and_the_share_of_unknown_words(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("cat 1 0 1\ncow 0 2 0\n", encoding="utf-8")
    encoder = WordVectors(LAYOUT, width=3, vectors=str(path))
    encoder.fit([FIELD])
    path.unlink()  # never needed again
    assert float(encoder.unknown) == pytest.approx(3 / 6)  # dog, a part of a word and the unknown one
    table = encoder.table.weight
    assert torch.allclose(table[2] / table[2, 0], torch.tensor([1.0, 0.0, 1.0]))
    assert torch.allclose(table[5, 1] / table[2, 0], torch.tensor(2.0))
    assert not table[[0, 1, 3, 4]].any()
    again = WordVectors(LAYOUT, width=3, vectors=str(path))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(FIELD.data).pooled, encoder.eval()(FIELD.data).pooled)


def test_a_file_needs_words() -> None:
    with pytest.raises(ConfigError, match="no words"):
        WordVectors(Ids(6, 4), vectors="any.txt").fit([FIELD])


def test_learnt_vectors() -> None:
    pytest.importorskip("gensim")
    encoder = WordVectors(LAYOUT, width=8)
    encoder.fit([FIELD])
    assert encoder.table.weight[2].any()
    assert float(encoder.unknown) == pytest.approx(4 / 6)  # all but the cat come once
    encoder.fit([])
    assert not encoder.table.weight.any()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_layer_is_torchs_on_packed_sequences(cell: str) -> None:
    layer = Layer(cell, 5, 8, bidirectional=True)  # type: ignore[arg-type]
    theirs = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[cell](5, 4, batch_first=True, bidirectional=True)
    ways = [way.state_dict() for way in layer.ways]
    theirs.load_state_dict(ways[0] | {f"{name}_reverse": value for name, value in ways[1].items()})
    steps, lengths = torch.randn(4, 7, 5), torch.tensor([7, 2, 1, 5])
    packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    assert torch.allclose(layer(steps, torch.arange(7) < lengths[:, None]), expected, atol=1e-6)
