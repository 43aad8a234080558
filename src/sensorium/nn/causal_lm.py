"""A causal language model that reads words and vectors of other streams in one sequence, with its own cache."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

Side = Literal["left", "right"]


@dataclass(frozen=True)
class PaddedSequences:
    """Sequences of some rows, padded on one side.

    Args:
        ids: ``[B, T]``. From the size of the vocabulary on they are places of vectors, and never looked up.
        mask: Which are real ``[B, T]``.
        learnt: Which are learnt ``[B, T]``; by place, since the token that pads may be the one that ends.
    """

    ids: Tensor
    mask: Tensor
    learnt: Tensor

    @property
    def places(self) -> Tensor:
        """The position of each token in its row ``[B, T]``; 0 where padded."""
        return (self.mask.long().cumsum(dim=1) - 1).clamp(min=0)

    def part(self, rows: Sequence[int]) -> PaddedSequences:
        """Return the sequences ``rows``, which are padded on the left, without columns that pad all of them."""
        chosen = list(rows)
        longest = int(self.mask[chosen].sum(dim=1).max())
        at = self.ids.shape[1] - longest
        return PaddedSequences(self.ids[chosen, at:], self.mask[chosen, at:], self.learnt[chosen, at:])


def pad_sequences(
    rows: Sequence[Sequence[int]], learnt: Sequence[Sequence[bool]], device: torch.device, side: Side = "left"
) -> PaddedSequences:
    """Return ``rows`` of token ids, padded on one ``side``, on ``device``; ``learnt`` as in ``PaddedSequences``."""
    longest = max(map(len, rows), default=0)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask, known = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    for i, (row, own) in enumerate(zip(rows, learnt, strict=True)):
        at = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        ids[i, at], mask[i, at], known[i, at] = torch.tensor(row, dtype=torch.long), True, torch.tensor(own)
    return PaddedSequences(ids.to(device), mask.to(device), known.to(device))


def embedded(
    embedding: nn.Module, rows: int, sequences: PaddedSequences, media: Mapping[int, tuple[Tensor, Tensor]]
) -> Tensor:
    """Return the inputs of the language model ``[B, T, H]``: word embeddings, and ``media`` at their places.

    Args:
        embedding: The layer of words.
        rows: The number of words, and the id of the first place that is none.
        sequences: The sequences.
        media: By id, vectors ``[B, N, H]`` and which are real ``[B, N]``; the id occurs as often in a row as it has real
            ones, or not at all.
    """
    vectors: Tensor = embedding(sequences.ids.masked_fill(sequences.ids >= rows, 0))
    for place, (tokens, real) in media.items():
        at_place = sequences.ids == place
        wanted = real & at_place.any(dim=1, keepdim=True)
        vectors = vectors.index_put(at_place.nonzero(as_tuple=True), tokens[wanted].to(vectors.dtype))
        # A batch of words alone has gradients too: of zero.
        vectors = vectors + (tokens.flatten()[:1] * 0).to(vectors.dtype).sum()
    return vectors


def takes_places(network: nn.Module) -> bool:
    """Whether ``network`` takes positions; networks that encode only distances do not."""
    return "position_ids" in inspect.signature(network.forward).parameters


def logits_at(network: nn.Module, vectors: Tensor, sequences: PaddedSequences) -> tuple[Tensor, Tensor]:
    """Return the logits before each learnt token ``[n, V]`` float32 and those tokens ``[n]``, row by row.

    Args:
        network: The language model.
        vectors: ``[B, T, H]``.
        sequences: The sequences; the first token of a row is not learnt.
    """
    columns = sequences.learnt.any(dim=0).nonzero().squeeze(1)
    columns = columns[columns > 0]
    places = {"position_ids": sequences.places} if takes_places(network) else {}
    out: Any = network(
        inputs_embeds=vectors, attention_mask=sequences.mask.long(), use_cache=False, logits_to_keep=columns - 1, **places
    )
    learnt = sequences.learnt[:, columns]
    return out.logits[learnt].float(), sequences.ids[:, columns][learnt]


_JOINABLE = ("DynamicLayer", "DynamicSlidingWindowLayer")
"""The layers of a cache of transformers that hold keys and values alone, whose last columns are of the last tokens."""


def _widened(states: Tensor, width: int) -> Tensor:
    """Keys or values ``[R, heads, T, D]`` with columns of zeros on the left: ``[R, heads, width, D]``."""
    return nn.functional.pad(states, (0, 0, width - states.shape[2], 0))


@dataclass(frozen=True)
class LmCache:
    """The state of a language model after the sequences so far.

    Args:
        held: Keys and values, as transformers holds them; changed in place.
        mask: The real tokens ``[R, T]``.
        place: The position of the next token ``[R]``.
        ahead: The logits of the first token ``[R, V]``, until they are read.
    """

    held: Any
    mask: Tensor
    place: Tensor
    ahead: Tensor | None = None

    def widened(self, width: int) -> LmCache:
        """Return the cache with each sequence repeated ``width`` times, copies of one side by side."""
        if width == 1:
            return self
        self.held.batch_repeat_interleave(width)
        ahead = None if self.ahead is None else self.ahead.repeat_interleave(width, dim=0)
        mask, place = self.mask.repeat_interleave(width, dim=0), self.place.repeat_interleave(width)
        return LmCache(self.held, mask, place, ahead)

    def reordered(self, order: Tensor) -> LmCache:
        """Return the cache of the sequences ``order`` ``[R]``."""
        if bool((order == torch.arange(len(order), device=order.device)).all()):
            return self
        self.held.reorder_cache(order)
        return replace(self, mask=self.mask[order], place=self.place[order])

    @property
    def joinable(self) -> bool:
        """Whether it can be joined with others: it holds keys and values alone, of all tokens or of the last ones. Before
        the first token it cannot."""
        layers = getattr(self.held, "layers", ())
        return self.ahead is None and len(layers) > 0 and all(type(layer).__name__ in _JOINABLE for layer in layers)

    def kept(self, rows: Tensor) -> LmCache:
        """Return the cache of the sequences ``rows`` alone."""
        self.held.reorder_cache(rows)
        ahead = None if self.ahead is None else self.ahead[rows]
        return LmCache(self.held, self.mask[rows], self.place[rows], ahead)._trimmed()

    @classmethod
    def joined(cls, caches: Sequence[LmCache]) -> LmCache:
        """Return one cache of all sequences of ``caches``, which are joinable: shorter ones are padded on the left."""
        longest = max(cache.mask.shape[1] for cache in caches)
        first, *_ = caches
        for layers in zip(*(cache.held.layers for cache in caches), strict=True):
            real = [layer for layer in layers if layer.is_initialized]  # a layer may share those of another
            if not real:
                continue
            width = max(layer.keys.shape[2] for layer in real)
            layers[0].keys = torch.cat([_widened(layer.keys, width) for layer in real])
            layers[0].values = torch.cat([_widened(layer.values, width) for layer in real])
            if hasattr(layers[0], "cumulative_length"):
                layers[0].cumulative_length = max(layer.cumulative_length for layer in real)
        masks = [nn.functional.pad(cache.mask, (longest - cache.mask.shape[1], 0)) for cache in caches]
        return cls(first.held, torch.cat(masks), torch.cat([cache.place for cache in caches]))

    def _trimmed(self) -> LmCache:
        """The cache without the columns that pad all sequences."""
        padded = int((self.mask.cumsum(dim=1) == 0).all(dim=0).sum())
        layers = getattr(self.held, "layers", ())
        if not padded or not layers or any(type(layer).__name__ not in _JOINABLE for layer in layers):
            return self
        for layer in layers:
            if not layer.is_initialized:
                continue
            if hasattr(layer, "cumulative_length"):  # of a sliding window: it holds the last columns alone
                layer.cumulative_length -= padded
                padding = max(0, layer.keys.shape[2] - layer.cumulative_length)
            else:
                padding = padded
            layer.keys, layer.values = layer.keys[:, :, padding:], layer.values[:, :, padding:]
        return replace(self, mask=self.mask[:, padded:])


class LmStep:
    """One step of a language model, for ``nn.decoding``; ids from the vocabulary's size on are the token before the first.

    Args:
        network: The language model.
        ends: Tokens that end a text; their probabilities are added up on the first of them.
    """

    def __init__(self, network: nn.Module, ends: Sequence[int]) -> None:
        self.network, self.ends = network, tuple(ends)
        self._places = takes_places(network)
        # Named anew in transformers 5.24.
        self._cache = "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"

    def start(self, vectors: Tensor, sequences: PaddedSequences) -> LmCache:
        """Return the cache after the sequences ``sequences``, padded on the left, whose ``vectors`` are ``[B, T, H]``."""
        places = {"position_ids": sequences.places} if self._places else {}
        # The last column by its index: a slice of it would not be contiguous, and the product with the words' weights then
        # repeats them for each row (32 rows of SmolLM2: 3 GB).
        last = torch.tensor([vectors.shape[1] - 1], device=vectors.device)
        out: Any = self.network(
            inputs_embeds=vectors, attention_mask=sequences.mask.long(), use_cache=True, logits_to_keep=last, **places
        )
        return LmCache(out[self._cache], sequences.mask, sequences.mask.long().sum(dim=1), self._ended(out.logits[:, -1]))

    def __call__(self, tokens: Tensor, cache: LmCache) -> tuple[Tensor, LmCache]:
        """Return the logits of the next token ``[R, V + 1]`` after ``tokens`` ``[R]``, and the cache with them."""
        if cache.ahead is not None:
            return cache.ahead, replace(cache, ahead=None)
        mask = torch.cat([cache.mask, torch.ones_like(cache.mask[:, :1])], dim=1)
        places = {"position_ids": cache.place[:, None]} if self._places else {}
        # A finished sequence continues with its end token; its output is not read.
        rows = int(self.network.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        words = torch.where(tokens >= rows, self.ends[0], tokens)
        held = {self._cache: cache.held}
        out: Any = self.network(input_ids=words[:, None], attention_mask=mask.long(), use_cache=True, **held, **places)
        return self._ended(out.logits[:, -1]), LmCache(out[self._cache], mask, cache.place + 1)

    def _ended(self, logits: Tensor) -> Tensor:
        """Logits of which the first end token stands for all, and one more that is never the next."""
        logits = logits.float()
        if len(self.ends) > 1:
            several = list(self.ends)
            total = logits[:, several].logsumexp(dim=1)
            logits = logits.clone()
            logits[:, several] = -torch.inf
            logits[:, self.ends[0]] = total
        return torch.nn.functional.pad(logits, (0, 1), value=-torch.inf)
