"""Simulated requests, in English or Chinese, with their slots annotated.

request   "Book a table for Ann Lee in Oslo on friday", "周一送花给王明到北京"
slots     spans in characters with their labels: person, city, day
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sensorium.data.synthetic_tables import check, write

_FIRST, _LAST = (
    ("Ann", "Bo", "Carla", "Dan", "Eva", "Finn", "Gita", "Hugo"),
    ("Lee", "Moss", "Novak", "Okoro", "Park", "Quinn"),
)
_WORDS = {
    "en": {
        "city": ("Oslo", "New York", "Lima", "Rome", "Cairo", "Quebec City"),
        "day": ("monday", "friday", "tomorrow", "next week"),
    },
    "zh": {
        "person": ("王明", "李小红", "张伟", "陈静", "刘洋"),
        "city": ("北京", "上海", "广州", "成都"),
        "day": ("周一", "明天", "下周五"),
    },
}
_REQUESTS = {
    "en": (
        "Book a table for {person} in {city} on {day}",
        "Does {person} know {person} in {city}?",
        "Send flowers to {person} {day}",
        "How is the weather in {city} and in {city}",
        "Play something quiet",
    ),
    "zh": ("{day}送花给{person}到{city}", "{person}{person}{day}去{city}吗", "{city}天气怎么样", "放一首安静的歌"),
}


def make(folder: Path | str, rows: int = 300, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv``; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of requests; every third is Chinese.
        seed: Random seed.
        holes: The share of requests that are missing.
        test: The share of rows in ``test.csv``, the last ones.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("requests", rows, holes, test)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    written = []
    for i in range(rows):
        request, slots = marked("zh" if i % 3 == 2 else "en", rng)
        written.append({"request": request, "slots": json.dumps(slots, ensure_ascii=False)})
    return write(folder, written, test=test, holes=holes, keep=("slots",), seed=seed)


def marked(language: str, rng: np.random.Generator) -> tuple[str, list[list[int | str]]]:
    """Draw a request in ``language`` (``en`` or ``zh``) with ``rng``; return it with its slots."""
    rest = str(rng.choice(_REQUESTS[language]))
    text, slots = "", list[list[int | str]]()
    while "{" in rest:
        plain, _, after = rest.partition("{")
        label, _, rest = after.partition("}")
        words = _WORDS[language].get(label)
        value = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}" if words is None else str(rng.choice(words))
        if words is None and rng.random() < 0.4:
            value = value.partition(" ")[0]
        text += plain
        slots.append([len(text), len(text) + len(value), label])
        text += value
    return text + rest, slots
