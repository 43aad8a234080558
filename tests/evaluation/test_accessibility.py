"""Accessibility of pages: names, heading order and links."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sensorium.data.tables.table import Table


class Outline(HTMLParser):
    """Every tag with its attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, *names: str) -> Iterator[dict[str, str | None]]:
        return (attributes for tag, attributes in self.tags if tag in names)


@pytest.fixture(scope="module")
def pages(trained: Any, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    rows = Table.read(scenes / "test.csv").take(range(12))
    trained.evaluate(rows, report=folder / "report.html", media=scenes)
    trained.explain(rows, row=2, out=folder / "row.html", train=rows, explainer="occlusion")
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}


@pytest.mark.parametrize("name", ["report", "row"])
def test_pages_have_names_ordered_headings_and_valid_links(pages: dict[str, str], name: str) -> None:
    page = Outline(pages[name])
    assert next(page.of("html"))["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit()]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), levels
    known = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    links = [attributes["href"] or "" for attributes in page.of("a")]
    assert len(links) > 2
    assert all(link[:1] == "#" and link[1:] in known for link in links)
    assert len(list(page.of("main"))) == 1
    assert all(attributes.get("alt") for attributes in page.of("img"))
    assert all(attributes.get("aria-label") for attributes in page.of("audio", "nav"))
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in page.of("svg"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.of("th"))
    assert not [attributes for _, attributes in page.tags if any(key.startswith("on") for key in attributes)]


def test_missing_streams_contribute_zero_and_are_listed_once(trained: Any, scenes: Path, tmp_path: Path) -> None:
    row = dict(Table.read(scenes / "test.csv").row(0)) | {"photo": None, "sound": None}
    out = tmp_path / "row.html"
    explanation = trained.explain([row], row=1, media=scenes, out=out, explainer="occlusion")
    (one,) = explanation.targets["event"]
    assert {"photo", "sound"} <= set(one.missing)
    assert one.shares["photo"] == one.shares["sound"] == 0.0
    assert sum(one.shares.values()) == pytest.approx(one.value - one.nothing, abs=1e-9)
    text = out.read_text(encoding="utf-8")
    assert text.count("The row has no ") == 1
    assert "<h3>photo</h3>" not in text
    assert "the row has no photo" in explanation.maps_of(1, "event")[1].note
