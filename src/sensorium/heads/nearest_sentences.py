"""Sentences of training rows by the vector of the row: what answering with the most similar known row gives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.learned_buffers import LearnedBuffers


class NearestSentences(LearnedBuffers):
    """Vectors of training rows and a sentence of each; empty until ``learn``.

    ``vectors`` ``[n, D]`` are of length 1; ``sentences`` ``[n, L]`` are token ids, padded with 0.

    Args:
        vocabulary: Number of token ids.
        most: Maximum number of rows kept; of more, evenly spaced ones.
    """

    vectors: Tensor
    sentences: Tensor

    def __init__(self, vocabulary: int, most: int) -> None:
        super().__init__()
        self.vocabulary, self.most = vocabulary, most
        self.declare("vectors", torch.float32, 2)
        self.declare("sentences", torch.int32, 2)

    def __len__(self) -> int:
        return len(self.vectors)

    def learn(self, vectors: Tensor, sentences: Tensor) -> None:
        """Keep some of the rows with these ``vectors`` ``[n, D]`` and ``sentences`` ``[n, L]``."""
        index = torch.linspace(0, max(len(vectors) - 1, 0), min(self.most, len(vectors)), device=vectors.device)
        index = index.round().long()
        chosen = sentences[index]
        longest = int((chosen != 0).sum(dim=1).max()) if chosen.numel() else 0
        self.keep("vectors", F.normalize(vectors[index].float(), dim=1))
        self.keep("sentences", chosen[:, :longest])

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the sentence ``[B, L]`` int64 of the row most similar to each of ``vectors`` ``[B, D]`` by cosine."""
        cosine = F.normalize(vectors.float(), dim=1) @ self.vectors.T
        return self.sentences[cosine.argmax(dim=1)].long()

    def check(self) -> None:
        if len(self.vectors) != len(self.sentences) or len(self.vectors) > self.most:
            raise ValueError(f"{len(self.vectors)} vectors and {len(self.sentences)} sentences, of {self.most} at most")
        if self.sentences.numel() and not 0 <= int(self.sentences.min()) <= int(self.sentences.max()) < self.vocabulary:
            raise ValueError("a sentence has ids outside the vocabulary")
