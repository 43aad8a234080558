"""Parts of speech, as features: universal tags of English by TextBlob's lexicon and rules, of Chinese by jieba.

English: of 2,009 words of eight samples of hand-tagged text (news, papers, stories, reviews, mail, talk), 92.3 % have their
tag, from 85 % in talk to 96 % in papers; docs/language.md says how that was measured. Chinese was not measured.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock

from sensorium.core.errors import MissingExtraError
from sensorium.language.word_segmentation import tagged_chinese, words

TAGS: tuple[str, ...] = ("NOUN", "PROPN", "VERB", "AUX", "ADJ", "ADV", "PRON", "DET", "ADP", "CCONJ", "SCONJ", "NUM")
TAGS += ("PART", "INTJ", "PUNCT", "SYM", "X")
"""The universal part-of-speech tags, https://universaldependencies.org/u/pos/."""

_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
# The first letters of jieba's flags (those of the ICTCLAS set).
_FLAGS = {
    "n": "NOUN", "nr": "PROPN", "ns": "PROPN", "nt": "PROPN", "nz": "PROPN", "t": "NOUN", "s": "NOUN", "f": "ADP",
    "v": "VERB", "a": "ADJ", "ad": "ADV", "b": "ADJ", "z": "ADJ", "r": "PRON", "m": "NUM", "q": "NOUN", "d": "ADV",
    "p": "ADP", "c": "CCONJ", "u": "PART", "y": "PART", "e": "INTJ", "o": "INTJ", "i": "X", "l": "X", "x": "X",
}  # fmt: skip
# The tags of the Penn Treebank, which TextBlob gives; https://universaldependencies.org/tagset-conversion/en-penn-uposf.html.
_PENN = {
    "NN": "NOUN", "NNS": "NOUN", "NNP": "PROPN", "NNPS": "PROPN", "MD": "AUX", "JJ": "ADJ", "JJR": "ADJ", "JJS": "ADJ",
    "VB": "VERB", "VBD": "VERB", "VBG": "VERB", "VBN": "VERB", "VBP": "VERB", "VBZ": "VERB", "RB": "ADV", "RBR": "ADV",
    "RBS": "ADV", "WRB": "ADV", "PRP": "PRON", "PRP$": "PRON", "WP": "PRON", "WP$": "PRON", "EX": "PRON", "DT": "DET",
    "WDT": "DET", "PDT": "DET", "IN": "ADP", "RP": "ADP", "TO": "ADP", "POS": "PART", "CC": "CCONJ", "CD": "NUM",
    "UH": "INTJ",
}  # fmt: skip
_CONTRACTION = re.compile(r"^(.+?)(n['’]t|['’](?:s|re|ve|ll|d|m))$", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_SYMBOLS = "$€£¥%+=<>#&@*^~|°"
_BE = frozenset(["am", "is", "are", "was", "were", "be", "been", "being", "'m", "'re"])
_HAVE = frozenset(["have", "has", "had", "having", "'ve"])
_DO = frozenset(["do", "does", "did"])
_CLAUSE = frozenset(["because", "although", "though", "while", "if", "unless", "whether", "whereas"])
_EITHER = frozenset(["after", "before", "since", "until", "till", "as", "than"])
_SUBJECT = frozenset(["i", "you", "he", "she", "it", "we", "they", "there"])
_POINTING = frozenset(["this", "that", "these", "those"])
_ANYONE = frozenset(a + b for a in ("some", "any", "every", "no") for b in ("one", "body", "thing")) - {"noone"}

_loading = Lock()


def tag(text: str) -> list[tuple[str, str]]:
    """Return the words of ``text`` with their universal tags; ``don't`` is two words. Text that is not Chinese is tagged as
    English.

    English words need ``sensorium[en]``, Chinese ones ``sensorium[zh]``; numbers and marks need neither.
    """
    tagged: list[tuple[str, str]] = []
    at = 0
    for run in re.finditer(f"(?:{_CHINESE.pattern})+", text):
        tagged += english(_cut(words(text[at : run.start()])))
        tagged += [(word, _FLAGS.get(flag, _FLAGS.get(flag[:1], "X"))) for word, flag in tagged_chinese(run.group())]
        at = run.end()
    return tagged + english(_cut(words(text[at:])))


def english(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """Return English ``tokens`` with their universal tags; contractions must be split as in treebanks: ``do``, ``n't``."""
    tags: list[str] = []
    start = 0
    for i, token in enumerate(tokens):
        if token in ".!?" or i + 1 == len(tokens):
            tags += _sentence(tokens[start : i + 1])
            start = i + 1
    return list(zip(tokens, tags, strict=True))


def _cut(tokens: Sequence[str]) -> list[str]:
    return [part for token in tokens for part in _CONTRACTION.sub(r"\1 \2", token).split()]


def _sentence(tokens: Sequence[str]) -> list[str]:
    plain = [token.lower().replace("’", "'") for token in tokens]
    if not any(c.isalpha() for word in plain for c in word):
        return [_mark(word) for word in plain]
    penn = _penn()([token.replace("’", "'") for token in tokens])
    return [_universal(plain, penn, i) for i in range(len(tokens))]


@lru_cache(maxsize=1)
def _penn() -> Callable[[list[str]], list[str]]:
    """Return the tagger, a function from the words of a sentence to their Penn tags."""
    try:
        from textblob.en import lexicon, parser
    except ImportError:
        raise MissingExtraError("parts of speech of English", "en") from None
    with _loading, warnings.catch_warnings():
        # Its files are read on first use and never closed; two threads at the same time would read half of each.
        warnings.simplefilter("ignore", ResourceWarning)
        lexicon.context.apply(parser.find_tags(["a"]))

    def tags(sentence: list[str]) -> list[str]:
        first = sentence[0].lower()
        if sentence[0].istitle() and lexicon.get(first, "NN") != "NN":
            sentence = [first, *sentence[1:]]
        tagged = parser.find_tags(sentence)
        mixed = any(c.islower() for word in sentence for c in word)
        for pair in tagged:
            # Its lexicon has 2 as a preposition, as in chats, and does not take words in capitals, such as EPMI, for names.
            if _NUMBER.fullmatch(pair[0]):
                pair[1] = "CD"
            elif mixed and len(pair[0]) > 1 and pair[0].isupper() and pair[0] not in lexicon:
                pair[1] = "NNP"
        # TextBlob's own taggers leave its rules of context out: faster, but "to plan" is a noun to them. One of these rules
        # makes verbs of prepositions after pronouns (meant for "they like"), as in "put it in".
        after = [str(name) for _, name in lexicon.context.apply(tagged)]
        return [
            "IN" if name == "IN" and now == "VB" and word != "like" else now
            for (word, name), now in zip(tagged, after, strict=True)
        ]

    return tags


def _mark(word: str) -> str:
    if any(c.isdigit() for c in word):
        return "NUM"
    return "SYM" if word in _SYMBOLS else "PUNCT"


def _universal(words: Sequence[str], penn: Sequence[str], i: int) -> str:
    """Return the universal tag of word ``i``: that of its Penn tag, except where the two sets differ."""
    word, name = words[i], penn[i]
    after = penn[i + 1] if i + 1 < len(words) else ""
    if _NUMBER.fullmatch(word) or not any(c.isalpha() for c in word):
        return _mark(word)
    if word in ("not", "n't"):
        return "PART"
    if word in _BE:
        return "VERB" if "EX" in (after, penn[i - 1] if i else "") else "AUX"
    if word in _HAVE:
        return "AUX" if _ahead(words, penn, i) in ("VBN", "VBD") else "VERB"
    if word in _DO:
        return "AUX" if _ahead(words, penn, i) in ("VB", "VBP") else "VERB"
    if word == "'s" and i:
        owner = penn[i - 1].startswith("NN") and words[i - 1] not in _ANYONE
        return "PART" if owner and after not in ("DT", "RB", "VBN", "VBG", "IN", "") else "AUX"
    if word in ("'ll", "'d"):
        return "AUX"
    if word == "to":
        return "PART" if after == "VB" else "ADP"
    if word in _POINTING:
        if name == "IN":
            return "SCONJ"
        return "DET" if after[:2] in ("NN", "JJ", "CD") else "PRON"
    if word in _CLAUSE:
        return "SCONJ"
    if name == "IN" and (after == "VBG" or (word in _EITHER and i + 1 < len(words) and words[i + 1] in _SUBJECT)):
        return "SCONJ"
    if word in _ANYONE or word == "which":
        return "PRON"
    if word == "one" and i and penn[i - 1][:2] in ("DT", "JJ", "PR"):
        return "NOUN"
    if word == "please":
        return "INTJ"
    return _PENN.get(name.partition("-")[0], "X")


def _ahead(words: Sequence[str], penn: Sequence[str], i: int) -> str:
    """Return the Penn tag of the next word that is not an adverb, a subject or *not*."""
    for word, name in zip(words[i + 1 : i + 5], penn[i + 1 : i + 5], strict=True):
        if name[:2] not in ("RB", "PR") and word not in ("n't", "not"):
            return name
    return ""
