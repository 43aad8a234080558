"""Translation: words mapped and put in another order, and Chinese into English."""

from __future__ import annotations

import itertools
import random

import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.evaluation.controls import OTHER_ROWS

QUICK = ["model.size=tiny", "training.epochs=40", "training.lr=0.005", "training.patience=40"]
WORDS = {"red": "rot", "blue": "blau", "dog": "Hund", "cat": "Katze", "runs": "läuft", "sleeps": "schläft"}


def rows() -> list[dict[str, str]]:
    """Every text of three of the words, with the translations of its words in reverse order."""
    texts = list(itertools.permutations(WORDS, 3))
    random.Random(0).shuffle(texts)
    return [{"text": " ".join(text), "translation": " ".join(WORDS[word] for word in text[::-1])} for text in texts]


def test_words_are_mapped_and_their_order_is_reversed() -> None:
    every = rows()
    model = sm.fit(every[:100], target="translation", task="translation", overrides=QUICK, quiet=True, seed=1)
    scores = model.evaluate(every[100:]).targets["translation"]
    assert scores.headline == "chrf"
    assert scores.metrics["token_f1"] > 0.9
    assert scores.metrics["chrf"] > 0.8
    assert scores.metrics["chrf"] > 2 * scores.controls[OTHER_ROWS].metrics["chrf"]
    assert model.recipe.model.encoders["text"]["kind"] == "transformer"


def test_chinese_becomes_english() -> None:
    colours, things = {"红": "red", "蓝": "blue", "白": "white"}, {"狗": "dog", "猫": "cat", "鸟": "bird"}
    every = [
        {"原文": f"一只{c}色的{t}", "English": f"a {colour} {thing}"}
        for c, colour in colours.items()
        for t, thing in things.items()
    ] * 8
    model = sm.fit(every, target="English", task="translation", overrides=QUICK, quiet=True, seed=1)
    assert model.predict([{"原文": "一只蓝色的猫"}])[0].targets["English"]["value"] == "a blue cat"


def test_translation_takes_no_prompt() -> None:
    with pytest.raises(ConfigError, match="translation has no prompt"):
        sm.fit(
            [{**row, "ask": "how?"} for row in rows()[:20]],
            target="translation",
            task="translation",
            options={"prompt": "ask"},
            overrides=QUICK,
            quiet=True,
        )
