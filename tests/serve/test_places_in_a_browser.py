"""Boxes, regions and points of an answer, as a real browser draws them over the picture."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 200, 100


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def places() -> list[dict[str, Any]]:
    region = np.zeros((HEIGHT, WIDTH), np.uint8)
    region[60:90, 20:80] = 255
    url = "data:image/png;base64," + base64.b64encode(png(region)).decode()
    return [
        {"label": "cup", "score": 0.91, "box": [10, 10, 60, 50]},
        {"label": "floor", "region": url},
        {"label": "hand", "points": [{"x": 150, "y": 40, "name": "thumb"}]},
    ]


def test_places_are_drawn_over_their_picture(browser: Any, address: str, tmp_path: Path) -> None:
    browser("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    browser.events.clear()
    browser("Page.navigate", url=f"http://{address}/")
    browser.wait('document.getElementById("result")?.getAttribute("aria-busy") === "false"')
    browser("Fetch.enable", patterns=[{"urlPattern": "*predict*"}])
    picture = tmp_path / "grey.png"
    picture.write_bytes(png(np.full((HEIGHT, WIDTH, 3), 200, np.uint8)))
    document = browser("DOM.getDocument")["root"]["nodeId"]
    node = browser("DOM.querySelector", nodeId=document, selector='input[type=file][name="photo"]')["nodeId"]
    browser("DOM.setFileInputFiles", nodeId=node, files=[str(picture)])

    prediction = {
        "targets": {"things": {"value": "3 things"}},
        "missing": [],
        "problems": [],
        "places": {"things": {"column": "photo", "size": [WIDTH, HEIGHT], "places": places()}},
    }
    until = time.monotonic() + 20
    while not (paused := [e["params"]["requestId"] for e in browser.events if e["method"] == "Fetch.requestPaused"]):
        assert time.monotonic() < until, "nothing was asked"
        browser.run("1")
        time.sleep(0.05)
    body = base64.b64encode(json.dumps(prediction).encode()).decode()
    kind = [{"name": "Content-Type", "value": "application/json"}]
    browser("Fetch.fulfillRequest", requestId=paused[0], responseCode=200, responseHeaders=kind, body=body)
    browser("Fetch.disable")
    browser.wait("document.querySelector('svg.places') !== null")
    browser.wait("[...document.querySelectorAll('svg.places image')].length === 2")
    browser.run("new Promise((done) => setTimeout(done, 300))")
    browser.picture("places")

    box = browser.run("(({ x, y, width, height }) => ({ x, y, width, height }))"
                      "(document.querySelector('svg.places').getBoundingClientRect())")  # fmt: skip
    assert box["width"] / box["height"] == 2
    shot = browser("Page.captureScreenshot", format="png", clip={**box, "scale": 1})["data"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")).astype(int)
    scale = pixels.shape[1] / WIDTH

    def colour(x: float, y: float) -> list[int]:
        values: list[int] = pixels[int(y * scale), int(x * scale)].tolist()
        return values

    grey = [200, 200, 200]
    assert colour(35, 55) == grey, "the picture itself"
    assert colour(35, 40) == grey, "a box is not filled"
    assert np.ptp(colour(60, 30)) > 60, "the right side of the box"
    assert np.ptp(colour(50, 75)) > 20, "the region is tinted"
    assert np.ptp(colour(90, 75)) == 0, "and nothing beside it"
    assert np.ptp(colour(152, 40)) > 60, "the circle of the point"
    assert colour(150, 40) == grey, "its centre"
    words = browser.run("document.querySelector('svg.places').textContent")
    assert "cup 0.91" in words
    assert "thumb" in words
    assert browser.run("document.querySelector('figcaption').textContent") == "cup (1)floor (1)hand (1)"
