"""The report: one complete, safe, self-contained page."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from sensorium.core.batch import Batch
from sensorium.core.errors import CellError
from sensorium.core.report_views import Curve
from sensorium.evaluation.evaluate import evaluate
from sensorium.model import Model
from sensorium.reporting import charts
from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.cell_html import shown
from sensorium.reporting.learning_curves import curves, curves_svg, line_chart
from sensorium.reporting.report import write_report
from sensorium.reporting.svg import ticks

Make = Callable[..., tuple[Model, list[Batch]]]
EVIL = "<script>alert(1)</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}
CURVES = [{"epoch": i, "train_loss": 1 / i, "valid_loss": 1.2 / i, "valid_accuracy": 1 - 1 / i} for i in range(1, 6)]


class Page(HTMLParser):
    """Fails on a page whose tags do not close in order; gathers what a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(mode: str = "RGB", size: tuple[int, int] = (500, 300)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return out.getvalue()


def sound(seconds: float = 1.0) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(int(8000 * seconds)) / 9).astype(np.float32), 8000, format="FLAC")
    return out.getvalue()


def media(row: Mapping[str, Any], column: str) -> bytes | None:
    if row["age"] == 1:
        raise CellError(f"no such file {EVIL}")
    return {"image": picture(), "audio": sound()}.get(column)


def written(make: Make, path: Path, **arguments: Any) -> str:
    kinds = arguments.pop("tasks", ("classification",))
    model, batches = make(rows=80, kinds=kinds)
    known = {name: model.tasks[name].baseline([target]) for name, target in batches[0].targets.items()}
    evaluation = evaluate(model, batches, baselines=known, resamples=20)
    rows = [
        {"image": f"{i}.png", "audio": f"{i}.wav", "note": f"{EVIL} & co", "sensor": "1 2 3.5 -1e2", "age": i % 3}
        for i in range(80)
    ]
    columns = {"image": "image", "audio": "audio", "note": "text", "sensor": "series", "age": "number"}
    options: dict[str, Any] = {
        "title": f"Animals {EVIL}",
        "summary": {"rows": "80", "model": EVIL},
        "curves": CURVES,
        "rows": rows,
        "media": media,
        "kinds": columns,
        "problems": [f"row {i}, column 'image': no such file {EVIL}" for i in range(30)],
        "recipe_yaml": f"version: 1\ntitle: {EVIL}\n",
    }
    return write_report(path / "report.html", evaluation, **{**options, **arguments}).read_text(encoding="utf-8")


def test_the_page_has_every_section(make: Make, tmp_path: Path) -> None:
    text = written(make, tmp_path)
    page = Page(text)
    ids = {section.get("id") for section in page.all("section")}
    assert ids == {"summary", "target-1", "curves", "problems", "recipe"}
    for heading in ("Scores", "Contribution of each stream", "Confusion matrix", "Scores by class", "Hardest rows"):
        assert heading in page.text
    for words in (
        "significantly better than",
        "best single stream",
        "most important stream",
        "AUROC",
        "Shapley",
        "version: 1",
        "10 more",
    ):
        assert words in page.text
    links = {link["href"] for link in page.all("a") if link.get("class") != "skip"}
    assert links <= {f"#{name}" for name in ids}
    titles = [svg["aria-label"] or "" for svg in page.all("svg")]
    for what in ("accuracy by streams", "confusion matrix", "calibration of", "loss by epoch", "sensor: a series"):
        assert any(what in title for title in titles), what


def test_images_and_audio_are_embedded(make: Make, tmp_path: Path) -> None:
    page = Page(written(make, tmp_path, hardest=20))
    assert page.all("img")
    assert all((img["src"] or "").startswith("data:image/") and img["alt"] for img in page.all("img"))
    assert page.all("audio")
    assert all((a["src"] or "").startswith("data:audio/wav") and "controls" in a for a in page.all("audio"))
    assert "cannot be opened: no such file" in page.text
    assert len(page.all("article")) == 20 + 6


