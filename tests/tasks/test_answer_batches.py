"""Answers that are generated together are those of each row alone, on language models of several families."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sensorium.core.answer_batch import AnswerSettings
from sensorium.core.batch import Encoded
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Row
from sensorium.core.registry import build
from sensorium.nn import causal_lm
from sensorium.pretrained.answer_batch import similar_lengths
from sensorium.pretrained.chat_tokeniser import ChatTokeniser
from sensorium.pretrained.checkpoint import Checkpoint
from sensorium.pretrained.text_stream import TextStream
from sensorium.testing.checkpoints import SPEAKING, tiny

DIM = 8
ROWS = [("w1 w2 w3", 3), ("w4", 0), ("w1 w9 w8 w7 w6 w5 w4 w3 w2", 5), ("w7 w7", 1)]
SETTINGS = [
    AnswerSettings(most=14),
    AnswerSettings(most=9),
    AnswerSettings(drawing=(1.5, 0.9, 3)),
    AnswerSettings(most=12, greedy=True),
]


def made(kind: str) -> Any:
    reader = build("modalities", "messages")
    goal = Goal("answer", {"answer": reader}, {"question": reader}, {"photo": Row((0,))})
    torch.manual_seed(0)
    task = build("tasks", {"kind": "conversation", "lm": str(tiny(kind)), "longest": 10}, goal, DIM)
    return task.eval()


def output_of(task: Any, rows: list[tuple[str, int]]) -> Any:
    """The output of rows with a question and so many tokens of a picture."""
    reader = build("modalities", "messages")
    counts = torch.tensor([count for _, count in rows])
    real = torch.arange(max(1, int(counts.max()))) < counts[:, None]
    tokens = torch.stack([torch.randn(8, DIM, generator=torch.Generator().manual_seed(len(text))) for text, _ in rows])
    tokens = tokens[:, : real.shape[1]] * real[..., None]
    part = Encoded(tokens, real, tokens.mean(dim=1), real.any(dim=1))
    questions = reader.prepare(reader.collate([reader.encode(text) for text, _ in rows]))
    with torch.no_grad():
        return task(part, {"photo": part}, {"question": questions})


def alone(task: Any, i: int) -> list[Any]:
    *pieces, ended = task.stream_answer(output_of(task, [ROWS[i]]), SETTINGS[i])
    return ["".join(pieces), ended]


def together(task: Any, remove: int | None = None) -> list[list[Any]]:
    """The answers of all rows: the first begins, then two join it, then the last."""
    batch, answers, row_of = task.answer_batch(), [["", None] for _ in ROWS], dict[int, int]()

    def add(first: int, last: int) -> None:
        numbers = batch.add(output_of(task, ROWS[first:last]), SETTINGS[first:last])
        row_of.update(zip(numbers, range(first, last), strict=True))

    def advance(times: int) -> bool:
        pieces = [piece for _ in range(times) for piece in batch.advance()]
        for number, piece in pieces:
            if isinstance(piece, bool):
                answers[row_of[number]][1] = piece
            else:
                answers[row_of[number]][0] += piece
        return bool(pieces)

    add(0, 1)
    advance(3)
    add(1, 3)
    advance(2)
    add(3, 4)
    if remove is not None:
        batch.remove(next(number for number, row in row_of.items() if row == remove))
    advance(20)
    assert not advance(1)
    return answers


@pytest.mark.parametrize("kind", SPEAKING)
def test_joined_answers_are_those_of_each_row_alone(kind: str) -> None:
    task = made(kind)
    expected = [alone(task, i) for i in range(len(ROWS))]
    assert together(task) == expected
    others = together(task, remove=1)
    assert others[1][1] is None, "it was abandoned"
    assert [others[i] for i in (0, 2, 3)] == [expected[i] for i in (0, 2, 3)]


def test_caches_that_cannot_be_joined_advance_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    task = made("llama")
    joined = together(task)
    monkeypatch.setattr(causal_lm, "_JOINABLE", ())
    assert together(task) == joined


def test_joined_rows_share_a_pass_and_padding_leaves_with_the_longest() -> None:
    task = made("llama")
    passes: list[tuple[int, int]] = []
    task.lm.network.register_forward_hook(
        lambda network, args, kwargs, out: passes.append(tuple(kwargs["attention_mask"].shape)), with_kwargs=True
    )
    batch = task.answer_batch()
    long, short = ("w1 " * 60, 0), ("w2", 0)
    batch.add(output_of(task, [long, short]), [AnswerSettings(most=3), AnswerSettings(most=6)])
    while batch.advance():
        pass
    rows, lengths = zip(*passes, strict=True)
    # The two are read apart, since one is much longer, then go on together; the first token takes no pass of its own.
    assert rows == (1, 1, 2, 2, 1, 1, 1)
    assert lengths[4] < lengths[3] - 20


@pytest.mark.parametrize("window", [4, 40, 200])
def test_padding_of_sliding_windows_leaves_with_the_longest(window: int) -> None:
    """Else the caches of a server whose answers overlap would grow for ever. Within, at and beyond the window."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    lengths, layers = (60, 30), [DynamicSlidingWindowLayer(sliding_window=window), DynamicLayer()]
    states = torch.arange(60.0).expand(2, 1, 60)[..., None]
    for layer in layers:
        layer.update(states, states)
    mask = torch.arange(60) >= 60 - torch.tensor(lengths)[:, None]
    cache = causal_lm.LmCache(SimpleNamespace(layers=layers, reorder_cache=lambda rows: None), mask, torch.tensor(lengths))
    kept = cache.kept(torch.tensor([1]))
    assert kept.mask.shape == (1, 30)
    assert bool(kept.mask.all())
    for layer in layers:
        assert layer.get_seq_length() == 30
        size, offset = layer.get_mask_sizes(1)
        assert (size + offset, size) == (31, layer.keys.shape[2] + 1)
        assert torch.equal(layer.keys[0, 0, :, 0], torch.arange(60.0)[60 - layer.keys.shape[2] :])


