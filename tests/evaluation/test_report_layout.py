"""Report wording, colours, chart labels, collapsible sections and responsive layout."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sensorium.core.batch import Batch, Field
from sensorium.core.goal import Goal
from sensorium.core.text_columns import width
from sensorium.evaluation.attribution import Map
from sensorium.evaluation.evaluate import evaluate
from sensorium.evaluation.formatting import words
from sensorium.model import Model
from sensorium.reporting.attribution_maps import LEAST, drawn, scale
from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.learning_curves import MINIMISED, curves
from sensorium.reporting.overlay import AGAINST, FOR
from sensorium.reporting.page import LEGEND, LINKS, OPEN_ROWS, Section, table_html, write_page
from sensorium.reporting.report import OPEN, write_report
from sensorium.reporting.svg import PLACE, STYLE, W, legend, wrapped
from sensorium.tasks.classification import Classification
from sensorium.tasks.ordinal import Ordinal
from sensorium.tasks.svm import Svm

Make = Callable[..., tuple[Model, list[Batch]]]


class Page(HTMLParser):
    """Every tag with the tags around it, and the words outside of closed parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.around: list[tuple[str, dict[str, str | None]]] = []
        self.tags: list[tuple[str, dict[str, str | None], list[tuple[str, dict[str, str | None]]]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), list(self.around)))
        if tag not in ("meta", "img", "br"):
            self.around.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.around.pop()[0] == tag


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_verdicts_name_the_baseline(make: Make) -> None:
    for kind, result in {
        "classification": "always predicting the most frequent class of the training rows",
        "multilabel": "predicting the frequency of each label in the training rows",
        "regression": "always predicting the median of the training rows",
    }.items():
        model, batches = make(rows=80, kinds=(kind,))
        known = {name: model.tasks[name].baseline([target]) for name, target in batches[0].targets.items()}
        (target,) = evaluate(model, batches, baselines=known, resamples=20).targets.values()
        assert result in target.findings[0]


def test_only_averages_over_classes_are_called_macro(make: Make) -> None:
    model, batches = make(rows=80, kinds=("classification", "multilabel"))
    evaluation = evaluate(model, batches, resamples=3)
    three = evaluation.targets["animal"]
    macro = {name for name in three.metrics if three.named(name).startswith("macro ")}
    assert macro == {"precision", "recall", "f1", "auroc"}
    tags = evaluation.targets["tags"]
    assert tags.named() == "macro F1"
    assert tags.named("f1_micro") == "F1 micro"
    assert "macro precision" in evaluation.text()
    assert words("auroc") == "AUROC"
    two = Classification(Goal.of(SimpleNamespace(classes=["no", "yes"], ragged=False), "y"), 3)  # type: ignore[arg-type]
    assert "auroc" not in two.scorer().macro, "of two classes it is that of the second"
    assert "f1" in two.scorer().macro


