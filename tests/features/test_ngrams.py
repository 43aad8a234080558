"""TF-IDF of words and characters, against scikit-learn."""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from sensorium.core.batch import Field
from sensorium.core.layout import Ids
from sensorium.features import ngrams
from sensorium.features.ngrams import Ngrams
from sensorium.language.tokeniser import Tokeniser

ENGLISH = [
    "Red dress, lovely fit: I love this red dress",
    "poor fit, don't buy this dress",
    "A lovely blue shoe",
    "blue shoes and a red hat; 5 stars",
    "the fit was poor and the shoes were poor",
    "5 of 5: lovely",
]
CHINESE = ["这条连衣裙很好看", "连衣裙 质量 很差", "鞋子很好,质量也好", "好看的鞋子 red", "很差,不好看", "质量好的连衣裙"]


def reader(texts: list[str], kind: str) -> tuple[Tokeniser, Ids]:
    tokeniser = Tokeniser.train([text.lower() for text in texts], kind, 400)  # type: ignore[arg-type]
    return tokeniser, Ids(tokeniser.size, 64, tokeniser.words, tokeniser.pieces)


def field(tokeniser: Tokeniser, texts: list[str]) -> Field:
    rows = [tokeniser.encode(text.lower()) for text in texts]
    longest = max(map(len, rows), default=0)
    data = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64).reshape(len(rows), longest)
    return Field(data, torch.ones(len(rows), dtype=torch.bool), data != 0)


def terms(part: Ngrams) -> tuple[list[str], list[str]]:
    results = [bytes(buffer.numpy()).decode() for buffer in (part.words, part.characters)]
    return results[0].split("\n"), results[1].split("\n")


def expected(part: Ngrams, texts: list[str], requested: list[str], least: int = 2) -> np.ndarray:
    """The same from scikit-learn, its columns in our order."""
    word = TfidfVectorizer(
        token_pattern=ngrams._WORD.pattern, ngram_range=(1, part.longest[0]), min_df=least, sublinear_tf=True
    )
    character = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, part.longest[1]), min_df=least, sublinear_tf=True)
    blocks = []
    for known, reference in zip(terms(part), (word, character), strict=True):
        reference.fit(texts)
        assert sorted(known) == sorted(reference.vocabulary_)
        blocks.append(reference.transform(requested).toarray()[:, [reference.vocabulary_[term] for term in known]])
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("texts", [ENGLISH, CHINESE])
@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
@pytest.mark.parametrize(("words", "characters"), [(1, 5), (2, 3), (3, 5)])
def test_is_what_scikit_learn_gives(texts: list[str], kind: str, words: int, characters: int) -> None:
    tokeniser, layout = reader(texts, kind)
    part = Ngrams(layout, words=words, characters=characters)
    part.fit(iter([field(tokeniser, texts[:4]), field(tokeniser, texts[4:])]))
    requested = [*texts, texts[0] + " " + texts[3], "dress"]
    spelt = ["".join(layout.pieces[i] for i in tokeniser.encode(text.lower())) for text in (*texts, *requested)]
    assert [text.split() for text in spelt[: len(texts)]] == [text.lower().split() for text in texts]
    features = part(field(tokeniser, requested)).numpy()
    np.testing.assert_allclose(features, expected(part, spelt[: len(texts)], spelt[len(texts) :]), atol=1e-6)


def test_default_words_of_scikit_learn_where_all_have_two_letters() -> None:
    texts = ["red dress", "blue dress red", "blue shoes shoes", "red shoes"]
    tokeniser, layout = reader(texts, "bpe")
    part = Ngrams(layout, words=1, characters=None)
    part.fit([field(tokeniser, texts)])
    reference = TfidfVectorizer(sublinear_tf=True, min_df=2).fit(texts)
    order = [reference.vocabulary_[term] for term in terms(part)[0]]
    np.testing.assert_allclose(part(field(tokeniser, texts)), reference.transform(texts).toarray()[:, order], atol=1e-6)


def test_most_frequent_terms_are_kept() -> None:
    tokeniser, layout = reader(ENGLISH, "bpe")
    part = Ngrams(layout, vocabulary=3, spellings=2, words=1)
    part.fit([field(tokeniser, ENGLISH)])
    whole = Ngrams(layout, words=1)
    whole.fit([field(tokeniser, ENGLISH)])
    assert terms(part) == (terms(whole)[0][:3], terms(whole)[1][:2])
    assert bool((whole.idf[: len(terms(whole)[0])].diff() >= 0).all())  # the rarer, the heavier


def test_texts_of_nothing_known_are_zero() -> None:
    tokeniser, layout = reader(ENGLISH, "bpe")
    part = Ngrams(layout)
    part.fit([field(tokeniser, ENGLISH)])
    data = torch.tensor([[0, 0, 0], [1, 1, 1]])
    inputs = part(Field(data, torch.ones(2, dtype=torch.bool), data != 0))
    assert not inputs.any()
    assert not part.compact(inputs, Field(data, torch.ones(2, dtype=torch.bool), None)).any()


