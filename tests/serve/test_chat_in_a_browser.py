"""The chat page in a real browser: a dropped picture, the microphone, a streamed answer, and what comes after it."""

from __future__ import annotations

import base64
import io
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_a_picture_is_dropped_a_question_recorded_and_the_answer_streamed(
    browser: Any, chat_address: str, chat_folder: Path
) -> None:
    import soundfile

    browser("Emulation.setDeviceMetricsOverride", width=1000, height=900, deviceScaleFactor=1, mobile=False)
    browser.events.clear()
    browser("Page.navigate", url=f"http://{chat_address}/chat.html")
    browser.wait("document.querySelector('#drop button[aria-pressed]') !== null")

    def middle(selector: str) -> dict[str, float]:
        browser.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{ block: 'center' }})")
        box = browser.run(f"(({{ x, y, width, height }}) => [x, y, width, height])"
                          f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")  # fmt: skip
        return {"x": box[0] + box[2] / 2, "y": box[1] + box[3] / 2}

    def click(selector: str) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            browser("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **middle(selector))

    picture = next((chat_folder / "rows").glob("*.png"))
    dropped = {"items": [], "files": [str(picture)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser("Input.dispatchDragEvent", type=kind, data=dropped, **middle("#drop"))
    browser.wait("document.querySelector('#shown img')?.naturalWidth > 0")

    record = "#drop button[aria-pressed]"
    click(record)
    browser.wait(f"document.querySelector('{record}').getAttribute('aria-pressed') === 'true'")
    browser.run("new Promise((done) => setTimeout(done, 600))")
    click(record)
    browser.wait("document.querySelector('#shown audio') !== null")
    browser.picture("chat_asked")

    click("#text")
    browser("Input.insertText", text="what colour is it?")
    for kind in ("keyDown", "keyUp"):
        browser("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)
    answered = "document.querySelectorAll('.turn.assistant').length === {} && !document.getElementById('send').disabled"
    browser.wait(answered.format(1))
    said = browser.run("document.querySelector('.turn.assistant p').textContent")

    sent = [e["params"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    (asked,) = [e["requestId"] for e in sent if e["request"]["url"].endswith("/v1/chat/completions")]
    body = json.loads(browser("Network.getRequestPostData", requestId=asked)["postData"])
    shown, heard, text = body["messages"][0]["content"]
    assert base64.b64decode(shown["image_url"]["url"].partition(",")[2]) == picture.read_bytes()
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(heard["input_audio"]["data"])))
    assert len(sound) / rate > 0.2
    assert np.abs(sound).max() > 0.01, "the microphone was recorded"
    assert text["text"] == "what colour is it?"
    assert body["stream"] is True
    whole = urllib.request.Request(
        f"http://{chat_address}/v1/chat/completions",
        json.dumps({**body, "stream": False}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(whole, timeout=30) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"] == said

    # The next turn has what came before, and no files of its own.
    assert browser.run("document.querySelectorAll('#shown > *').length") == 0
    click("#text")
    browser("Input.insertText", text="and the shape?")
    click("#send")
    browser.wait(answered.format(2))
    assert browser.run("document.querySelectorAll('.turn').length") == 4
    browser.picture("chat_answered")

    browser("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.run("document.documentElement.scrollWidth") <= 360
    browser.picture("chat_phone")
    click("#fresh")
    assert browser.run("document.querySelectorAll('.turn').length") == 0
    browser("Emulation.setEmulatedMedia", features=[])

    requested = [e["request"]["url"] for e in sent]
    assert all(url.startswith((f"http://{chat_address}/", "data:", "blob:http://127")) for url in requested), requested
    assert not [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
    logged = [e["params"]["entry"] for e in browser.events if e["method"] == "Log.entryAdded"]
    assert not [entry["text"] for entry in logged if entry["level"] == "error"]


SLOW = """
window.aborted = 0;
window.fetch = async (path, { signal } = {}) => {
  if (path === "v1/models") return Response.json({ data: [{ id: "slow" }] });
  const line = (content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\\n\\n`;
  return new Response(new ReadableStream({ async start(control) {
    signal.addEventListener("abort", () => { window.aborted += 1; control.error(signal.reason); });
    while (!signal.aborted) {
      control.enqueue(new TextEncoder().encode(line("word ".repeat(8) + "\\n")));
      await new Promise((done) => setTimeout(done, 20));
    }
  } }));
};
"""


@pytest.mark.parametrize("width", [1000, 360])
def test_the_newest_words_are_in_view_unless_the_reader_scrolls_up_and_an_answer_is_stopped(
    browser: Any, chat_address: str, width: int
) -> None:
    browser("Emulation.setDeviceMetricsOverride", width=width, height=700, deviceScaleFactor=1, mobile=False)
    browser("Page.navigate", url=f"http://{chat_address}/chat.html")
    browser.wait("document.querySelector('#drop button[aria-pressed]') !== null")
    browser.run(SLOW)
    box = "document.getElementById('turns')" if width == 1000 else "document.scrollingElement"
    height, up = f"{box}.scrollHeight", f"({box}.scrollHeight - {box}.clientHeight - {box}.scrollTop)"

    def lengthens(by: int = 200) -> None:
        start = browser.run(height)
        browser.wait(f"{height} > {start + by}")

    browser.run("document.getElementById('text').value = 'go on'; document.getElementById('send').click()")
    browser.wait(f"{height} > 1500")
    assert browser.run(f"{up} < 100"), "the newest words are in view"
    browser.run(f"{box}.scrollTop -= 300")
    seen = browser.run(f"{box}.scrollTop")
    lengthens()
    assert browser.run(f"{box}.scrollTop") == seen, "the reader is left where earlier words are read"
    browser.run(f"{box}.scrollTop = {height}")
    lengthens()
    assert browser.run(f"{up} < 100"), "at the end it follows again"

    browser.run("document.getElementById('stop').click()")
    browser.wait("!document.getElementById('send').disabled")
    assert browser.run("window.aborted") == 1
    words = browser.run("document.querySelector('.turn.assistant p').textContent.length")
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run("document.querySelector('.turn.assistant p').textContent.length") == words > 0
    assert browser.run("document.getElementById('text').value") == ""
    assert browser.run("document.getElementById('stop').disabled")
