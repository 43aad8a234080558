"""Transformer decoder that generates tokens from a memory and a prefix, with a cache of keys and values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Tensors
from sensorium.nn.attention import Attention
from sensorium.nn.mlp import Mlp
from sensorium.nn.positional_encoding import sinusoids


@dataclass(frozen=True)
class DecoderInputs(Tensors):
    """What the sequences of each row are generated from.

    Args:
        prefix: Vectors before the first token, which attend to each other ``[B, P, D]``.
        prefix_mask: The valid ones ``[B, P]``.
        memory: Vectors attended to in every layer ``[B, M, D]``.
        memory_mask: The valid ones ``[B, M]``; a row may have none.
    """

    prefix: Tensor
    prefix_mask: Tensor
    memory: Tensor
    memory_mask: Tensor


@dataclass(frozen=True)
class DecoderCache:
    """Keys and values of the tokens so far, by layer, and of the memory, which copies of a row share.

    Args:
        past: By layer, keys and values ``[R, H, T, D / H]`` of the prefix and the tokens.
        mask: The valid ones ``[R, T]``.
        memory: By layer, keys and values ``[B, H, M, D / H]`` of the memory.
        memory_mask: ``[B, M]``.
        width: Number of sequences of each row: R = B · width.
        place: Position of the next token.
    """

    past: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor
    memory: tuple[tuple[Tensor, Tensor], ...]
    memory_mask: Tensor
    width: int = 1
    place: int = 0

    def widened(self, width: int) -> DecoderCache:
        """Return the cache with each sequence repeated ``width`` times."""
        rows = torch.arange(self.mask.shape[0], device=self.mask.device).repeat_interleave(width)
        return replace(self.reordered(rows), width=self.width * width)

    def reordered(self, order: Tensor) -> DecoderCache:
        """Return the cache of the sequences ``order`` ``[R]``."""
        past = tuple((key[order], value[order]) for key, value in self.past)
        return replace(self, past=past, mask=self.mask[order])


class DecoderLayer(nn.Module):
    """Pre-norm decoder layer: self-attention, attention to the memory, perceptron.

    Source: https://arxiv.org/abs/1706.03762, § 3.1, with the order of https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.norm_self, self.norm_memory, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout=dropout)
        self.cross = Attention(dim, heads, dropout=dropout)
        self.mlp = Mlp(dim, 4 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        past: tuple[Tensor, Tensor] | None,
        seen: Tensor,
        memory: tuple[Tensor, Tensor],
        memory_mask: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs ``[R, N, D]`` and the keys and values of past and new tokens.

        Args:
            x: New tokens ``[R, N, D]``.
            past: Keys and values of earlier tokens.
            seen: Which tokens, earlier and new, each new one attends to ``[R, N, T + N]``.
            memory: Keys and values of the memory ``[B, H, M, D / H]``; R is a multiple of B, copies of a row side by side.
            memory_mask: ``[B, M]``.
        """
        normed = self.norm_self(x)
        key, value = self.attention.project(normed)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        x = x + self.drop(self.attention.attend(normed, key, value, seen))
        # Copies of a row are further queries to one memory, which so need not be copied.
        rows, dim = memory_mask.shape[0], x.shape[2]
        queries = self.norm_memory(x).reshape(rows, -1, dim)
        x = x + self.drop(self.cross.attend(queries, *memory, memory_mask)).reshape(x.shape)
        return x + self.drop(self.mlp(self.norm_mlp(x))), (key, value)

    def remembered(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values ``[B, H, M, D / H]`` of ``memory`` ``[B, M, D]``."""
        return self.cross.project(memory)


def sequences(tokens: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return, of each of ``tokens`` ``[B, N]``, the number of its sequence in the row, its place in the sequence, and the
    token before it there, 0 for the first; each ``[B, N]``.

    Args:
        tokens: One sequence a row, or several one after the other, padded with 0.
        end: The token that ends a sequence.
    """
    ends = (tokens == end).long()
    number = ends.cumsum(dim=1) - ends
    if not tokens.shape[1]:
        return number, number, tokens
    steps = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    first = F.pad(number, (1, 0), value=-1)[:, :-1] != number
    places = steps - torch.where(first, steps, 0).cummax(dim=1).values
    return number, places, F.pad(tokens, (1, 0))[:, :-1].masked_fill(first, 0)


class WordDecoder(nn.Module):
    """Autoregressive transformer decoder. Token 0 also stands before the first token of a sequence.

    Args:
        vocabulary: Number of tokens V; the last one ends a sequence.
        dim: Width D.
        depth: Number of layers.
        heads: Number of attention heads.
        dropout: Dropout rate.
    """

    def __init__(self, vocabulary: int, dim: int, *, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dim, self.end = dim, vocabulary - 1
        self.words = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.words.weight, std=dim**-0.5)
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)
        # The embedding is also the output layer: https://arxiv.org/abs/1608.05859
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    @property
    def _blocks(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def _embedded(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Embed ``tokens`` ``[R, N]`` at ``places`` ``[R, N]``."""
        table = sinusoids(int(places.max()) + 1 if places.numel() else 1, self.dim, self.words.weight)
        embedded: Tensor = self.drop(self.words(tokens) * self.dim**0.5 + table[places])
        return embedded

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.words.weight, self.bias)

    def forward(self, context: DecoderInputs, tokens: Tensor) -> Tensor:
        """Return the logits ``[B, N, V]`` of each of ``tokens``, given those before it in its sequence.

        Args:
            context: What is generated from.
            tokens: ``[B, N]``, padded with 0: one sequence, or several one after the other, each with its end token. Those
                of one row do not see each other.
        """
        real = tokens != 0
        number, places, before = sequences(tokens, self.end)
        steps = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        prefix = context.prefix.shape[1]
        x = torch.cat([context.prefix, self._embedded(before, places)], dim=1)
        same = (number[:, :, None] == number[:, None, :]) & (steps[:, :, None] >= steps[:, None, :]) & real[:, None, :]
        total = prefix + tokens.shape[1]
        seen = torch.zeros((tokens.shape[0], total, total), dtype=torch.bool, device=tokens.device)
        seen[:, :, :prefix] = context.prefix_mask[:, None, :]
        seen[:, prefix:, prefix:] = same
        for layer in self._blocks:
            x, _ = layer(x, None, seen, layer.remembered(context.memory), context.memory_mask)
        return self._logits(x[:, prefix:])

    def start(self, context: DecoderInputs) -> DecoderCache:
        """Return the cache after the prefix of ``context``, before the first token."""
        memory = tuple(layer.remembered(context.memory) for layer in self._blocks)
        x, past = context.prefix, []
        seen = context.prefix_mask[:, None, :].expand(-1, context.prefix.shape[1], -1)
        for layer, shared in zip(self._blocks, memory, strict=True):
            x, kept = layer(x, None, seen, shared, context.memory_mask)
            past.append(kept)
        return DecoderCache(tuple(past), context.prefix_mask, memory, context.memory_mask)

    def step(self, tokens: Tensor, cache: DecoderCache) -> tuple[Tensor, DecoderCache]:
        """Return the logits of the next token ``[R, V]`` after ``tokens`` ``[R]``, and ``cache`` with them included."""
        mask = F.pad(cache.mask, (0, 1), value=True)
        x = self._embedded(tokens[:, None], torch.full_like(tokens[:, None], cache.place))
        past = []
        for layer, before, memory in zip(self.layers, cache.past, cache.memory, strict=True):
            x, kept = layer(x, before, mask[:, None, :], memory, cache.memory_mask)
            past.append(kept)
        return self._logits(x)[:, 0], replace(cache, past=tuple(past), mask=mask, place=cache.place + 1)
