"""The charts of the page, drawn from answers in a JavaScript engine without a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript engine on this machine")
DOM = """
class Node {
  constructor(tag) { this.tag = tag; this.attributes = {}; this.children = []; this.textContent = ""; this.style = {}; }
  setAttribute(name, value) { this.attributes[name] = value; }
  append(...parts) { this.children.push(...parts); }
  addEventListener() {}
}
const idle = new Node("body");
const create = (tag) => new Node(tag);
const document = { createElement: create, createElementNS: (_, tag) => create(tag), getElementById: () => idle };
"""


def shown(
    answer: dict[str, Any], tmp_path: Path, before: str = "", places: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """What the page shows of an answer, as nodes; with ``places`` drawn on their picture."""
    folder = files("sensorium.serve") / "page"
    shared = (folder / "recording.js").read_text(encoding="utf-8").replace("export ", "")
    page = (folder / "page.js").read_text(encoding="utf-8").partition("// ── start")[0]
    functions = shared + re.sub(r"^import .*;$", "", page, flags=re.MULTILINE)
    prediction = {"targets": {"load": answer}, "missing": [], "places": {} if places is None else {"load": places}}
    program = f"{DOM}\n{functions}\n{before}\nconsole.log(JSON.stringify(renderPrediction({json.dumps(prediction)})));"
    script = tmp_path / "page.js"
    script.write_text(program, encoding="utf-8")
    done = subprocess.run(["node", script], capture_output=True, text=True, check=True, timeout=60)
    nodes: list[dict[str, Any]] = json.loads(done.stdout)
    return nodes


def marks(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return next(node for node in nodes if "spans" in node["attributes"].get("class", ""))


def test_spans_along_time_are_a_strip_and_those_of_a_text_marked_words(tmp_path: Path) -> None:
    answer = {"value": [[0, 2.5, "walk"], [5, 10, "run"]], "confidence": 0.9}
    strip = marks(shown(answer, tmp_path))
    assert [mark["style"]["width"] for mark in strip["children"]] == ["25%", "50%"]
    assert [mark["style"]["marginLeft"] for mark in strip["children"]] == ["0%", "25%"]
    words = marks(
        shown(
            {"value": [[4, 7, "person"]]},
            tmp_path,
            'form = {targets: [{name: "load", on: "t"}]}; cells.set("t", "met Ann 🙂");',
        )
    )
    before, mark, after = words["children"]
    assert (before, after) == ("met ", " 🙂")
    assert mark["children"][0] == "Ann"


def points(node: dict[str, Any]) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in node["attributes"]["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def drawings(nodes: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [node["children"][0]["children"] for node in nodes if node["tag"] == "figure"]


def test_a_forecast_is_a_line_within_its_interval(tmp_path: Path) -> None:
    answer = {
        "value": [2, 3, 4],
        "quantiles": {"0.1": [1, 1, 1], "0.5": [2, 3, 4], "0.9": [3, 5, 9]},
        "times": ["a", "b", "c"],
    }
    ((band, line, *words),) = drawings(shown(answer, tmp_path))
    assert [len(points(one)) for one in (band, line)] == [6, 3]
    lower, upper = points(band)[:3], points(band)[3:][::-1]
    for (x, y), (_, low), (_, high) in zip(points(line), lower, upper, strict=True):
        assert high <= y <= low  # downwards on a screen
        assert 56 <= x <= 592
    assert points(line)[0][0] < points(line)[1][0] < points(line)[2][0]
    assert {word["textContent"] for word in words} == {"1", "9", "a", "c"}


def test_several_series_have_a_chart_each(tmp_path: Path) -> None:
    steps = [[1, 10], [2, 20]]
    answer = {"value": steps, "quantiles": {"0.1": steps, "0.5": steps, "0.9": steps}}
    assert len(drawings(shown(answer, tmp_path))) == 2


def test_a_curve_of_survival_falls_over_time(tmp_path: Path) -> None:
    answer = {"value": 3.5, "median": None, "group": "high", "survival": {"time": [1, 2, 8], "chance": [0.9, 0.5, 0.1]}}
    nodes = shown(answer, tmp_path)
    ((line, *words),) = drawings(nodes)
    (x1, y1), (x2, y2), (x3, y3) = points(line)
    assert x3 - x2 == pytest.approx(6 * (x2 - x1), abs=0.2)
    assert y1 < y2 < y3
    assert {word["textContent"] for word in words} == {"0", "0.9", "1", "8"}
    assert re.search("group high", json.dumps(nodes[2]["children"]))


def test_boxes_regions_and_points_are_drawn_in_pixels_of_the_picture(tmp_path: Path) -> None:
    placed = {
        "column": "photo",
        "size": [200, 100],
        "places": [
            {"label": "dog", "score": 0.9, "thin": False, "box": [10, 20, 60, 90]},
            {"label": "dog", "thin": False, "region": "data:image/png;base64,AAAA"},
            {"label": "edge", "thin": True, "region": "data:image/png;base64,BBBB"},
            {"label": "cat", "thin": False, "points": [{"name": "nose", "x": 120.5, "y": 33, "score": 0.5}]},
        ],
    }
    nodes = shown({"value": ["unwanted"], "confidence": 0.5}, tmp_path, places=placed)
    assert "unwanted" not in json.dumps(nodes), "drawn answers are not printed too"
    (figure,) = (node for node in nodes if node["tag"] == "figure")
    sheet, words = figure["children"]
    assert sheet["attributes"]["viewBox"] == "0 0 200 100"
    parts = sheet["children"]
    box = next(node for node in parts if node["tag"] == "rect" and node["attributes"].get("stroke"))
    assert [box["attributes"][key] for key in ("x", "y", "width", "height")] == [10, 20, 50, 70]
    regions = [node for node in parts if node["tag"] == "mask"]
    assert [node["children"][0]["attributes"]["href"][-4:] for node in regions] == ["AAAA", "BBBB"]
    covers = [node["attributes"] for node in parts if node["tag"] == "rect" and "mask" in node["attributes"]]
    assert [cover["fill-opacity"] for cover in covers] == [0.45, 1]
    assert covers[0]["fill"] == box["attributes"]["stroke"], "a label has one colour"
    (circle,) = (node for node in parts if node["tag"] == "circle")
    assert (circle["attributes"]["cx"], circle["attributes"]["cy"]) == (120.5, 33)
    texts = [node["textContent"] for node in parts if node["tag"] == "text"]
    assert texts == ["dog 0.90", "nose"]
    assert [span["children"][1] for span in words["children"]] == ["dog (2)", "edge (1)", "cat (1)"]
    squares = [span["children"][0]["style"]["backgroundColor"] for span in words["children"]]
    assert squares[0] == box["attributes"]["stroke"]
    assert len(set(squares)) == 3