def test_the_page_loads_no_resources_and_runs_no_scripts(make: Make, tmp_path: Path) -> None:
    text = written(make, tmp_path)
    page = Page(text)
    assert not page.all("script")
    assert EVIL in page.text
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"url\(|@import|\son\w+=", text)
    policy = next(meta["content"] or "" for meta in page.all("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert not page.all("link")


def test_every_kind_of_target_and_a_bare_page(make: Make, tmp_path: Path) -> None:
    page = Page(written(make, tmp_path, tasks=("classification", "multilabel", "regression")))
    assert {f"target-{i}" for i in (1, 2, 3)} <= {s.get("id") for s in page.all("section")}
    assert "Predicted and true" in page.text
    model, batches = make({"image": 1.0}, rows=20)
    bare = write_report(tmp_path / "bare.html", evaluate(model, batches, resamples=5), title="Bare")
    page = Page(bare.read_text(encoding="utf-8"))
    assert "None were found." in page.text
    assert {s.get("id") for s in page.all("section")} == {"summary", "target-1", "problems"}
    empty = write_report(tmp_path / "empty.html", evaluate(model, []), title="Empty")
    assert "no rows to evaluate" in Page(empty.read_text(encoding="utf-8")).text


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1", "CMYK"])
def test_images_of_every_mode_become_thumbnails(mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (400, 1000)).save(out, "TIFF")
    html = shown("a.tif", "image", out.getvalue(), name="photo")
    assert "data:image/" in html
    assert len(html) < 20_000


def test_unreadable_cells_are_reported() -> None:
    assert "missing" in shown(None, "image", None, name="photo")
    assert "cannot be shown" in shown("a.png", "image", b"no picture", name="photo")
    assert "cannot be shown" in shown("a.png", "image", picture()[:200], name="photo")
    assert "cannot be shown" in shown("a.wav", "audio", b"no sound", name="voice")
    assert "cannot be shown" in shown("words", "series", None, name="sensor")
    assert shown("x" * 5000, "text", None, name="note").endswith("…")
    assert shown(EVIL, "image", None, name="photo") == "&lt;script&gt;alert(1)&lt;/script&gt;"


def test_long_sounds_are_cut_and_series_come_in_many_forms() -> None:
    assert len(shown("a.flac", "audio", sound(60), name="voice")) < 300_000
    npy = io.BytesIO()
    np.save(npy, np.arange(12.0).reshape(6, 2))
    for cell, data in (
        (np.arange(5), None),
        ("[1, 2]", None),
        ([1, 2.5], None),
        ("a.npy", npy.getvalue()),
        ("a", b"t\n1,2\n2,5\n"),
    ):
        assert "<polyline" in shown(cell, "series", data, name="sensor")


def test_charts_are_well_formed_for_any_input() -> None:
    nan = float("nan")
    made = [
        line_chart({EVIL: [1.0, nan, 2.0], "b": []}, title=EVIL),
        line_chart({}, title="none"),
        bar_chart([Bar("a", nan), Bar(EVIL, -1.0, -2.0, 0.5)], title="bars", reference=Bar("plain", 0.3)),
        bar_chart([], title="none"),
        charts.dotted(Curve("c", "", points=[{"x": 0.5, "y": 0.6, "rows": 3}], size="rows", ideal="diagonal"), title="r"),
        charts.dotted(Curve("c", ""), title="r"),
        charts.heat_map([EVIL] * 12, np.eye(12, dtype=int).tolist(), title="h"),
        charts.scatter([1.0, nan], [2.0, 1.0], title="s"),
        charts.scatter([5.0], [5.0], title="s"),
        charts.sparkline([], title="s"),
        charts.sparkline([3.0] * 1000, title="s"),
    ]
    for svg in made:
        ElementTree.fromstring(svg)
        assert "nan" not in svg.replace("nan</", "")
        assert "<script" not in svg


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (1e-7, 2e-7), (1e6, 3e6), (0.1, 0.100001)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    result = ticks(low, high)
    assert 2 <= len(result) <= 6
    assert all(low - 1e-9 * (high - low) <= value <= high + 1e-9 * (high - low) for value in result)


def test_learning_curves_pair_training_and_validation(tmp_path: Path) -> None:
    explanation = curves([*CURVES, {"epoch": 6, "valid_loss": 0.1, "lr": 1e-3}])
    assert {name: list(lines) for name, lines in explanation.items()} == {
        "loss": ["training", "validation"],
        "accuracy": ["validation"],
    }
    assert len(explanation["loss"]["training"]) == 6
    assert np.isnan(explanation["loss"]["training"][-1])
    picture = curves_svg(CURVES, tmp_path / "curves.svg")
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    assert root.tag.endswith("svg")
    assert picture.read_text(encoding="utf-8").count("<path") == 3
    curves_svg([], tmp_path / "none.svg")
    ElementTree.fromstring((tmp_path / "none.svg").read_text(encoding="utf-8"))
