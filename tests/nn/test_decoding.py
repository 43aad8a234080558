"""Generation against exhaustive search, and the decoder with its cache against the decoder without."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from sensorium.nn.decoding import Generated, Vocabulary, beam_search, drawn, normaliser, sample
from sensorium.nn.gru_decoder import GruDecoder
from sensorium.nn.word_decoder import DecoderInputs, WordDecoder

WORDS = Vocabulary(begin=0, end=4, never=(1,))


@dataclass(frozen=True)
class History:
    """A cache that is the tokens so far, of each sequence, and the row that it belongs to."""

    tokens: Tensor
    row: Tensor

    def widened(self, width: int) -> History:
        return History(self.tokens.repeat_interleave(width, dim=0), self.row.repeat_interleave(width))

    def reordered(self, order: Tensor) -> History:
        return History(self.tokens[order], self.row[order])


def language(rows: int, seed: int) -> tuple[History, list[dict[tuple[int, ...], Tensor]]]:
    """Random logits after every sequence of up to three tokens, by row."""
    draw = torch.Generator().manual_seed(seed)
    tables = [
        {some: 2 * torch.randn(5, generator=draw) for n in range(4) for some in product((2, 3), repeat=n)}
        for _ in range(rows)
    ]
    return History(torch.zeros(rows, 0, dtype=torch.long), torch.arange(rows)), tables


def stepping(tables: list[dict[tuple[int, ...], Tensor]]):  # type: ignore[no-untyped-def]
    def step(tokens: Tensor, cache: History) -> tuple[Tensor, History]:
        grown = torch.cat([cache.tokens, tokens[:, None]], dim=1)
        logits = [
            tables[row].get(tuple(t for t in some if t in (2, 3)), torch.zeros(5))
            for row, some in zip(cache.row.tolist(), grown.tolist(), strict=True)
        ]
        return torch.stack(logits), History(grown, cache.row)

    return step


def all_sequences(table: dict[tuple[int, ...], Tensor], penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence of up to three tokens with its score, best first."""
    scored = []
    for n in range(4):
        for some in product((2, 3), repeat=n):
            total = sum(float(table[some[:i]].log_softmax(0)[t]) for i, t in enumerate(some))
            total += float(table[some].log_softmax(0)[WORDS.end])
            scored.append((total / float(normaliser(n, penalty)), some))
    return sorted(scored, reverse=True)


def texts(result: Generated, row: int) -> list[tuple[int, ...]]:
    pairs = zip(result.tokens[row].tolist(), result.length[row].tolist(), strict=True)
    return [tuple(tokens[:length]) for tokens, length in pairs]


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_search_is_exhaustive(seed: int, penalty: float) -> None:
    cache, tables = language(3, seed)
    result = beam_search(stepping(tables), cache, 3, WORDS, longest=3, width=15, penalty=penalty)
    for row, table in enumerate(tables):
        wanted = all_sequences(table, penalty)
        assert texts(result, row) == [some for _, some in wanted]
        torch.testing.assert_close(result.score[row], torch.tensor([score for score, _ in wanted]), rtol=1e-4, atol=1e-4)


def test_a_row_is_searched_as_if_alone() -> None:
    cache, tables = language(4, 7)
    together = beam_search(stepping(tables), cache, 4, WORDS, longest=3, width=2)
    for row in range(4):
        alone, (table,) = History(cache.tokens[:1], torch.zeros(1, dtype=torch.long)), tables[row : row + 1]
        single = beam_search(stepping([table]), alone, 1, WORDS, longest=3, width=2)
        assert texts(single, 0) == texts(together, row)


def test_a_width_of_one_is_greedy() -> None:
    cache, tables = language(5, 1)
    result = beam_search(stepping(tables), cache, 5, WORDS, longest=3, width=1)
    for row, table in enumerate(tables):
        some: tuple[int, ...] = ()
        while len(some) < 3:
            best = max((2, 3, 4), key=lambda t, logits=table[some]: float(logits[t]))  # type: ignore[misc]
            if best == WORDS.end:
                break
            some = (*some, best)
        assert texts(result, row) == [some]


