"""The page in a real browser, driven over the Chrome DevTools protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_page_in_a_browser(browser: Any, address: str, cells: Any, predictor: Any, tmp_path: Path) -> None:
    """The page shows what the predictor returns: empty, filled in step by step, with an error and after a reset."""
    browser("Emulation.setDeviceMetricsOverride", width=1200, height=1400, deviceScaleFactor=1, mobile=False)
    browser("Page.navigate", url="about:blank")
    browser.events.clear()  # the browser is shared: other tests may have run before
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


def test_an_index_is_searched_by_words_a_dropped_picture_and_a_filter(browser: Any, tmp_path: Path) -> None:
    """The page of an index shows pictures, players and words of the rows that the index returns, in its order."""
    from threading import Thread

    import numpy as np
    import soundfile
    from PIL import Image

    import sensorium as sm
    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.serve.app import create
    from sensorium.serve.server import create_server

    colours, rows = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}, []
    for i in range(18):
        colour = list(colours)[i % 3]
        Image.fromarray(np.full((8, 8, 3), colours[colour], np.uint8)).save(tmp_path / f"{i}.png")
        tone = 0.3 * np.sin(2 * np.pi * 300 * (1 + i % 3) * np.arange(1600) / 8000)
        soundfile.write(tmp_path / f"{i}.wav", tone.astype(np.float32), 8000)
        rows.append({"photo": f"{i}.png", "sound": f"{i}.wav", "note": f"the {colour} one", "price": i})
    kinds = {"photo": "image", "sound": "audio", "note": "text"}
    quick = ["model.size=tiny", "training.epochs=1", "training.refit=none"]
    model = sm.fit(
        rows, task="retrieval", options={"linear": "none"}, columns=kinds, ignore=["price"], media=tmp_path,
        overrides=quick, out=tmp_path / "run", quiet=True,
    )  # fmt: skip
    sm.Index.create(tmp_path / "idx", model, rows, run=tmp_path / "run", media=tmp_path)
    index = sm.Index.open(tmp_path / "idx", device="cpu", media=UPLOADS_ONLY)
    server = create_server(create({"shop": index.predictor}, indexes={"shop": index}), port=0)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    try:
        browser.wait(lambda: server.started)
        address = f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        browser("Emulation.setEmulatedMedia", features=[])
        browser("Emulation.setDeviceMetricsOverride", width=1200, height=1000, deviceScaleFactor=1, mobile=False)
        browser.events.clear()
        browser("Page.navigate", url=f"http://{address}/")
        browser.wait("document.querySelector('#result .hint')?.textContent.startsWith('18 rows')")

        def shows(hits: Any) -> None:
            """Wait until the page lists these rows, in order, each with its score."""
            said = "[...document.querySelectorAll('.hits li > .kind')].map((p) => p.textContent.split(' · ')[2])"
            browser.wait(
                f"JSON.stringify({said}) === {json.dumps(json.dumps([h.id for h in hits], separators=(',', ':')))}"
            )
            first = browser.run("document.querySelector('.hits li > .kind').textContent")
            assert first.startswith(f"{hits[0].score:.3f} · {hits[0].side}")

        def write(field: str, value: str, event: str) -> None:
            browser.run(f"""(() => {{ const input = document.querySelector("{field}"); input.value = {json.dumps(value)};
                input.dispatchEvent(new Event("{event}", {{ bubbles: true }})); }})()""")

        write("textarea", "the blue one", "input")
        shows(index.search("the blue one", top=12))
        media = (
            "document.querySelectorAll('.hits img').length === 12 && document.querySelectorAll('.hits audio').length === 12"
        )
        browser.wait(f"{media} && [...document.querySelectorAll('.hits img')].every((img) => img.naturalWidth === 8)")
        assert "the blue one" in browser.run("document.querySelector('.hits').innerText")
        browser.picture("search_words")

        write("textarea", "", "input")
        browser.wait("document.querySelector('#result .hint')?.textContent.startsWith('18 rows')")
        box = browser.run("""(() => { const drop = document.querySelector("input[type=file][name=photo]").parentElement;
            drop.scrollIntoView({ block: "center" }); const r = drop.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2]; })()""")
        dropped = {"items": [], "files": [str(tmp_path / "1.png")], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            browser("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=dropped)
        query = {"photo": (tmp_path / "1.png").read_bytes()}
        shows(index.search(query, top=12))
        write("#filter", "price < 5", "change")
        shows(index.search(query, where="price < 5", top=12))
        browser.picture("search_filter")
        write("#filter", "prize < 5", "change")
        browser.wait("document.querySelector('#result .wrong')?.textContent.includes('prize')")
        browser.picture("search_refused")
        write("#filter", "", "change")
        shows(index.search(query, top=12))
        browser.run("document.querySelector('.hits button').click()")
        shows(index.search(row=index.search(query, top=1)[0].id, top=12))
        assert not [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
    finally:
        server.should_exit = True
        thread.join(20)
