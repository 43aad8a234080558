"""The TF-IDF encoder against scikit-learn, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.core.batch import Field
from sensorium.core.layout import Ids
from sensorium.encoders.tfidf import Tfidf
from sensorium.nn.randomized_svd import principal

torch.set_num_threads(1)


def texts(rows: int = 60, vocabulary: int = 40, seed: int = 0) -> Field:
    """Texts of different lengths, some words commoner than others."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 13, rows)
    data = np.minimum(1 + draw.geometric(0.1, (rows, 12)), vocabulary - 1)
    mask = np.arange(12) < lengths[:, None]
    return Field(torch.from_numpy(data * mask), torch.ones(rows).bool(), torch.from_numpy(mask))


def fitted(field: Field, **options: object) -> Tfidf:
    torch.manual_seed(0)
    encoder = Tfidf(Ids(40, 12), **options)  # type: ignore[arg-type]
    half = len(field.data) // 2
    assert field.mask is not None
    batches = [Field(field.data[i], field.present[i], field.mask[i]) for i in (slice(0, half), slice(half, None))]
    encoder.fit(iter(batches))
    return encoder.eval()


@pytest.mark.parametrize("ngrams", [1, 2])
@pytest.mark.parametrize("sublinear", [True, False])
def test_vectors_are_those_of_tfidf(ngrams: int, sublinear: bool) -> None:
    """With all directions kept, scalar products of the vectors are those of scikit-learn's weights."""
    feature = pytest.importorskip("sklearn.feature_extraction.text")
    field = texts()
    # Many buckets, so that no two word groups share one.
    encoder = fitted(field, ngrams=ngrams, sublinear=sublinear, rank=200, buckets=1 << 20)
    words = [" ".join(str(i) for i in row[row > 0].tolist()) for row in field.data]
    vectorizer = feature.TfidfVectorizer(
        tokenizer=str.split, token_pattern=None, ngram_range=(1, ngrams), min_df=2, sublinear_tf=sublinear
    )
    theirs = vectorizer.fit_transform(words).toarray()
    assert field.mask is not None
    ours = (encoder._weights(field.data, field.mask) @ encoder.directions).numpy()
    np.testing.assert_allclose(ours @ ours.T / 200, theirs @ theirs.T, atol=1e-4)


def test_the_directions_are_singular_vectors() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(50, 5) @ torch.randn(5, 30) + 0.01 * torch.randn(50, 30)
    result = principal(matrix.to_sparse(), 4)
    _, _, expected = torch.linalg.svd(matrix)
    assert torch.allclose((result.T @ expected[:4].T).abs(), torch.eye(4), atol=1e-2)
    assert principal(matrix[:3].to_sparse(), 10).shape == (30, 3)


def test_a_token_is_its_word_as_a_text_of_its_own() -> None:
    encoder = fitted(texts())
    word = torch.tensor([[3]])
    encoded = encoder(word)
    assert torch.allclose(encoded.tokens[:, 0], encoded.pooled, atol=1e-6)


def test_everything_learnt_is_in_the_state() -> None:
    field = texts()
    encoder = fitted(field)
    torch.manual_seed(1)
    other = Tfidf(Ids(40, 12)).eval()
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(field.data, field.mask).pooled, encoder(field.data, field.mask).pooled)


def test_words_of_a_single_text_and_no_texts_at_all() -> None:
    """What stands in one text only says nothing about others; texts without any feature are all the same."""
    one = Field(torch.tensor([[2, 3, 4]]), torch.ones(1).bool())
    encoder = Tfidf(Ids(40, 12))
    encoder.fit([one])
    pooled = encoder.eval()(torch.tensor([[2, 3, 4], [5, 6, 7]])).pooled
    assert torch.equal(pooled[0], pooled[1])
    encoder.fit([])
    assert bool(encoder(torch.tensor([[2, 3]])).pooled.isfinite().all())
