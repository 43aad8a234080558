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


def shown(answer: dict[str, Any], tmp_path: Path) -> list[dict[str, Any]]:
    """What the page shows of an answer, as nodes."""
    folder = files("sensorium.serve") / "page"
    shared = (folder / "recording.js").read_text(encoding="utf-8").replace("export ", "")
    page = (folder / "page.js").read_text(encoding="utf-8").partition("// ── start")[0]
    functions = shared + page.replace('import { make, recorder } from "./recording.js";', "")
    prediction = {"targets": {"load": answer}, "missing": []}
    program = f"{DOM}\n{functions}\nconsole.log(JSON.stringify(renderPrediction({json.dumps(prediction)})));"
    script = tmp_path / "page.js"
    script.write_text(program, encoding="utf-8")
    done = subprocess.run(["node", script], capture_output=True, text=True, check=True, timeout=60)
    nodes: list[dict[str, Any]] = json.loads(done.stdout)
    return nodes


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
