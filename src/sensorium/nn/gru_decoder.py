"""Recurrent decoder that generates tokens from a memory and a prefix, with its states as the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.nn.attention import Attention
from sensorium.nn.word_decoder import DecoderInputs, sequences


@dataclass(frozen=True)
class GruCache:
    """The states of the layers after the tokens so far, and keys and values that copies of a row share.

    Args:
        states: ``[layers, R, D]``.
        memory: Keys and values ``[B, H, P + M, D / H]`` of the prefix and the memory.
        memory_mask: The valid ones ``[B, P + M]``.
        width: Number of sequences of each row: R = B · width.
    """

    states: Tensor
    memory: tuple[Tensor, Tensor]
    memory_mask: Tensor
    width: int = 1

    def widened(self, width: int) -> GruCache:
        """Return the cache with each sequence repeated ``width`` times."""
        return replace(self, states=self.states.repeat_interleave(width, dim=1), width=self.width * width)

    def reordered(self, order: Tensor) -> GruCache:
        """Return the cache of the sequences ``order`` ``[R]``."""
        return replace(self, states=self.states[:, order])


class GruDecoder(nn.Module):
    """Autoregressive GRU whose states attend to the prefix and the memory before each token is chosen.

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, § 3.1 (global attention), with multi-head attention.

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
        self.initial = nn.Linear(dim, depth * dim)
        self.gru = nn.GRU(dim, dim, num_layers=depth, batch_first=True, dropout=dropout if depth > 1 else 0.0)
        self.cross = Attention(dim, heads, dropout=dropout)
        self.joined = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)
        # The embedding is also the output layer: https://arxiv.org/abs/1608.05859
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def _embedded(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.drop(self.words(tokens) * self.dim**0.5)
        return embedded

    def _logits(self, x: Tensor, memory: tuple[Tensor, Tensor], memory_mask: Tensor) -> Tensor:
        """The logits after states ``x`` ``[R, N, D]``; R is a multiple of the rows of the memory."""
        seen = self.cross.attend(x.reshape(len(memory_mask), -1, self.dim), *memory, memory_mask).reshape(x.shape)
        mixed = self.drop(torch.tanh(self.joined(torch.cat([x, seen], dim=2))))
        return F.linear(self.norm(mixed), self.words.weight, self.bias)

    def forward(self, context: DecoderInputs, tokens: Tensor) -> Tensor:
        """Return the logits ``[B, N, V]`` of each of ``tokens``, given those before it in its sequence.

        Args:
            context: What is generated from.
            tokens: ``[B, N]``, padded with 0: one sequence, or several one after the other, each with its end token. Those
                of one row do not see each other.
        """
        rows, steps = tokens.shape
        if not tokens.numel():
            return self.bias.new_zeros(rows, steps, len(self.bias))
        number, place, before = sequences(tokens, self.end)
        # Each sequence becomes a row of its own, which starts from the state of its row.
        slots = int(number.max()) + 1, int(place.max()) + 1
        row = torch.arange(rows, device=tokens.device)[:, None]
        apart = tokens.new_zeros(rows, *slots).index_put((row, number, place), before)
        cache = self.start(context).widened(slots[0])
        states, _ = self.gru(self._embedded(apart.flatten(0, 1)), cache.states)
        states = states.reshape(rows, *slots, self.dim)[row, number, place]
        return self._logits(states, cache.memory, cache.memory_mask)

    def start(self, context: DecoderInputs) -> GruCache:
        """Return the cache before the first token, from the ``context``."""
        real = context.prefix_mask[..., None].to(context.prefix)
        summary = (context.prefix * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        states = torch.tanh(self.initial(summary)).reshape(len(summary), self.gru.num_layers, self.dim)
        memory = torch.cat([context.prefix, context.memory], dim=1)
        mask = torch.cat([context.prefix_mask, context.memory_mask], dim=1)
        return GruCache(states.transpose(0, 1).contiguous(), self.cross.project(memory), mask)

    def step(self, tokens: Tensor, cache: GruCache) -> tuple[Tensor, GruCache]:
        """Return the logits of the next token ``[R, V]`` after ``tokens`` ``[R]``, and ``cache`` with them included."""
        x, states = self.gru(self._embedded(tokens[:, None]), cache.states.contiguous())
        return self._logits(x, cache.memory, cache.memory_mask)[:, 0], replace(cache, states=states)
