"""The chat page, run in a JavaScript engine without a browser: its requests, its display, and stopping."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript engine on this machine")
DOM = """
class Node extends EventTarget {
  constructor(tag) { super(); Object.assign(this, { tag, attributes: {}, children: [], textContent: "", value: "",
    hidden: false, disabled: false, checked: false, parent: null, classList: { add() {}, remove() {} } }); }
  setAttribute(name, value) { this.attributes[name] = value; }
  append(...parts) {
    for (const part of parts) { if (part instanceof Node) part.parent = this; this.children.push(part); }
  }
  replaceChildren(...parts) { this.children = []; this.append(...parts); }
  remove() {
    if (this.parent) this.parent.children = this.parent.children.filter((one) => one !== this);
    this.parent = null;
  }
  get isConnected() { return this.parent !== null; }
  click() { this.dispatchEvent(new Event("click")); }
  get words() { return this.textContent + this.children.map((one) => one.words ?? String(one)).join("|"); }
}
const nodes = new Map();
globalThis.document = {
  createElement: (tag) => new Node(tag),
  getElementById: (id) => { if (!nodes.has(id)) nodes.set(id, new Node(id)); return nodes.get(id); },
  querySelector: () => document.getElementById("main"),
  scrollingElement: new Node("html"),
  addEventListener() {},
};
URL.createObjectURL = () => "blob:x";
Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
globalThis.FileReader = class { readAsDataURL(file) { file.arrayBuffer().then((data) => {
  this.result = `data:${file.type};base64,${Buffer.from(data).toString("base64")}`; this.onload(); }); } };
const sent = [];
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const line = (delta) => `data: ${JSON.stringify({ choices: [{ delta }] })}\\n\\n`;
globalThis.fetch = async (path, options) => {
  if (path === "v1/models") return MODELS;
  sent.push(JSON.parse(options.body));
  if (!sent.at(-1).stream) {
    const message = { content: "red", audio: { data: "UklGRg==" } };
    return Response.json({ choices: [{ message }] });
  }
  if (options.body.includes("refuse")) {
    return Response.json({ error: { problem: "too long", fix: "shorten it" } }, { status: 422 });
  }
  const begin = line({ content: "a é" });
  const parts = [line({ role: "assistant", content: "" }), begin.slice(0, 20), begin.slice(20), line({ content: " bar" }),
    "data: [DONE]\\n\\n"];
  const body = new ReadableStream({ async start(control) {
    const aborted = Object.assign(new Error("stopped"), { name: "AbortError" });
    options.signal.addEventListener("abort", () => control.error(aborted));
    for (const part of parts) {
      if (options.body.includes("endless") && part.includes("bar")) return;
      for (const byte of new TextEncoder().encode(part)) control.enqueue(Uint8Array.of(byte));
      await wait(1);
    }
    control.close();
  } });
  return new Response(body);
};
"""
STEPS = """
const at = (id) => document.getElementById(id);
async function ask(text, files = []) {
  at("text").value = text;
  if (files.length) { at("file").files = files; at("file").dispatchEvent(new Event("change")); }
  at("form").dispatchEvent(new Event("submit", { cancelable: true }));
  for (let i = 0; i < 300 && at("send").disabled; i += 1) await wait(2);
}
await wait(5);
const models = at("model").children.map((one) => one.value || one.words);
const picture = new File(["abc"], "a.png", { type: "image/png" });
await ask("what is it?", [picture, new File(["def"], "b.wav", { type: "audio/wav" })]);
const first = at("turns").words;
await ask("refuse");
const refused = [at("wrong").textContent, at("turns").children.length];
const endless = ask("endless");
await wait(100);
const running = [at("send").disabled, at("stop").disabled, at("turns").words];
at("stop").click();
await endless;
const left = at("text").value;
at("speak").checked = true;
await ask("and now?");
const played = at("turns").children.at(-1).children.map((one) => one.tag);
at("file").files = [new File(["x"], "a.pdf", { type: "application/pdf" })];
at("file").dispatchEvent(new Event("change"));
console.log(JSON.stringify({ models, first, refused, running, left, sent, played, wrong: at("wrong").textContent }));
process.exit(0);
"""


def driven(tmp_path: Path, models: str) -> dict[str, Any]:
    """The recorded actions of the page."""
    folder = files("sensorium.serve") / "page"
    shared = (folder / "recording.js").read_text(encoding="utf-8").replace("export ", "")
    page = (folder / "chat.js").read_text(encoding="utf-8").replace('import { make, recorder } from "./recording.js";', "")
    script = tmp_path / "chat.mjs"
    inner = f"{{\n{shared}\n{page}\n}}"
    script.write_text(f"{DOM.replace('MODELS', models)}\n{inner}\n{STEPS}", encoding="utf-8")
    done = subprocess.run(["node", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_conversation_with_files_a_refusal_a_stop_and_a_voice(tmp_path: Path) -> None:
    shown = driven(tmp_path, 'Response.json({ data: [{ id: "seeing" }, { id: "other" }] })')
    assert shown["models"] == ["seeing", "other"]
    assert "a é bar" in shown["first"]
    picture, sound, text = shown["sent"][0]["messages"][0]["content"]
    assert picture == {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}
    assert sound == {"type": "input_audio", "input_audio": {"data": "ZGVm", "format": "wav"}}
    assert text == {"type": "text", "text": "what is it?"}
    # A refused question is no turn; a stopped answer is one, as far as it came.
    assert shown["refused"] == ["too long: shorten it", 2]
    assert shown["running"][:2] == [True, False]
    assert shown["left"] == "", "a question that is kept is not asked again"
    assert [turn["content"] for turn in shown["sent"][-1]["messages"][1:]] == ["a é bar", "endless", "a é", "and now?"]
    assert shown["sent"][-1]["modalities"] == ["text", "audio"]
    assert shown["played"] == ["h3", "p", "audio"]
    assert shown["wrong"] == "only pictures and sounds can be shown"


def test_the_page_shows_why_it_cannot_be_used(tmp_path: Path) -> None:
    shown = driven(tmp_path, 'Response.json({ error: { problem: "an API key is required" } }, { status: 401 })')
    assert shown["models"] == []