@pytest.mark.parametrize("kind", [Classification, Ordinal, Svm])
def test_reported_losses_have_no_weights_or_smoothing(kind: Any) -> None:
    reader = SimpleNamespace(classes=["1", "2", "3"], ragged=False, in_order=True)
    goal = Goal.of(reader, "y")  # type: ignore[arg-type]
    options = {"balance": 1.0} | ({} if kind is Svm else {"smoothing": 0.2})
    weighted, plain = kind(goal, 4, **options), kind(goal, 4)
    share = torch.tensor([0.7, 0.2, 0.1])
    weighted.frequency.copy_(share)
    plain.frequency.copy_(share)
    output = torch.randn(6, 3).log_softmax(dim=1)
    target = Field(torch.tensor([[0.0], [1], [2], [0], [1], [2]]), torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(weighted.reported_loss(output, target), plain.loss(output, target))
    assert not torch.allclose(weighted.loss(output, target), plain.loss(output, target))
    if kind is Classification:
        expected = F.nll_loss(output, target.data[:, 0].long(), reduction="none")
        torch.testing.assert_close(weighted.reported_loss(output, target), expected)


def test_hardest_rows_have_the_largest_unweighted_loss(make: Make) -> None:
    model, batches = make(rows=80)
    model.tasks["animal"].balance = 1.0
    model.tasks["animal"].frequency.copy_(torch.tensor([0.9, 0.05, 0.05]))
    target = evaluate(model, batches, resamples=3, subsets=False).targets["animal"]
    chances = [
        p["probabilities"][t] if t is not None else np.nan for p, t in zip(target.predictions, target.truths, strict=True)
    ]
    assert target.losses == pytest.approx(-np.log(chances), abs=1e-4, nan_ok=True)


def test_losses_share_a_chart_and_the_objective_has_its_own(quick_fit: Any) -> None:
    history = quick_fit(overrides=["model.tasks.event={kind: classification, balance: 1.0}"]).history
    explanation = curves(history)
    assert next(iter(explanation)) == "loss"
    assert set(explanation["loss"]) == {"training", "validation"}
    assert explanation["loss"]["validation"] != explanation[MINIMISED]["validation"], "classes have weights there"
    assert {"training", "training, streams left out", "validation"} == set(explanation[MINIMISED])
    assert all(np.isfinite(v).all() for line in explanation.values() for v in line.values())
    several = curves([{f"{split}_unweighted_loss_{t}": 1.0 for split in ("train", "valid") for t in ("a", "b")}])
    assert {name: set(lines) for name, lines in several.items()} == {
        "loss of a": {"training", "validation"},
        "loss of b": {"training", "validation"},
    }


# ── words of a text ────────────────────────────────────────────────────────────────────────────────────────────────────


def text_map(values: list[float], value: float, blank: float | None, *, measured: bool = True) -> Map:
    names = [f" word{i}" for i in range(len(values))]
    return Map(
        1, "t", "probability of x", "note", "text", "ids", "shapley", value, blank, np.array(values), names=names,
        measured=measured,
    )  # fmt: skip


def opacity(one: Map) -> list[float]:
    return [float(a) for a in re.findall(r"rgba\(\d+,\d+,\d+,([\d.]+)\)", drawn(one))]


def test_word_colours_are_proportional_to_their_contribution() -> None:
    strong = opacity(text_map([0.4, -0.1], 0.9, 0.6))
    assert strong[0] == pytest.approx(0.7), "it does more than all together"
    assert strong[1] == pytest.approx(0.7 * 0.1 / 0.4, abs=0.01)
    half = opacity(text_map([0.2, 0.2], 0.9, 0.5))
    assert half == pytest.approx([0.35, 0.35])
    weak = opacity(text_map([0.004, -0.002], 0.902, 0.9))
    assert max(weak) <= 0.02, "a text that moves nothing has no dark word"
    assert scale(text_map([0.004], 0.902, 0.9)) == pytest.approx(LEAST * 0.902)
    hidden = opacity(text_map([0.011, 0.01], 0.55, None))
    assert max(hidden) < 0.1, "occlusion says no blank, and yet how far the answer falls"
    ranked = opacity(text_map([3.0, 1.5], 0.9, None, measured=False))
    assert ranked == pytest.approx([0.7, 0.35]), "where values only rank, the strongest is the darkest"
    assert opacity(text_map([0.0, 0.0], 0.5, 0.5)) == [0.0, 0.0]


def test_the_server_gets_the_same_colour_scale() -> None:
    one = text_map([0.2, 0.2], 0.9, 0.5)
    assert one.to_json()["scale"] == scale(one) == pytest.approx(0.4)
    script = files("sensorium.serve").joinpath("page", "page.js").read_text(encoding="utf-8")
    assert "one.scale" in script


# ── colours ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def colours(css: str) -> list[dict[str, str]]:
    """The variables of a style, in light and in dark."""
    css = re.sub(r"\s", "", css)
    light, dark = css.split("@media(prefers-color-scheme:dark)", 1)
    return [dict(re.findall(r"(--[a-z]+):(#[0-9a-f]+)", part.split("}")[0])) for part in (light, dark)]


def test_colours_are_the_same_on_all_pages(make: Make, tmp_path: Path) -> None:
    served = colours(files("sensorium.serve").joinpath("page", "page.css").read_text(encoding="utf-8"))
    for ours, theirs in zip(colours(STYLE), served, strict=True):
        assert {"--for", "--against", "--missing"} <= ours.keys()
        assert all(ours[name] == theirs[name] for name in ("--for", "--against", "--missing"))
    assert colours(STYLE)[0]["--for"] == f"#{bytes(FOR).hex()}", "pictures are painted in the same"
    assert colours(STYLE)[0]["--against"] == f"#{bytes(AGAINST).hex()}"
    script = files("sensorium.serve").joinpath("page", "page.js").read_text(encoding="utf-8")
    result = re.findall(r"</i>([^<]+)</span>", LEGEND)
    assert len(result) == 3
    assert all(f'"{words}"' in script for words in result), "the legend says the same there"
    model, batches = make(rows=40)
    report = write_report(tmp_path / "r.html", evaluate(model, batches, resamples=3), title="t").read_text(encoding="utf-8")
    assert STYLE in report


def test_explanation_bars_use_the_colours_and_mark_missing_streams() -> None:
    chart = bar_chart([Bar("a", 0.5), Bar("b", -0.2), Bar("c", 0.0, missing=True)], title="t", signed=True)
    assert re.findall(r"<rect[^>]*fill:var\((--[a-z]+)\)", chart) == ["--for", "--against"]
    assert "missing</text>" in chart
    assert "var(--missing)" in chart


def test_explanation_pages_have_a_legend(trained: Any, scenes: Path, tmp_path: Path) -> None:
    trained.explain(scenes / "test.csv", row=1, out=tmp_path / "e.html", where=False)
    assert (tmp_path / "e.html").read_text(encoding="utf-8").count(LEGEND) == 1


# ── labels, folds, phones ──────────────────────────────────────────────────────────────────────────────────────────────

NAMES = [
    "table+photo+note+sound+sensor",
    "a name of several words that goes on for longer than a line",
    "averylongnamewithoutanyplacetobreakit_0123456789_0123456789",
    "商品描述与评论的全部文字以及图片说明",
    "x",
]


def test_bar_labels_are_complete_and_inside_the_chart() -> None:
    chart = bar_chart([Bar(name, 0.5) for name in NAMES], title="t")
    ends = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="end" style="fill:var\(--ink\)" >([^<]*)</text>', chart)
    labels = [(float(x), float(y), predicted) for x, y, predicted in ends if float(x) < W / 2]
    assert "".join(predicted for _, _, predicted in labels).replace(" ", "") == "".join(NAMES).replace(" ", "")
    assert all(x - PLACE * width(predicted) >= 0 for x, _, predicted in labels)
    lines = [y for _, y, _ in labels]
    assert (np.diff(lines) >= 12).all(), "no line lies on another"
    assert lines[-1] < float(re.findall(r'viewBox="0 0 \d+ ([\d.]+)"', chart)[0])


@pytest.mark.parametrize("name", NAMES)
def test_names_wrap_at_spaces_and_plus_signs(name: str) -> None:
    lines = wrapped(name, 190)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")
    assert all(PLACE * width(line) <= 190 for line in lines)
    assert wrapped(name * 200, 190)[-1].endswith("…")


def test_long_legends_wrap_inside_the_chart() -> None:
    parts, tall = legend([f"a line with a name {i}" for i in range(9)], 52.0)
    xs = [float(x) for x in re.findall(r'<text x="([\d.]+)"', "".join(parts))]
    assert len(xs) == 9
    assert max(xs) + PLACE * 20 <= W
    assert tall > 60
    assert "dasharray" in parts[8], "colours come again: the line is dashed then"
    assert "dasharray" not in parts[0]


def test_long_reports_collapse_all_but_the_first_rows(make: Make, tmp_path: Path) -> None:
    model, batches = make(rows=80)
    rows = [{"note": f"text {i}"} for i in range(80)]
    path = write_report(
        tmp_path / "r.html", evaluate(model, batches, resamples=3), title="t", rows=rows, kinds={"note": "text"},
        recipe_yaml="a: 1",
    )  # fmt: skip
    page = Page(path.read_text(encoding="utf-8"))
    folded = [attributes for tag, attributes, _ in page.tags if tag == "details" and attributes.get("class") == "row"]
    assert len(folded) == 18
    assert ["open" in attributes for attributes in folded] == [i < OPEN for i in range(18)]
    # Whatever folds can be unfolded by the keyboard: it begins with a summary, which is in the order of tabs.
    for i, (tag, _, _) in enumerate(page.tags):
        if tag == "details":
            assert page.tags[i + 1][0] == "summary"
    assert not [attributes for _, attributes, _ in page.tags if attributes.get("tabindex") == "-1"]
    pre = next(around for tag, _, around in page.tags if tag == "pre")
    assert any(tag == "details" and "open" not in attributes for tag, attributes in pre)


def test_every_table_scrolls(make: Make, tmp_path: Path) -> None:
    model, batches = make(rows=80, kinds=("classification", "multilabel", "regression"))
    known = {name: model.tasks[name].baseline([target]) for name, target in batches[0].targets.items()}
    path = write_report(tmp_path / "r.html", evaluate(model, batches, baselines=known, resamples=3), title="t")
    page = Page(path.read_text(encoding="utf-8"))
    tables = [around[-1][1] for tag, _, around in page.tags if tag == "table"]
    assert len(tables) > 6
    assert all(box.get("class") == "scroll" and box.get("tabindex") == "0" for box in tables)


def test_long_tables_and_navigation_collapse(tmp_path: Path) -> None:
    rows = [[f"c{i}", str(i)] for i in range(OPEN_ROWS + 5)]
    html = table_html(["class", "rows"], rows)
    first, rest = html.split("<details>")
    assert "c14" in first
    assert "c15" not in first
    assert "<summary>5 more rows</summary>" in rest
    assert "<details>" not in table_html(["class", "rows"], rows[:OPEN_ROWS])
    sections = [Section(f"Row {i}", "told", folds="open" if i < 2 else "closed") for i in range(12)]
    text = write_page(tmp_path / "p.html", "t", sections).read_text(encoding="utf-8")
    page = Page(text)
    parts = [attributes for tag, attributes, around in page.tags if tag == "details" and around[-1][0] == "section"]
    assert ["open" in attributes for attributes in parts] == [True, True] + [False] * 10
    links = [any(tag == "details" for tag, _ in around) for tag, attributes, around in page.tags if tag == "a"]
    assert links.count(True) == 12 - LINKS


def test_explained_rows_after_the_first_collapse(trained: Any, scenes: Path, tmp_path: Path) -> None:
    trained.explain(scenes / "test.csv", sample=6, out=tmp_path / "e.html", where=False)
    page = Page((tmp_path / "e.html").read_text(encoding="utf-8"))
    parts = [
        "open" in attributes for tag, attributes, around in page.tags if tag == "details" and around[-1][0] == "section"
    ]
    assert parts == [True, True, False, False, False, False]


MEASURED = """JSON.stringify({
  wide: document.documentElement.scrollWidth,
  high: document.documentElement.scrollHeight,
  hidden: [...document.querySelectorAll('table')].filter((table) => {
    const box = table.parentElement;
    return table.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== 'auto';
  }).length,
  cut: [...document.querySelectorAll('svg text')].filter((text) => {
    const a = text.getBoundingClientRect(), b = text.ownerSVGElement.getBoundingClientRect();
    return text.checkVisibility() && (a.left < b.left - 1 || a.right > b.right + 1);
  }).map((text) => text.textContent),
})"""


def test_pages_fit_a_phone(trained: Any, scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("websockets", reason="a browser is spoken to by websockets")
    import json

    from benchmarks import browser

    if browser.executable() is None:
        pytest.skip("there is no chromium on this machine")
    trained.evaluate(scenes / "test.csv", report=tmp_path / "report.html", robustness=True)
    trained.explain(scenes / "test.csv", sample=8, out=tmp_path / "explained.html", explainer="occlusion")
    with browser.page() as page:
        page.ask("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        for name, most in (("report", 14_000), ("explained", 10_000)):
            page.opened(f"file://{tmp_path}/{name}.html")
            result = json.loads(page.run(MEASURED))
            assert result["wide"] <= 390, name
            assert result["hidden"] == 0, name
            assert result["cut"] == [], name
            assert result["high"] < most, name
