// A conversation by way of /v1/chat/completions: answers appear as they are generated. Nothing else is loaded.

import { make, recorder } from "./recording.js";

const at = (id) => document.getElementById(id);
const turns = []; // as in a request: role and content
let files = []; // of the next question
let key = "";
let running = null;
let following = true; // the newest words, until the reader scrolls up
let scrolling = null; // what scrolled last, and how far
let place = 0;

function wrong(problem) {
  at("wrong").textContent = problem;
  at("wrong").hidden = !problem;
}

async function request(path, options = {}) {
  const headers = { ...(key ? { "X-API-Key": key } : {}), ...(options.body ? { "Content-Type": "application/json" } : {}) };
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (answer.ok) return answer;
  if (answer.status === 401) at("key").hidden = false;
  const { error } = await answer.json().catch(() => ({ error: {} }));
  const problem = [error.column, error.problem ?? `status ${answer.status}`, error.fix].filter(Boolean).join(": ");
  throw Object.assign(new Error(problem), { status: answer.status });
}

// ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

function take(added) {
  const usable = added.filter((file) => ["image", "audio"].includes(file.type.split("/")[0]));
  wrong(usable.length < added.length ? "only pictures and sounds can be shown" : "");
  files.push(...usable);
  draw();
}

function draw() {
  at("shown").replaceChildren(...files.map(preview));
  at("remove").hidden = !files.length;
  if (!files.length) at("file").value = "";
}

function preview(file) {
  const address = URL.createObjectURL(file);
  if (!file.type.startsWith("image/")) return make("audio", { src: address, controls: true });
  const node = make("img", { src: address, alt: file.name });
  node.addEventListener("load", () => URL.revokeObjectURL(address));
  return node;
}

function encoded(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

async function part(file) {
  const address = await encoded(file);
  if (file.type.startsWith("image/")) return { type: "image_url", image_url: { url: address } };
  const format = file.name.includes(".") ? file.name.split(".").pop().toLowerCase().slice(0, 8) : "wav";
  return { type: "input_audio", input_audio: { data: address.slice(address.indexOf(",") + 1), format } };
}

// ── the conversation ───────────────────────────────────────────────────────────────────────────────────────────────────

function bubble(role, ...content) {
  const node = make("div", { class: `turn ${role}` }, make("h3", {}, role === "user" ? "You" : "Model"), ...content);
  at("turns").append(node);
  follow();
  return node;
}

// What scrolls: the turns, or on narrow screens the page.
function scroller() {
  const turns = at("turns");
  return turns.scrollHeight > turns.clientHeight ? turns : document.scrollingElement;
}

// Keeps the newest words in view, unless the reader has scrolled up to earlier ones.
function follow() {
  scrolled(); // the event of a movement may still be to come
  const box = scroller();
  if (following) box.scrollTop = box.scrollHeight;
  place = box.scrollTop;
}

// Only the reader moves up; words that are added move nothing. Near the end, as it may grow meanwhile, moving down is enough.
function scrolled() {
  const box = scroller();
  if (box !== scrolling) [scrolling, place] = [box, box.scrollTop];
  const below = box.scrollHeight - box.clientHeight - box.scrollTop;
  if (below <= (box.scrollTop > place ? box.clientHeight / 3 : 1)) following = true;
  else if (box.scrollTop < place) following = false;
  place = box.scrollTop;
}

async function* events(answer) {
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += decoder.decode(value, { stream: true });
      let end = held.indexOf("\n\n");
      while (end >= 0) {
        const data = held.slice(0, end).replace(/^data: /, "");
        held = held.slice(end + 2);
        if (data === "[DONE]") return;
        yield JSON.parse(data);
        end = held.indexOf("\n\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function send() {
  const text = at("text").value.trim();
  if (running || (!text && !files.length)) return;
  wrong("");
  running = new AbortController();
  at("send").disabled = true;
  at("stop").disabled = false;
  const shown = [...files]; // others may be added while the answer comes
  let content = text;
  let asked;
  let node = null;
  let said = "";
  try {
    if (shown.length) content = [...(await Promise.all(shown.map(part))), { type: "text", text }];
    following = true;
    asked = bubble("user", ...shown.map(preview), make("p", { dir: "auto" }, text));
    turns.push({ role: "user", content });
    const spoken = at("speak").checked;
    const body = { model: at("model").value || undefined, messages: turns, stream: !spoken };
    if (spoken) body.modalities = ["text", "audio"];
    const answer = await request("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal: running.signal });
    const words = make("p", { dir: "auto" });
    node = bubble("assistant", words);
    node.classList.add("running");
    if (spoken) {
      const { message } = (await answer.json()).choices[0];
      said = message.content;
      words.textContent = said;
      if (message.audio) node.append(make("audio", { src: `data:audio/wav;base64,${message.audio.data}`, controls: true }));
    } else {
      for await (const event of events(answer)) {
        if (event.error) throw new Error(event.error.message);
        said += event.choices[0].delta.content ?? "";
        words.textContent = said;
        follow();
      }
    }
    if (!said) node.append(make("p", { class: "hint" }, "The answer is empty."));
  } catch (error) {
    if (error.name !== "AbortError") wrong(error.message);
    if (!said) node?.remove();
  }
  node?.classList.remove("running");
  follow();
  // A question without an answer is asked again, not kept.
  if (turns.at(-1)?.content === content) {
    if (said || node?.isConnected) {
      turns.push({ role: "assistant", content: said });
      if (at("text").value.trim() === text) at("text").value = ""; // the next question may be there already
      files = files.filter((file) => !shown.includes(file));
      draw();
    } else {
      turns.pop();
      asked.remove();
    }
  }
  running = null;
  at("send").disabled = false;
  at("stop").disabled = true;
}

async function start() {
  try {
    const listed = (await (await request("v1/models")).json()).data.map((model) => model.id);
    at("model").replaceChildren(...listed.map((name) => make("option", { value: name }, name)));
    at("models").hidden = listed.length < 2;
    at("key").hidden = true;
    wrong("");
  } catch (error) {
    wrong(error.status === 404 ? "no model of this server converses" : error.message);
  }
}

function fresh() {
  running?.abort();
  turns.length = 0;
  files = [];
  draw();
  at("turns").replaceChildren();
  wrong("");
}

at("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
at("stop").addEventListener("click", () => running?.abort());
at("turns").addEventListener("load", follow, true); // pictures grow when they are loaded
document.addEventListener("scroll", scrolled, true);
at("fresh").addEventListener("click", fresh);
at("model").addEventListener("change", fresh);
at("remove").addEventListener("click", () => { files = []; draw(); });
at("file").addEventListener("change", () => take([...at("file").files]));
at("key-input").addEventListener("change", (event) => { key = event.target.value; start(); });
const drop = document.querySelector("main");
drop.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
drop.addEventListener("dragleave", () => at("drop").classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take([...event.dataTransfer.files]);
});
if (navigator.mediaDevices) at("drop").append(recorder("sound", (made) => take([made]), wrong));
start();
