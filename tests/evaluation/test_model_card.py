"""The report: least certain rows, explanations, model card, size limits and accessibility."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sensorium.core.answer import margin
from sensorium.core.batch import Batch
from sensorium.core.schema import Schema
from sensorium.evaluation.evaluate import evaluate
from sensorium.model import Model
from sensorium.reporting.model_card import card
from sensorium.reporting.report import MEDIA, write_report

Make = Callable[..., tuple[Model, list[Batch]]]


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_least_certain_rows_have_the_smallest_margins(make: Make) -> None:
    model, batches = make(rows=80, kinds=("classification", "multilabel", "regression"))
    evaluation = evaluate(model, batches, resamples=3, subsets=False)
    one = evaluation.targets["animal"]
    chances = [sorted(p["probabilities"].values()) for p in one.predictions]
    margins = np.array([c[-1] - c[-2] for c in chances])
    assert one.least_sure(7) == np.argsort(margins, kind="stable")[:7].tolist()
    labels = evaluation.targets["tags"]
    distance = [np.mean([abs(2 * p - 1) for p in row["probabilities"].values()]) for row in labels.predictions]
    assert labels.least_sure(1) == [int(np.argmin(distance))]
    assert evaluation.targets["price"].least_sure() == [], "a number says nothing of how sure it is"
    assert margin({"value": "only", "probabilities": {"only": 1.0}}) is None


def test_explanations_are_shown_with_their_rows(make: Make, tmp_path: Path) -> None:
    model, batches = make(rows=40)
    evaluation = evaluate(model, batches, resamples=3)
    hard = evaluation.targets["animal"].hardest(2)

    def explained(target: str, row: int) -> str:
        return f"<p>because of {target} {row}</p>" if row in hard else ""

    out = write_report(
        tmp_path / "r.html", evaluation, title="t", rows=[{"a": 1}] * 40, kinds={"a": "number"}, explained=explained
    )
    page = Page(out)
    assert all(f"because of animal {row}" in page.text for row in hard)
    assert page.text.count("because of animal") == 2
    assert "Least certain rows" in page.text
    shown = [text.split()[0] for text in page.text.split("Row ")[1:]]
    assert len(shown) == len(set(shown)) == 12 + 6, "no row is shown twice"


def test_the_card_states_known_and_unknown_facts(make: Make) -> None:
    model, batches = make(rows=120)
    evaluation = evaluate(model, batches, resamples=10)
    schema = Schema.declare({"photo": "image", "clip": "video", "noise": {"kind": "audio", "of": "clip"}})
    report = {"rows": 1234, "history": [{"seconds": 61.0}], "valid": {"rows": 200}}
    entries = dict(card(schema, evaluation, parameters=2_500_000, fusion="gated", report=report))
    assert "photo (image)" in entries["Purpose"]
    assert "noise (audio of clip)" in entries["Purpose"]
    assert "1,234 rows" in entries["Training data"]
    assert "200 validation rows" in entries["Training data"]
    assert "120 rows" in entries["Evaluation data"]
    assert "10.0 MB" in entries["Size"]
    assert "not measured" in entries["Cost"]
    scores = evaluation.targets["animal"]
    each = scores.view("per_class").to_json()
    worst = min((one for one in each if one["rows"] >= 20), key=lambda one: one["recall"])
    assert f"recall is lowest for {worst['name']}" in entries["Limitations"]
    few = evaluate(*_few(make), resamples=10)
    assert "classes with fewer than 20 rows" in dict(card(schema, few, parameters=1, fusion="", report={}))["Limitations"]


def _few(make: Make) -> tuple[Model, list[Batch]]:
    return make(rows=30)


def test_page_size_is_limited_for_large_media(make: Make, tmp_path: Path) -> None:
    """Ten thousand rows, each with a minute of sound at 48 kHz: a megabyte and a half a row once in the page."""
    model, batches = make({"image": 1.0}, rows=500)
    evaluation = evaluate(model, batches, resamples=3)
    out = io.BytesIO()
    soundfile.write(out, np.random.default_rng(0).normal(size=48_000 * 20).astype(np.float32) / 9, 48_000, format="WAV")
    rows = [{"voice": "a.wav"}] * 500
    path = write_report(
        tmp_path / "r.html",
        evaluation,
        title="t",
        rows=rows,
        kinds={"voice": "audio"},
        media=lambda row, column: out.getvalue(),
    )
    assert MEDIA / 2 < path.stat().st_size < MEDIA + 500_000
    assert "omitted to keep this page small" in path.read_text(encoding="utf-8")


def test_pages_are_accessible(trained: Any, scenes: Path, tmp_path: Path) -> None:
    trained.evaluate(scenes / "test.csv", report=tmp_path / "r.html")
    trained.explain(scenes / "test.csv", sample=3, out=tmp_path / "e.html", where=False)
    for name in ("r.html", "e.html"):
        page = Page(tmp_path / name)
        assert page.all("html")[0]["lang"] == "en"
        assert page.all("main")
        assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
        ids = {attributes.get("id") for _, attributes in page.tags}
        skip = next(link for link in page.all("a") if link.get("class") == "skip")
        assert (skip["href"] or "").removeprefix("#") in ids, "the skip link leads somewhere"
        assert all(picture["alt"] for picture in page.all("img"))
        assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
        assert all(cell.get("scope") for cell in page.all("th"))
        scrolled = [div for div in page.all("div") if div.get("class") == "scroll"]
        assert all(div.get("tabindex") == "0" and div.get("aria-label") for div in scrolled)
        levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4", "h5")]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), "no level of heading is left out"
    page = Page(tmp_path / "r.html")
    assert "Model card" in page.text
    assert page.text.count("Explanation: contribution of each stream, and attribution maps") == 3


@pytest.mark.parametrize("cell", [None, "x"])
def test_rows_without_a_target_can_be_least_certain(make: Make, tmp_path: Path, cell: Any) -> None:
    model, batches = make({"image": 0.0}, rows=40)
    evaluation = evaluate(model, batches, resamples=3)
    unknown = [i for i in evaluation.targets["animal"].least_sure(40) if evaluation.targets["animal"].truths[i] is None]
    assert unknown
    page = Page(write_report(tmp_path / "r.html", evaluation, title="t", rows=[{"a": cell}] * 40, hardest=0, least_sure=40))
    assert "true: unknown" in page.text
