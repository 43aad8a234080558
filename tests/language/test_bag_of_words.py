"""BagOfWords of words and TF-IDF against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.language.bag_of_words import BagOfWords

TEXTS = ["the cat sat on the mat", "a dog and a cat", "dog dog dog", "自然 语言 处理 语言", "", "mat on mat"]


@pytest.mark.parametrize("longest", [1, 2])
@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("sublinear", [False, True])
def test_tfidf_agrees_with_scikit_learn(longest: int, least: int, sublinear: bool) -> None:
    sklearn = pytest.importorskip("sklearn.feature_extraction.text")
    options = {"tokenizer": str.split, "token_pattern": None, "ngram_range": (1, longest), "min_df": least}
    words = [text.split() for text in TEXTS]
    bags = BagOfWords.learn(words, longest=longest, least=least)
    counts, weights = sklearn.CountVectorizer(**options), sklearn.TfidfVectorizer(**options, sublinear_tf=sublinear)
    np.testing.assert_array_equal(bags.counts(words), counts.fit_transform(TEXTS).toarray())
    assert list(bags.words) == list(counts.get_feature_names_out())
    weights.fit(TEXTS)
    new = [*TEXTS, "never seen", "cat never seen"]
    theirs = weights.transform(new).toarray()
    np.testing.assert_allclose(bags.tfidf([text.split() for text in new], sublinear=sublinear), theirs, atol=1e-12)


def test_vocabulary_keeps_the_most_frequent_words() -> None:
    assert BagOfWords.learn([["b", "a"], ["b", "c"], ["c", "b"]], most=2).words == ("b", "c")
    assert BagOfWords.learn([]).tfidf([["a"]]).shape == (1, 0)
