"""Words, stop words, parts of speech, word vectors, tokenisers of all kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import ConfigError
from sensorium.language.normalisation import normalise
from sensorium.language.part_of_speech import TAGS, tag
from sensorium.language.stopwords import stopwords, without
from sensorium.language.tokeniser import UNKNOWN, Tokeniser
from sensorium.language.word_segmentation import words
from sensorium.language.word_vectors import learn_vectors, read_vectors

CORPUS = [f"the quick brown fox number {i} jumps over the lazy dog, 你好世界 {i * 37}!" for i in range(200)]


def test_words_of_text_with_spaces() -> None:
    assert words("It's 3.5 km, well-known!") == ["It's", "3.5", "km", ",", "well-known", "!"]
    assert words("价格3元 ok") == ["价", "格", "3", "元", "ok"]
    assert words("") == []


def test_chinese_words() -> None:
    pytest.importorskip("jieba")
    assert words("我来到北京清华大学 and left.", "jieba") == ["我", "来到", "北京", "清华大学", "and", "left", "."]


def test_stop_words_are_removed() -> None:
    stop = stopwords("both", "dress，SHOE")
    assert without(["The", "red", "dress", "的", "鞋"], stop) == ["red", "鞋"]
    assert without(["to", "be"], stop) == ["to", "be"]
    assert stopwords() == frozenset()
    for word in ("not", "no", "never", "不", "没"):
        assert word not in stopwords("both")


SENTENCES = """
The/DET dog/NOUN barks/VERB loudly/ADV ./PUNCT
She/PRON bought/VERB a/DET beautiful/ADJ dress/NOUN in/ADP Paris/PROPN ./PUNCT
I/PRON will/AUX not/PART go/VERB to/ADP the/DET party/NOUN ./PUNCT
He/PRON wants/VERB to/PART learn/VERB music/NOUN and/CCONJ art/NOUN ./PUNCT
They/PRON were/AUX happy/ADJ because/SCONJ it/PRON was/AUX sunny/ADJ ./PUNCT
Two/NUM children/NOUN played/VERB with/ADP 3/NUM old/ADJ toys/NOUN ./PUNCT
Wow/INTJ ,/PUNCT this/PRON is/AUX really/ADV good/ADJ !/PUNCT
The/DET government/NOUN announced/VERB an/DET economic/ADJ decision/NOUN yesterday/ADV ./PUNCT
My/PRON sister/NOUN works/VERB at/ADP a/DET small/ADJ hospital/NOUN in/ADP London/PROPN ./PUNCT
If/SCONJ you/PRON like/VERB soft/ADJ sweaters/NOUN ,/PUNCT buy/VERB one/PRON ./PUNCT
"""


def test_accuracy_of_english_parts_of_speech() -> None:
    """Ten sentences written with the rules in view: it guards the rules, and is no measure of how good they are."""
    right = total = 0
    for line in SENTENCES.strip().splitlines():
        pairs = [tuple(item.rsplit("/", 1)) for item in line.split()]
        found = tag(" ".join(word for word, _ in pairs))
        assert [word for word, _ in found] == [word for word, _ in pairs]
        right += sum(a == b for (_, a), (_, b) in zip(found, pairs, strict=True))
        total += len(pairs)
    assert right / total >= 0.85


def test_parts_of_speech_of_any_text_are_known_tags() -> None:
    for text in ("", "…!!", "ж 123 $5 don't", "x" * 500, "ALL CAPS HERE"):
        assert all(name in TAGS for _, name in tag(text))


def test_chinese_parts_of_speech() -> None:
    pytest.importorskip("jieba")
    assert tag("我喜欢北京 very much")[:3] == [("我", "PRON"), ("喜欢", "VERB"), ("北京", "PROPN")]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_pieces_spell_the_text(kind: str) -> None:
    learnt = Tokeniser.train(CORPUS, kind, 300)  # type: ignore[arg-type]
    again = Tokeniser.from_json(json.loads(json.dumps(learnt.to_json())))
    assert again == learnt == Tokeniser.train(CORPUS, kind, 300)  # type: ignore[arg-type]
    for text in CORPUS[:10]:
        ids = again.encode(text)
        assert all(UNKNOWN < i < learnt.size for i in ids)
        assert learnt.decode(ids).replace(" ", "") == text.replace(" ", "")
    assert UNKNOWN in learnt.encode("ж")
    assert Tokeniser.train(["ab"], kind, 4).size <= 4  # type: ignore[arg-type]


def test_segmented_chinese_is_not_split_again() -> None:
    learnt = Tokeniser.train(["北京 大学", "大学 很 大"], "word", segmented=True)
    assert learnt.words[2:] == ("大学", "北京", "大", "很")
    assert len(learnt.encode("北京 大学")) == 2


def test_loaded_tokeniser_agrees_with_the_library(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace

    theirs = Tokenizer(WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "dog": 3}, unk_token="[UNK]"))
    theirs.pre_tokenizer = Whitespace()
    theirs.save(str(tmp_path / "词表.json"))
    ours = Tokeniser.load(tmp_path / "词表.json")
    (tmp_path / "词表.json").unlink()
    again = Tokeniser.from_json(json.loads(json.dumps(ours.to_json())))
    assert again.encode("playing dog cat") == [i + 2 for i in theirs.encode("playing dog cat").ids]
    assert again.size == 6
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "none.json"):
        with pytest.raises(ConfigError, match=name):
            Tokeniser.load(tmp_path / name)


def test_read_vectors(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("cat 1 2 3\nnew york -1 0.5 1e-2\ndog 0 0 1\n", encoding="utf-8")
    found = read_vectors(path, {"cat", "new york", "cow"}, 3)
    assert sorted(found) == ["cat", "new york"]
    np.testing.assert_allclose(found["new york"], [-1, 0.5, 0.01])
    path.write_text("2 3\ncat 1 2 3\n", encoding="utf-8")
    assert list(read_vectors(path, {"cat"}, 3)) == ["cat"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2\n", "line 1.*has 2 numbers per word, not 3"),
        ("2 5\ncat 1 2 3 4 5\n", "(?s)line 1.*set width=5"),
        ("a 1 2 3\ncat 1 x 3\n", "line 2.*not a number"),
        ("cat 1 nan 3\n", "not finite"),
        ("cat " + "1 " * 200_000 + "\n", "too long"),
    ],
)
def test_errors_in_vectors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_vectors(path, {"cat"}, 3)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_vectors(tmp_path / "none.txt", {"cat"}, 3)


def test_learnt_vectors_of_related_words_are_similar() -> None:
    pytest.importorskip("gensim")
    draw = np.random.default_rng(0)
    groups = [[f"{kind}{i}" for i in range(5)] for kind in "ab"]
    texts = [draw.choice(groups[i % 2], 8).tolist() for i in range(300)]
    found = learn_vectors(texts, 10, epochs=5)
    again = learn_vectors(texts, 10, epochs=5)
    np.testing.assert_array_equal(found["a0"], again["a0"])

    def near(x: str, y: str) -> float:
        return float(found[x] @ found[y] / np.linalg.norm(found[x]) / np.linalg.norm(found[y]))

    assert near("a0", "a1") > near("a0", "b1") + 0.2
    assert learn_vectors([["once"]], 4) == {}


def test_unicode_forms() -> None:
    assert normalise("① ｗｉｄｅ", form="NFC") == "① ｗｉｄｅ"
    assert normalise("① ｗｉｄｅ") == "1 wide"
