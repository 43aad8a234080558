"""Generation of token sequences one token at a time: greedy, beam search and sampling, for any cached step function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor


class Cache(Protocol):
    """What a step function remembers of the tokens so far, for several sequences."""

    def widened(self, width: int) -> Self:
        """Return the cache with each sequence repeated ``width`` times, copies of one sequence side by side."""

    def reordered(self, order: Tensor) -> Self:
        """Return the cache of the sequences ``order`` ``[R]``, which are copies of the same row as those they replace."""


C = TypeVar("C", bound=Cache)


class Step(Protocol[C]):
    """One step of a language model or decoder."""

    def __call__(self, tokens: Tensor, cache: C) -> tuple[Tensor, C]:
        """Return the logits of the next token ``[R, V]`` after ``tokens`` ``[R]``, and the cache that includes them."""


@dataclass(frozen=True)
class Vocabulary:
    """The special tokens of a decoder.

    Args:
        begin: The token before the first.
        end: The token after the last.
        never: Tokens that are never generated (padding, unknown).
        shortest: Least number of tokens before the end.
    """

    begin: int
    end: int
    never: tuple[int, ...] = ()
    shortest: int = 0


@dataclass(frozen=True)
class Generated:
    """Generated sequences of each row, best first.

    Args:
        tokens: ``[B, K, L]`` without the end token; ``length`` ``[B, K]`` of them count, the rest is ``begin``.
        length: Number of tokens ``[B, K]``.
        log_probability: The summed log probability of the tokens and the end ``[B, K]``; -inf where fewer than K sequences
            were found.
        score: What they are ordered by ``[B, K]``: ``log_probability`` divided by a power of the length.
    """

    tokens: Tensor
    length: Tensor
    log_probability: Tensor
    score: Tensor


def normaliser(length: Tensor | int, penalty: float) -> Tensor:
    """Return the divisor of a log probability, ``(length + 1) ** penalty``, counting the end token.

    With a ``penalty`` of 0 short sequences are favoured, with 1 the mean log probability of a token decides.
    Source: https://arxiv.org/abs/1609.08144, § 7, without its offset.
    """
    return (torch.as_tensor(length, dtype=torch.float32) + 1.0) ** penalty


def log_probabilities(logits: Tensor, vocabulary: Vocabulary, *, length: int, last: bool) -> Tensor:
    """Return log probabilities ``[R, V]`` float32 of the next token; -inf for tokens that must not follow.

    Args:
        logits: ``[R, V]``.
        vocabulary: The special tokens.
        length: Number of tokens so far.
        last: Whether the longest sequence is reached, so that only the end may follow.
    """
    logs = logits.float().log_softmax(dim=-1)
    if last:
        only = torch.full_like(logs, -math.inf)
        only[:, vocabulary.end] = logs[:, vocabulary.end]
        return only
    barred = (vocabulary.end,) if length < vocabulary.shortest else ()
    logs[:, [vocabulary.begin, *vocabulary.never, *barred]] = -math.inf
    return logs


@torch.no_grad()
def beam_search(
    step: Step[C],
    cache: C,
    rows: int,
    vocabulary: Vocabulary,
    *,
    longest: int,
    width: int = 3,
    penalty: float = 1.0,
    device: torch.device | str = "cpu",
) -> Generated:
    """Search for the most probable sequences of each row; with a width of 1 this is greedy decoding.

    The ``width`` best unfinished sequences are extended at each step. Those that end among the best are kept aside, and a
    row is done when no unfinished one can score better than the ones kept. Rows do not influence each other.

    Args:
        step: The step function.
        cache: What it knows before the first token, of ``rows`` sequences.
        rows: Number of rows B.
        vocabulary: The special tokens.
        longest: Maximum number of tokens, without the end; longer sequences are made to end there.
        width: Number of sequences K.
        penalty: Exponent of the length (``normaliser``).
        device: Where the tokens are.
    """
    at = torch.arange(rows, device=device)[:, None] * width
    cache = cache.widened(width)
    tokens = torch.full((rows, width, longest), vocabulary.begin, device=device)
    live = torch.full((rows, width), -math.inf, device=device)
    live[:, 0] = 0.0  # all copies are alike at first: only one of them counts
    word = torch.full((rows * width,), vocabulary.begin, device=device)
    kept = Generated(
        tokens.clone(),
        torch.zeros((rows, width), dtype=torch.long, device=device),
        torch.full((rows, width), -math.inf, device=device),
        torch.full((rows, width), -math.inf, device=device),
    )
    done = torch.zeros(rows, dtype=torch.bool, device=device)
    for t in range(longest + 1):
        logits, cache = step(word, cache)
        each = log_probabilities(logits, vocabulary, length=t, last=t == longest).reshape(rows, width, -1)
        size = each.shape[2]
        # Twice as many as are needed: at most one continuation of each sequence is its end.
        total, index = (live[..., None] + each).flatten(1).topk(min(2 * width, width * size), dim=1)
        origin, chosen = index // size, index % size
        ends = chosen == vocabulary.end
        ranked = torch.arange(total.shape[1], device=device) < width
        finished = torch.where(ends & ranked & ~done[:, None], total, -math.inf)
        kept = _with(kept, tokens.gather(1, _wide(origin, longest)), t, finished, penalty)
        total = total.masked_fill(ends, -math.inf)
        live, best = total.topk(width, dim=1)
        origin, chosen = origin.gather(1, best), chosen.gather(1, best)
        full = kept.score[:, -1] > -math.inf
        if width == 1 or penalty <= 0:
            reachable = live[:, 0]
        else:
            reachable = live[:, 0] / normaliser(longest, penalty).to(live)
        done = done | (full & ((width == 1) | (kept.score[:, -1] >= reachable))) | ~(live[:, 0] > -math.inf)
        if t == longest or bool(done.all()):
            break
        tokens = tokens.gather(1, _wide(origin, longest))
        tokens[:, :, t] = chosen
        word = chosen.flatten()
        cache = cache.reordered((origin + at).flatten())
    return kept


def _wide(index: Tensor, length: int) -> Tensor:
    return index[..., None].expand(*index.shape, length)


def _with(kept: Generated, tokens: Tensor, length: int, total: Tensor, penalty: float) -> Generated:
    """The best of ``kept`` and of sequences of ``length`` that have just ended with log probabilities ``total``."""
    width = kept.score.shape[1]
    score = total / normaliser(length, penalty).to(total)
    every = torch.cat([kept.score, score], dim=1)
    best = every.argsort(dim=1, descending=True, stable=True)[:, :width]
    lengths = torch.cat([kept.length, torch.full_like(total, length, dtype=torch.long)], dim=1)
    return Generated(
        torch.cat([kept.tokens, tokens], dim=1).gather(1, _wide(best, tokens.shape[2])),
        lengths.gather(1, best),
        torch.cat([kept.log_probability, total], dim=1).gather(1, best),
        every.gather(1, best),
    )


@torch.no_grad()
def sample(
    step: Step[C],
    cache: C,
    rows: int,
    vocabulary: Vocabulary,
    *,
    longest: int,
    draws: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Generated:
    """Draw sequences of each row at random, in the order in which they were drawn.

    The random numbers depend on the seed, the draw and the step alone, so a row gets the same answer in any batch.
    Source: nucleus sampling, https://arxiv.org/abs/1904.09751.

    Args:
        step: The step function.
        cache: What it knows before the first token, of ``rows`` sequences.
        rows: Number of rows B.
        vocabulary: The special tokens.
        longest: Maximum number of tokens, without the end.
        draws: Number of sequences K of each row.
        temperature: Below 1 probable tokens become more probable, above 1 less.
        top_p: Only the most probable tokens that together have this probability are drawn.
        seed: Seed of the draws.
        device: Where the tokens are.
    """
    chance = draws_by_step(seed, longest, draws).to(device)
    cache = cache.widened(draws)
    tokens = torch.full((rows, draws, longest), vocabulary.begin, device=device)
    word = torch.full((rows * draws,), vocabulary.begin, device=device)
    total = torch.zeros((rows, draws), device=device)
    length = torch.full((rows, draws), longest, device=device)
    over = torch.zeros((rows, draws), dtype=torch.bool, device=device)
    for t in range(longest + 1):
        logits, cache = step(word, cache)
        each = log_probabilities(logits, vocabulary, length=t, last=t == longest)
        chosen = drawn(each / temperature, top_p, chance[t].repeat(rows)).reshape(rows, draws)
        gained = each.reshape(rows, draws, -1).gather(2, chosen[..., None])[..., 0]
        total = torch.where(over, total, total + gained)
        ends = ~over & (chosen == vocabulary.end)
        length = torch.where(ends, t, length)
        over = over | ends
        if bool(over.all()):
            break
        chosen = chosen.masked_fill(over, vocabulary.begin)
        tokens[:, :, t] = chosen
        word = chosen.flatten()
    return Generated(tokens, length, total, total)


def draws_by_step(seed: int, longest: int, draws: int) -> Tensor:
    """Return the random numbers of ``sample`` with this ``seed``, for each step and draw: ``[longest + 1, draws]`` float64,
    from 0 to below 1.

    Args:
        seed: Seed of the draws.
        longest: Maximum number of tokens, without the end.
        draws: Number of sequences of each row.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((longest + 1, draws), generator=generator, dtype=torch.float64)


def drawn(logits: Tensor, top_p: float | Tensor, chance: Tensor) -> Tensor:
    """Return one token ``[R]`` of each row by inverting the distribution function at ``chance`` ``[R]``.

    Args:
        logits: ``[R, V]``; -inf is never drawn.
        top_p: Probability of the tokens to choose from, the most probable first; of each row ``[R, 1]``, or of all.
        chance: Numbers from 0 to below 1.
    """
    share, order = logits.double().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    upto = share.cumsum(dim=-1)
    # The first token that reaches top_p still belongs to them.
    share = share.masked_fill(upto - share >= top_p, 0.0)
    upto = share.cumsum(dim=-1)
    place = torch.searchsorted(upto, (chance * upto[:, -1])[:, None], right=True)
    return order.gather(1, place.clamp(max=logits.shape[1] - 1))[:, 0]