def test_no_sequence_is_shorter_than_the_least_length() -> None:
    cache, tables = language(3, 2)
    words = Vocabulary(begin=0, end=4, never=(1,), shortest=2)
    result = beam_search(stepping(tables), cache, 3, words, longest=3, width=12)
    drawn_ones = sample(stepping(tables), cache, 3, words, longest=3, draws=20)
    for row, table in enumerate(tables):
        assert texts(result, row) == [some for _, some in all_sequences(table, 1.0) if len(some) >= 2]
        assert min(map(len, texts(drawn_ones, row))) >= 2


def test_samples_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.1, 2.0, 1.0, -math.inf]]).expand(20_000, -1)
    chance = (torch.arange(20_000) + 0.5) / 20_000
    shares = torch.bincount(drawn(logits, 1.0, chance), minlength=4) / 20_000
    torch.testing.assert_close(shares, logits[0].softmax(0), atol=1e-3, rtol=0)
    nucleus = torch.bincount(drawn(logits, 0.7, chance), minlength=4)
    assert nucleus.nonzero()[:, 0].tolist() == [1, 2], "the fewest tokens that reach 0.7"
    assert drawn(logits[:1], 0.01, torch.tensor([0.99])).tolist() == [1]


def test_samples_depend_on_the_seed_and_not_on_the_batch() -> None:
    cache, tables = language(4, 2)

    def draws(rows: list[int], seed: int) -> list[list[tuple[int, ...]]]:
        some = History(cache.tokens[rows], torch.arange(len(rows)))
        result = sample(stepping([tables[i] for i in rows]), some, len(rows), WORDS, longest=3, draws=6, seed=seed)
        return [texts(result, i) for i in range(len(rows))]

    whole = draws([0, 1, 2, 3], 0)
    assert [draws([i], 0)[0] for i in range(4)] == whole
    assert draws([0, 1, 2, 3], 1) != whole


def inputs(rows: int, seed: int) -> DecoderInputs:
    draw = torch.Generator().manual_seed(seed)
    prefix_mask = torch.arange(3) < torch.randint(1, 4, (rows, 1), generator=draw)
    memory_mask = torch.arange(5) < torch.randint(0, 6, (rows, 1), generator=draw)
    prefix, memory = torch.randn(rows, 3, 16, generator=draw), torch.randn(rows, 5, 16, generator=draw)
    return DecoderInputs(prefix, prefix_mask, memory, memory_mask)


@pytest.fixture(params=[WordDecoder, GruDecoder], ids=["transformer", "gru"])
def part(request: pytest.FixtureRequest) -> WordDecoder | GruDecoder:
    torch.manual_seed(0)
    part: WordDecoder | GruDecoder = request.param(9, 16, depth=2, heads=2, dropout=0.1).eval()
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return part


def test_cached_steps_equal_the_full_sequence(part: Any) -> None:
    context = inputs(4, 0)
    tokens = torch.tensor([[2, 3, 4, 8], [5, 5, 8, 0], [8, 0, 0, 0], [7, 6, 5, 8]])
    with torch.no_grad():
        whole = part(context, tokens)
        cache = part.start(context)
        for t in range(4):
            before = torch.zeros(4, dtype=torch.long) if t == 0 else tokens[:, t - 1]
            logits, cache = part.step(before, cache)
            real = tokens[:, t] != 0
            torch.testing.assert_close(logits[real], whole[real, t], rtol=1e-4, atol=1e-4)


def test_copies_of_a_row_share_its_memory(part: Any) -> None:
    context = inputs(2, 1)
    with torch.no_grad():
        wide = part.start(context).widened(3)
        logits, wide = part.step(torch.tensor([0] * 6), wide)
        torch.testing.assert_close(logits.reshape(2, 3, -1), logits[::3, None].expand(-1, 3, -1))
        moved = wide.reordered(torch.tensor([2, 0, 1, 3, 3, 4]))
        again, _ = part.step(torch.tensor([3] * 6), moved)
    assert again.shape == (6, 9)


def test_neither_padding_nor_a_second_sentence_changes_the_first(part: Any) -> None:
    context = inputs(1, 2)
    with torch.no_grad():
        plain = part(context, torch.tensor([[2, 3, 8]]))
        more = part(context, torch.tensor([[2, 3, 8, 5, 6, 8, 0, 0]]))
        second = part(context, torch.tensor([[5, 6, 8]]))
    torch.testing.assert_close(more[:, :3], plain)
    torch.testing.assert_close(more[:, 3:6], second)