def test_conversations_of_similar_length_are_read_together() -> None:
    assert similar_lengths([]) == []
    assert similar_lengths([12, 12, 12]) == [[0, 1, 2]]
    assert similar_lengths([20, 300, 310, 12, 28]) == [[2, 1], [4, 0, 3]]


def test_a_row_that_does_not_fit_is_refused_before_it_joins() -> None:
    task = made("gpt2")
    batch = task.answer_batch()
    with pytest.raises(ConfigError, match="more than fit"):
        batch.add(output_of(task, [("w1", 3), ("w2", 3)]), [AnswerSettings(most=2), AnswerSettings(most=4000)])
    assert batch.advance() == []


def test_a_pass_that_fails_begins_no_answer_and_those_in_progress_go_on() -> None:
    task = made("llama")
    expected = alone(task, 0)
    batch = task.answer_batch()
    (number,) = batch.add(output_of(task, ROWS[:1]), SETTINGS[:1])

    def fail(network: Any, args: Any, kwargs: Any) -> None:
        if kwargs["attention_mask"].shape[1] < 60:
            raise MemoryError("the second pass")

    handle = task.lm.network.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(MemoryError):  # the long one is read first, in a pass of its own
        batch.add(output_of(task, [("w1 " * 60, 0), ("w2", 0)]), [AnswerSettings(most=3)] * 2)
    handle.remove()
    pieces = [piece for _ in range(20) for piece in batch.advance()]
    assert {each for each, _ in pieces} == {number}
    *texts, ended = [piece for _, piece in pieces]
    assert ["".join(texts), ended] == expected


def test_text_of_tokens_is_that_of_all_together() -> None:
    """Of bytes, of which several are a letter, and of words with marks and blanks around them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made_here = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made_here.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made_here.decoder = decoders.ByteLevel()
    made_here.add_special_tokens([AddedToken("<|end|>", special=True)])

    words = ChatTokeniser(json.loads(made_here.to_str()), {"eos_token": "<|end|>"}, None, (), "bytes")
    for text in ("  hello, wörld  你好 🙂\n\n ok ", "", " ", "a", "🙂"):
        ids = words.typed(text)
        stream = TextStream(words)
        pieces = [*(stream.push(i) for i in ids), stream.finish()]
        assert "".join(pieces) == words.decode(ids) == text.strip()
        broken = TextStream(words)
        assert "".join([*(broken.push(i) for i in ids[:-1]), broken.finish()]) == words.decode(ids[:-1])
    spaced = ChatTokeniser.of(Checkpoint(str(tiny("llama"))))
    ids = [5, 6, 7, 3, 3, 8, 1, 9]
    stream = TextStream(spaced)
    assert "".join([*(stream.push(i) for i in ids), stream.finish()]) == spaced.decode(ids)