def test_an_unknown_character_parts_words() -> None:
    tokeniser, layout = reader(ENGLISH, "character")
    part = Ngrams(layout, words=1, least=1)
    part.fit([field(tokeniser, ["red dress", "blue"])])
    ids = field(tokeniser, ["red燚dress", "red dress"])
    inputs = part(ids)
    words, characters = terms(part)
    assert inputs[0, : len(words)].tolist() == inputs[1, : len(words)].tolist()
    edge = len(words) + characters.index("d ")
    assert inputs[0, edge] == 0
    assert inputs[1, edge] > 0


def test_ids_that_cannot_be_spelt_are_terms_themselves() -> None:
    part = Ngrams(Ids(9, 4), least=1)
    data = torch.tensor([[2, 3, 0], [3, 4, 5]])
    rows = Field(data, torch.ones(2, dtype=torch.bool), data != 0)
    part.fit([rows])
    assert set(terms(part)[0]) == {"2", "3", "4", "5", "2 3", "3 4", "4 5"}
    assert terms(part)[1] == [""]
    texts = ["2 3", "3 4 5"]
    reference = TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True).fit(texts)
    order = [reference.vocabulary_[term] for term in terms(part)[0]]
    np.testing.assert_allclose(part(rows), reference.transform(texts).toarray()[:, order], atol=1e-6)


def test_saved_and_copied_and_learnt_anew() -> None:
    tokeniser, layout = reader(CHINESE, "bpe")
    part, other = Ngrams(layout), Ngrams(layout)
    rows = field(tokeniser, CHINESE)
    part.fit([rows])
    features = part(rows)
    other.fit([field(tokeniser, CHINESE[:3])])
    assert other(rows).shape != features.shape
    for same in (copy.deepcopy(part), other):
        same.load_state_dict(part.state_dict())
        assert torch.equal(same(rows), features)
        assert torch.equal(same.compact(features, rows), part.compact(features, rows))
    part.fit([field(tokeniser, CHINESE[:3])])
    assert part(rows).shape != features.shape


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("idf", torch.ones(3), "not"),
        ("directions", torch.ones(2, 2), "not"),
        ("words", torch.tensor([104, 255], dtype=torch.uint8), "UTF-8"),
        ("words", torch.ones(2), "float32"),
    ],
)
def test_a_damaged_state_is_refused(name: str, values: torch.Tensor, problem: str) -> None:
    tokeniser, layout = reader(ENGLISH, "bpe")
    part = Ngrams(layout)
    part.fit([field(tokeniser, ENGLISH)])
    with pytest.raises(RuntimeError, match=problem):
        Ngrams(layout).load_state_dict({**part.state_dict(), name: values})


def test_learnt_from_nothing() -> None:
    tokeniser, layout = reader(ENGLISH, "bpe")
    part = Ngrams(layout)
    part.fit([])
    rows = field(tokeniser, ENGLISH)
    assert part(rows).shape == (len(ENGLISH), 0)
    assert part.compact(part(rows), rows).shape == (len(ENGLISH), 0)


def test_main_directions_keep_the_angles_between_texts() -> None:
    tokeniser, layout = reader(ENGLISH, "bpe")
    part = Ngrams(layout)
    rows = field(tokeniser, ENGLISH)
    part.fit([rows])
    features = part(rows)
    compact = part.compact(features, rows)
    assert compact.shape == (6, 6)  # no more directions than texts
    torch.testing.assert_close(compact @ compact.T, features @ features.T, atol=1e-5, rtol=0)


def test_random_numbers_elsewhere_stay_what_they_are() -> None:
    tokeniser, layout = reader(ENGLISH, "bpe")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Ngrams(layout).fit([field(tokeniser, ENGLISH)])
    assert torch.rand(1) == expected


def test_more_terms_than_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frequent ones survive."""
    monkeypatch.setattr(ngrams, "_TERMS", 300)
    draw = np.random.default_rng(0)
    texts = [f"common {draw.integers(1e9)} words {draw.integers(1e9)}" for _ in range(300)]
    tokeniser, layout = reader([*texts, "0 1 2 3 4 5 6 7 8 9"], "character")
    part = Ngrams(layout)
    part.fit([field(tokeniser, texts)])
    assert {"common", "words"} <= set(terms(part)[0])
    assert " com" in terms(part)[1]
    assert part.idf.min() == pytest.approx(1.0, abs=0.05)


def test_a_hundred_words_take_about_a_millisecond() -> None:
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    lexicon = ["".join(draw.choice(letters, draw.integers(2, 9))) for _ in range(3000)]
    texts = [" ".join(draw.choice(lexicon, 100)) for _ in range(256)]
    tokeniser, layout = reader(texts, "bpe")
    part = Ngrams(layout)
    rows = field(tokeniser, texts)
    part.fit([rows])
    part(rows)
    began = time.perf_counter()
    part(rows)
    assert time.perf_counter() - began < 256 * 5e-3  # a fifth of that where nothing else runs
