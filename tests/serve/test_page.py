"""The page in a real browser, driven over the Chrome DevTools protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_page_in_a_browser(browser: Any, address: str, cells: Any, predictor: Any, tmp_path: Path) -> None:
    """The page shows what the predictor returns: empty, filled in step by step, with an error and after a reset."""
    browser("Emulation.setDeviceMetricsOverride", width=1200, height=1400, deviceScaleFactor=1, mobile=False)
    browser("Page.navigate", url=f"http://{address}/")
    idle = 'document.getElementById("result")?.getAttribute("aria-busy") === "false"'
    value = 'document.querySelector("#result .value")?.textContent'
    shares = 'document.querySelectorAll("#result .shares li").length'
    browser.wait(idle)

    def now(answer: str) -> None:
        """Wait until the page shows this prediction and the contribution of every modality."""
        browser.wait(f"{value} === {json.dumps(answer)} && {shares} === 5 && {idle}")

    # An empty form is predicted too.
    now(predictor.predict([{}], batch_invariant=True)[0].value)
    names = [column["name"] for column in predictor_form(browser)]
    assert names == [column.name for column in predictor.schema.inputs]
    # Every control has a label that a screen reader would read.
    unnamed = """[...document.querySelectorAll("input, select, textarea, canvas, button")].filter((node) =>
        !node.hidden && !node.closest("[hidden]") && !node.labels?.length && !node.getAttribute("aria-label")
        && !node.textContent.trim()).length"""
    assert browser.run(unnamed) == 0

    row = next(row for row in cells if {"photo", "note", "sound", "temperature"} <= row.keys())
    note = json.dumps(row["note"])
    browser.run(f"""(() => {{ const note = document.querySelector("textarea"); note.value = {note};
        note.dispatchEvent(new Event("input", {{ bubbles: true }})); }})()""")
    (want,) = predictor.predict([{"note": row["note"]}], batch_invariant=True)
    browser.wait(f"document.querySelector('#result .hint')?.textContent.startsWith('Missing') && {idle}")
    now(want.value)
    figure = 'document.querySelector("#result .bars .figure").textContent'
    first = f"{100 * max(want.targets['event']['probabilities'].values()):.1f} %"
    browser.wait(f"{figure} === {json.dumps(first)}")

    # A picture and a sound, as files.
    document = browser("DOM.getDocument")["root"]["nodeId"]
    options = {"note": row["note"]}
    for name, ending, shown in (("photo", "png", "img"), ("sound", "wav", "audio")):
        path = tmp_path / f"given.{ending}"
        path.write_bytes(row[name])
        node = browser("DOM.querySelector", nodeId=document, selector=f'input[type=file][name="{name}"]')["nodeId"]
        browser("DOM.setFileInputFiles", nodeId=node, files=[str(path)])
        browser.wait(f"document.querySelector('fieldset {shown}') !== null")
        options[name] = row[name]
        (want,) = predictor.predict([options], batch_invariant=True)
        missing = f"Missing: {', '.join(want.missing)}."
        browser.wait(f"document.querySelector('#result > .hint')?.textContent === {json.dumps(missing)}")
        now(want.value)
    # Attribution maps on request.
    browser.run("[...document.querySelectorAll('#result button')].at(-1).click()")
    browser.wait("document.querySelectorAll('#result img.map').length === 2")
    assert browser.run("document.querySelector('#result .words').textContent.trim().length") > 0
    browser.picture("filled")

    # A series drawn with the pointer.
    place = "const r = document.querySelector('canvas').getBoundingClientRect(); return [r.x, r.y, r.width, r.height];"
    box = browser.run(f"(() => {{ {place} }})()")
    for i, kind in enumerate(["mousePressed", *["mouseMoved"] * 6, "mouseReleased"]):
        x, y = box[0] + box[2] * (i + 1) / 9, box[1] + box[3] * (0.2 + 0.6 * (i % 2))
        browser("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    browser.wait("!document.querySelector('#result > .hint').textContent.includes('sensor')")

    # An invalid file is reported beside its column.
    node = browser("DOM.querySelector", nodeId=document, selector='input[type=file][name="photo"]')["nodeId"]
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("no picture", encoding="utf-8")
    browser("DOM.setFileInputFiles", nodeId=node, files=[str(wrong)])
    browser.wait("document.querySelector('#result .wrong')?.textContent.startsWith('photo: not a picture')")
    assert browser.run("[...document.querySelectorAll('fieldset .wrong')].filter((p) => !p.hidden).length") == 1
    browser.picture("refused")

    # On a phone, in the dark: nothing is wider than the screen.
    browser("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.run('document.querySelector("button[type=reset]").click()')
    now(predictor.predict([{}], batch_invariant=True)[0].value)
    assert browser.run("document.querySelectorAll('fieldset img').length") == 0
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    browser.picture("phone")

    # Nothing was loaded from other sites, and the console has only the error provoked above.
    requested = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert requested
    assert all(url.startswith((f"http://{address}/", "data:", "blob:http://127")) for url in requested), requested
    assert not [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
    logged = [e["params"]["entry"]["text"] for e in browser.events if e["method"] == "Log.entryAdded"]
    assert all("422" in text for text in logged), logged


def predictor_form(browser: Any) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = browser.run("fetch('schema').then((a) => a.json()).then((form) => form.columns)")
    return results
