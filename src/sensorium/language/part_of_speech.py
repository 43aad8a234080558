"""Parts of speech, as features: universal tags for English by rules, for Chinese by jieba."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sensorium.language.word_segmentation import tagged_chinese, words

TAGS: tuple[str, ...] = ("NOUN", "PROPN", "VERB", "AUX", "ADJ", "ADV", "PRON", "DET", "ADP", "CCONJ", "SCONJ", "NUM")
TAGS += ("PART", "INTJ", "PUNCT", "SYM", "X")
"""The universal part-of-speech tags, https://universaldependencies.org/u/pos/."""

_CLOSED = {
    "DET": "a an the this that these those each every some any no both either neither another such what which all",
    "PRON": "i me my mine myself we us our ours ourselves you your yours yourself he him his himself she her hers herself "
    "it its itself they them their theirs themselves who whom whose someone anyone everyone nobody something anything "
    "everything nothing one",
    "AUX": "am is are was were be been being have has had having do does did will would shall should can could may might "
    "must 'm 're 've 'll 'd ca wo isn't aren't wasn't weren't don't doesn't didn't won't wouldn't can't couldn't "
    "shouldn't haven't hasn't hadn't i'm it's he's she's that's they're we're you're",
    "ADP": "of at by for with about between into through during above below from in out on off over under against among "
    "along across behind beyond near onto toward towards upon within without up down like per via",
    "CCONJ": "and or but nor yet plus",
    "SCONJ": "because although though while if unless until since whereas whether than as when where",
    "PART": "to not n't 's",
    "INTJ": "oh wow yes hey hello hi ouch please thanks ok okay ugh hmm",
    "ADV": "very too so just also only even still again never always often sometimes here there now then today yesterday "
    "tomorrow well almost quite rather really soon maybe perhaps already ever once twice away back far how why more "
    "most less least however instead together",
    "NUM": "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million "
    "first second third",
    "VERB": "go goes went gone going get gets got make makes made take takes took taken see sees saw seen say says said "
    "know knows knew known think thinks thought come comes came want wants give gives gave given find finds found "
    "tell tells told feel feels felt put keep keeps kept let lets begin began run runs ran eat eats ate drink drank "
    "write wrote written read buy bought sit sits sat stand stood lose lost pay paid meet met bring brought hold held show "
    "shows leave left need needs like liked love loves loved try tries wear wore look looks looked fit fits fell bit "
    "sleeps sleep barks works play plays sing sang sold built sent spent won rose grew drove flew broke spoke chose became",
    "ADJ": "good bad big small new old great little young long short high low large nice happy sad hot cold warm cool red "
    "blue green black white brown yellow grey dark light soft hard fast slow early late easy heavy rich poor clean dirty "
    "full empty free strong weak wide narrow deep quick quiet loud cheap tall thin thick fine right wrong real true false "
    "own same other few many much several best better worst worse last next different important sure ready sick tired "
    "pretty perfect comfortable cute gorgeous beautiful tight loose",
}
_LEXICON = {word: tag for tag, text in _CLOSED.items() for word in text.split()}
_ENDINGS = (
    ("ly", "ADV"),
    *((e, "NOUN") for e in ("tion", "sion", "ment", "ness", "ity", "ship", "hood", "ism", "ist", "ance", "ence", "ure")),
    *((e, "ADJ") for e in ("ous", "ful", "less", "able", "ible", "ish", "ive", "ical", "ic", "al", "ary", "est")),
    *((e, "VERB") for e in ("ing", "ed", "ize", "ise", "ify", "ate")),
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
# The first letters of jieba's flags (those of the ICTCLAS set).
_FLAGS = {
    "n": "NOUN", "nr": "PROPN", "ns": "PROPN", "nt": "PROPN", "nz": "PROPN", "t": "NOUN", "s": "NOUN", "f": "ADP",
    "v": "VERB", "a": "ADJ", "ad": "ADV", "b": "ADJ", "z": "ADJ", "r": "PRON", "m": "NUM", "q": "NOUN", "d": "ADV",
    "p": "ADP", "c": "CCONJ", "u": "PART", "y": "PART", "e": "INTJ", "o": "INTJ", "i": "X", "l": "X", "x": "X",
}  # fmt: skip


def tag(text: str) -> list[tuple[str, str]]:
    """Each word of ``text`` with its universal tag. Chinese needs jieba; any other language is taken for English.

    The English rules (closed classes, common words, endings, the word before) are meant as features, not as grammar.
    They carry no model, so they work everywhere and never change.
    """
    found: list[tuple[str, str]] = []
    at = 0
    for run in re.finditer(f"(?:{_CHINESE.pattern})+", text):
        found += english(words(text[at : run.start()]))
        found += [(word, _FLAGS.get(flag, _FLAGS.get(flag[:1], "X"))) for word, flag in tagged_chinese(run.group())]
        at = run.end()
    return found + english(words(text[at:]))


def english(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """English words with their universal tags."""
    tags: list[str] = []
    for i, token in enumerate(tokens):
        tags.append(_english(token, tags, i == 0 or tokens[i - 1] in ".!?", tokens[i + 1 : i + 2]))
    return list(zip(tokens, tags, strict=True))


def _english(token: str, before: Sequence[str], start: bool, after: Sequence[str]) -> str:
    word = token.lower().replace("’", "'")
    last = before[-1] if before else ""
    if _NUMBER.fullmatch(word):
        return "NUM"
    if not any(c.isalpha() for c in word):
        return "SYM" if word in "$€£¥%+=<>#&@*^~|" else "PUNCT"
    known = _LEXICON.get(word)
    following = after[0].lower() if after else ""
    if word == "to":
        # "to the shop" against "to go"
        return "ADP" if _LEXICON.get(following) in ("DET", "PRON", "NUM") else "PART"
    if word in ("this", "that", "these", "those") and (_LEXICON.get(following) in ("AUX", "VERB", "ADP") or not following):
        return "PRON"
    if word == "that" and last == "VERB":
        return "SCONJ"
    if word == "like" and last not in ("PRON", "AUX", "PART", "NOUN", "ADV"):
        return "ADP"
    if known in ("VERB", "NOUN") and last in ("DET", "ADJ", "NUM"):
        return "NOUN"
    if known:
        return known
    if token[0].isupper() and not start and token != token.upper():
        return "PROPN"
    if last in ("DET", "ADJ", "NUM") and not word.endswith(("ous", "ful", "less", "able", "ible", "ly", "ive", "ic", "al")):
        return "NOUN"
    if last == "PART" or (last == "AUX" and not word.endswith(("s", "al", "ic", "ous", "ful", "able", "ive", "y"))):
        return "ADJ" if last == "AUX" and word.endswith(("less", "ish")) else "VERB"
    for ending, tag_ in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return tag_
    return "NOUN"
