"""Bag of words and word groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Ids
from sensorium.core.registry import component
from sensorium.nn.ngrams import groups


@component
class BagOfWords(Encoder):
    """A bag of words and n-grams: learned, weighted embeddings, averaged over the text.

    Use it rather than ``tfidf`` where the vocabulary is small (questions, commands), and rather than ``transformer`` for
    a few thousand texts at most: it learns in one or two epochs. The tokens are the words; the vector is the weighted
    mean of words and n-grams.
    Source: fastText, https://arxiv.org/abs/1607.01759, with hashed n-grams as there, § 2.3.

    Args:
        dim: Width of the tokens and of the vector.
        ngrams: Longest n-gram; 1: single words only.
        buckets: Rows of the table that n-grams are hashed into.
        width: Width of the tables; small ones memorise less.
        drop: Share of words and n-grams dropped from the bag in training.
        dropout: Share of the bag's features dropped in training.
        norm: Whether to standardise the bag's features over the batch (batch normalisation). The bags of "is it red?" and
            "is it blue?" are nearly the same; this amplifies their difference. On long free texts it amplifies noise.
    """

    reads = (Ids,)

    def __init__(
        self,
        layout: Ids,
        *,
        dim: int = 128,
        ngrams: int = 2,
        buckets: int = 32768,
        width: int = 16,
        drop: float = 0.3,
        dropout: float = 0.3,
        norm: bool = False,
    ) -> None:
        super().__init__()
        if ngrams < 1 or buckets < 1 or not 0 <= drop < 1:
            raise ConfigError("bag: ngrams and buckets are 1 or more, and drop is from 0 to below 1")
        self.dim, self.ngrams, self.buckets, self.share = dim, ngrams, buckets, drop
        self.words = nn.Embedding(layout.vocabulary, width)
        nn.init.normal_(self.words.weight, std=0.03)
        self.groups = nn.Embedding(buckets, width) if ngrams > 1 else None
        # The logarithm of how much each word and group counts.
        self.word_weight = nn.Embedding(layout.vocabulary, 1)
        self.group_weight = nn.Embedding(buckets, 1) if ngrams > 1 else None
        nn.init.zeros_(self.word_weight.weight)
        if self.groups is not None and self.group_weight is not None:
            # Most groups of a new text were never seen: they must say nothing, not something random.
            nn.init.zeros_(self.groups.weight)
            nn.init.zeros_(self.group_weight.weight)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.project = nn.Linear(width, dim)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, N]`` ids, ``mask`` ``[B, N]``; tokens ``[B, N, D]``."""
        real = data != 0 if mask is None else mask
        words = zeroed(self.words(data), real)
        vectors, weights, masks = [words], [self.word_weight(data)], [real]
        if self.groups is not None and self.group_weight is not None:
            for bucket, whole in groups(data, real, self.ngrams, self.buckets):
                vectors.append(self.groups(bucket))
                weights.append(self.group_weight(bucket))
                masks.append(whole)
        inside = torch.cat(masks, dim=1)
        if self.training and self.share:
            inside = inside & (torch.rand(inside.shape, device=inside.device) >= self.share)
        weight = zeroed(torch.cat(weights, dim=1).exp(), inside)  # [B, words and groups, 1]
        total = weight.sum(dim=1).clamp(min=1e-6)
        bag = (torch.cat(vectors, dim=1) * weight).sum(dim=1) / total
        tokens = zeroed(self.project(words), real)
        pooled = self.project(self.drop(self._standard(bag)))
        return Encoded(tokens, real, pooled, real.new_ones(real.shape[0]), (tokens.shape[1],))

    def _standard(self, bag: Tensor) -> Tensor:
        if self.training and bag.shape[0] == 1 and isinstance(self.norm, nn.BatchNorm1d):
            # One row has no spread of its own: it is measured by what was seen before.
            norm = self.norm
            return F.batch_norm(bag, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        standard: Tensor = self.norm(bag)
        return standard
