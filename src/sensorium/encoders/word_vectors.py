"""Word vectors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, Field, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Ids
from sensorium.core.registry import component
from sensorium.language.word_vectors import learn_vectors, read_vectors
from sensorium.nn.pool import MeanMax
from sensorium.signal.running_moments import subsampled

_BATCHES = 400


@component
class WordVectors(Encoder):
    """Word vectors, learned without targets by Word2Vec from the training texts or loaded from a file.

    Use it where few rows have targets and a file of vectors for the language is available; the text column should then
    have ``tokeniser: word``. The tokens are the words' vectors; mean and maximum over the words give the vector.
    ``unknown`` is the share of words in the texts without a vector (when learned: words that occur once); they start from
    zero.
    Source: Word2Vec, https://arxiv.org/abs/1310.4546; GloVe, https://aclanthology.org/D14-1162.

    Args:
        dim: Width of the tokens and of the vector.
        width: Width of the word vectors; that of the file, where there is one.
        vectors: A text file in GloVe or word2vec format; None: learn them. Read in training only.
        window: Context size on either side, where vectors are learned.
        epochs: Epochs over the texts, where vectors are learned.
        trainable: Whether the vectors are fine-tuned in training.
        dropout: Share of features dropped in training.
    """

    reads = (Ids,)

    def __init__(
        self,
        layout: Ids,
        *,
        dim: int = 128,
        width: int = 100,
        vectors: str | None = None,
        window: int = 5,
        epochs: int = 10,
        trainable: bool = False,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if min(width, window, epochs) < 1:
            raise ConfigError("wordvectors: width, window and epochs are 1 or more")
        self.dim, self.vectors, self.window, self.epochs = dim, vectors, window, epochs
        self.names = layout.words
        self.table = nn.Embedding(layout.vocabulary, width)
        self.table.weight.requires_grad_(trainable)
        self.unknown: Tensor
        self.register_buffer("unknown", torch.zeros(()))
        self.drop = nn.Dropout(dropout)
        self.project = nn.Linear(width, dim)
        self.pool = MeanMax(dim)

    @torch.no_grad()
    def fit(self, fields: Iterable[Field]) -> None:
        """Fit the table of vectors, from the file or from the texts (at most 400 batches)."""
        count = torch.zeros(self.table.num_embeddings, dtype=torch.int64)
        if self.vectors is not None and not any(self.names):
            raise ConfigError("wordvectors: the stream has no words to look up", fix="give the column tokeniser: word")

        def counted() -> Iterable[list[list[str]]]:
            nonlocal count
            for field in fields:
                real = field.data != 0 if field.mask is None else field.mask
                count = count + torch.bincount(field.data[real], minlength=len(count))
                yield [[str(i) for i in row[keep].tolist()] for row, keep in zip(field.data, real, strict=True)]

        texts = [text for batch in subsampled(counted(), _BATCHES) for text in batch]
        width = self.table.embedding_dim
        if self.vectors is None:
            seed = int(torch.randint(2**31, ()))
            learned = learn_vectors(texts, width, window=self.window, epochs=self.epochs, seed=seed)
            rows = {int(word): vector for word, vector in learned.items()}
        else:
            loaded = read_vectors(self.vectors, {name for name in self.names if name}, width)
            rows = {i: loaded[name] for i, name in enumerate(self.names) if name in loaded}
        self.table.weight.zero_()
        for i, vector in rows.items():
            self.table.weight[i] = torch.tensor(vector)
        known = torch.zeros(len(count), dtype=torch.bool)
        known[list(rows)] = True
        self.unknown.fill_(float(count[~known].sum() / count.sum().clamp(min=1)))
        # Features of size 1 on average, whatever the source.
        size = self.table.weight[known].square().mean().sqrt() if bool(known.any()) else torch.ones(())
        self.table.weight /= size.clamp(min=1e-6)

    def notes(self) -> str:
        return f"{float(self.unknown):.1%} of the running words of training have no vector"

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, N]`` ids, ``mask`` ``[B, N]``; tokens ``[B, N, D]``."""
        real = data != 0 if mask is None else mask
        words = self.drop(self.table(data))
        tokens = zeroed(self.project(words), real)
        return Encoded(tokens, real, self.pool(tokens, real), real.new_ones(real.shape[0]), (tokens.shape[1],))
