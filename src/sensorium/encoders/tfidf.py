"""TF-IDF."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, Field, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Ids
from sensorium.core.registry import component
from sensorium.nn.ngrams import groups
from sensorium.nn.randomized_svd import principal
from sensorium.signal.running_moments import subsampled

_BATCHES = 80


@component
class Tfidf(Encoder):
    """TF-IDF of words and n-grams, reduced by truncated SVD (latent semantic analysis).

    Vocabulary, weights and directions are fitted to the training texts without their targets, before training; only a
    small linear layer is trained, which limits memorisation. Use it for free texts in tables below about 20,000 rows; its
    adapter works best without norm, which is the default. A token is the vector of its word alone.
    Source: term weights, https://doi.org/10.1016/0306-4573(88)90021-0, smoothed as in scikit-learn's ``TfidfVectorizer``;
    latent semantic analysis, https://doi.org/10.1002/(SICI)1097-4571(199009)41:6%3C391::AID-ASI1%3E3.0.CO;2-9.

    Args:
        dim: Width of the tokens and of the vector.
        ngrams: Longest n-gram; 1: single words only.
        features: Maximum number of words and n-grams, those in most texts; each occurs in at least two texts.
        buckets: Number of hash buckets of n-grams.
        rank: Directions of the SVD that are kept.
        sublinear: Whether term counts are damped: 1 + log n in place of n.
        dropout: Share of the directions dropped in training.
    """

    reads = (Ids,)

    def __init__(
        self,
        layout: Ids,
        *,
        dim: int = 128,
        ngrams: int = 2,
        features: int = 8192,
        buckets: int = 65536,
        rank: int = 256,
        sublinear: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if min(ngrams, features, buckets, rank) < 1:
            raise ConfigError("tfidf: ngrams, features, buckets and rank are 1 or more")
        self.dim, self.ngrams, self.features, self.buckets = dim, ngrams, features, buckets
        self.vocabulary, self.sublinear = layout.vocabulary, sublinear
        # Until it has learnt: every word and group hashed into the features, each in a direction of chance.
        terms = layout.vocabulary + (buckets if ngrams > 1 else 0)
        self.slot: Tensor
        self.idf: Tensor
        self.directions: Tensor
        self.register_buffer("slot", 1 + torch.arange(terms, dtype=torch.int32) % features)
        self.register_buffer("idf", torch.ones(features + 1))
        self.register_buffer("directions", torch.randn(features + 1, rank))
        self.drop = nn.Dropout(dropout)
        self.project = nn.Linear(rank, dim)

    @torch.no_grad()
    def fit(self, fields: Iterable[Field]) -> None:
        """Fit document frequencies to all rows, and the directions to at most 80 evenly spaced batches."""
        frequency = torch.zeros(len(self.slot), dtype=torch.int64)
        rows = 0

        def counted() -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal rows, frequency
            for field in fields:
                real = field.data != 0 if field.mask is None else field.mask
                terms = self._terms(field.data, real).sort(dim=1).values
                first = F.pad(terms[:, 1:] != terms[:, :-1], (1, 0), value=True)
                frequency = frequency + torch.bincount(terms[first], minlength=len(frequency))
                rows += len(terms)
                yield field.data, real

        kept = subsampled(counted(), _BATCHES)
        frequency[0] = 0
        best = frequency.argsort(descending=True, stable=True)[: self.features]
        best = best[frequency[best] >= 2]
        self.slot.zero_()
        self.slot[best] = torch.arange(1, len(best) + 1, dtype=torch.int32)
        self.idf.fill_(1.0)
        self.idf[1 : len(best) + 1] = ((1 + rows) / (1 + frequency[best])).log() + 1
        self.directions.zero_()
        if kept and len(best):
            texts = torch.cat([self._weights(data, real).to_sparse() for data, real in kept]).coalesce()
            directions = principal(texts, self.directions.shape[1])  # [F, at most rank]
            # Features of size 1 on average; the directions keep their ratios, or noise would be as loud as they.
            size = torch.sparse.mm(texts, directions).square().sum(dim=1).mean().sqrt().clamp(min=1e-6)
            self.directions[:, : directions.shape[1]] = directions * (math.sqrt(self.directions.shape[1]) / size)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, N]`` ids, ``mask`` ``[B, N]``; tokens ``[B, N, D]``."""
        real = data != 0 if mask is None else mask
        pooled = self.project(self.drop(self._weights(data, real) @ self.directions))
        alone = self.directions[self.slot[data.masked_fill(~real, 0)].long()]
        tokens = zeroed(self.project(alone), real)
        return Encoded(tokens, real, pooled, real.new_ones(real.shape[0]), (tokens.shape[1],))

    def _terms(self, data: Tensor, real: Tensor) -> Tensor:
        """The ids of all words and n-grams of each text, ``[B, words and n-grams]``; 0 for padding."""
        terms = [data.masked_fill(~real, 0)]
        if self.ngrams > 1:
            for bucket, whole in groups(data, real, self.ngrams, self.buckets):
                terms.append((bucket + self.vocabulary).masked_fill(~whole, 0))
        return torch.cat(terms, dim=1)

    def _weights(self, data: Tensor, real: Tensor) -> Tensor:
        """TF-IDF ``[B, features + 1]`` of unit length; slot 0, for terms that are no feature, is zero."""
        terms = self._terms(data, real)
        slots = self.slot[terms].long().masked_fill(terms == 0, 0)
        count = torch.zeros(len(data), self.features + 1, device=data.device)
        count.scatter_add_(1, slots, torch.ones_like(slots, dtype=count.dtype))
        count[:, 0] = 0.0
        if self.sublinear:
            count = torch.where(count > 0, 1 + count.clamp(min=1).log(), 0.0)
        return F.normalize(count * self.idf)
