// The form is built from /schema; each change calls /predict and /explain. Nothing else is loaded.

import { hits, options, query } from "./search.js";
import { make, recorder } from "./recording.js";

const at = (id) => document.getElementById(id);
const cells = new Map(); // column -> text, File or list of Files; without empty columns
let form = null;
let key = "";
let running = null;
let timer = 0;
const WAIT = 250;

function put(column, value) {
  const empty = value === null || value === "" || (Array.isArray(value) && value.length === 0);
  if (empty) cells.delete(column);
  else cells.set(column, value);
  wrong(column, "");
  clearTimeout(timer);
  timer = setTimeout(ask, WAIT);
}

function wrong(column, problem) {
  const place = at(`wrong-${index(column)}`);
  if (!place) return;
  place.textContent = problem;
  place.hidden = !problem;
  at(`cell-${index(column)}`).setAttribute("aria-invalid", problem ? "true" : "false");
}

const index = (column) => form.columns.findIndex((one) => one.name === column);

// ── the form ───────────────────────────────────────────────────────────────────────────────────────────────────────────

function field(column, i) {
  const id = `cell-${i}`;
  const about = { id, name: column.name, "aria-describedby": `wrong-${i}` };
  const kind = make("span", { class: "kind" }, ` ${column.kind}`);
  const problem = make("p", { id: `wrong-${i}`, class: "wrong", role: "alert", hidden: true });
  if (column.widget.startsWith("file:")) {
    return make("fieldset", { class: "field" }, make("legend", {}, column.name, kind), media(column, about), problem);
  }
  const change = (event) => put(column.name, event.target.value.trim());
  let input;
  if (column.widget === "choice" && column.choices.length <= 200) {
    const options = column.choices.map((choice) => make("option", { value: choice }, choice));
    input = make("select", { ...about, onchange: change }, make("option", { value: "" }, "unknown"), ...options);
  } else if (column.widget === "number") {
    input = make("input", { ...about, type: "number", step: "any", inputmode: "decimal", oninput: change });
  } else if (column.kind === "text") {
    input = make("textarea", { ...about, rows: 3, dir: "auto", oninput: change });
  } else {
    const hint = { datetime: "2026-12-31 23:59", tags: "one;other" }[column.kind];
    input = make("input", { ...about, type: "text", dir: "auto", placeholder: hint, oninput: change });
  }
  return make("div", { class: "field" }, make("label", { for: id }, column.name, kind), input, problem);
}

function media(column, about) {
  const accept = column.widget.slice("file:".length);
  const show = make("span", { class: "show" });
  const name = column.name;
  const file = make("input", { ...about, type: "file", accept, multiple: column.several, "aria-label": `${name}: a file` });
  const clear = make("button", { type: "button", hidden: true, onclick: () => take([]) }, `Remove ${name}`);
  const box = make("div", { class: "drop" }, file);
  const sheet = column.kind === "series" && column.channels ? drawing(column, (made) => take([made], true)) : null;

  function take(files, drawn = false) {
    if (!files.length || drawn) file.value = "";
    if (!drawn && sheet) sheet.wipe();
    show.replaceChildren(...(drawn ? [] : files.slice(0, 4).map((one) => preview(one, name)).filter(Boolean)));
    clear.hidden = !files.length;
    put(name, column.several ? files : files[0] ?? null);
  }

  file.addEventListener("change", () => take([...file.files]));
  box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length) take(column.several ? files : files.slice(0, 1));
  });
  box.addEventListener("wipe", () => take([]));
  if (accept === "audio/*" && navigator.mediaDevices) box.append(recorder(name, (made) => take([made]), (problem) => wrong(name, problem)));
  if (sheet) box.append(sheet.node);
  box.append(clear, show);
  return box;
}

function preview(file, name) {
  const kind = file.type.split("/")[0];
  const tag = { image: "img", audio: "audio", video: "video" }[kind];
  if (!tag) return null;
  const address = URL.createObjectURL(file);
  const node = make(tag, { src: address, ...(tag === "img" ? { alt: `${name}: preview` } : { controls: true }) });
  node.addEventListener(tag === "img" ? "load" : "emptied", () => URL.revokeObjectURL(address));
  return node;
}

// Draws a series: a line per channel, up to three standard deviations from the training mean.
function drawing(column, done) {
  const steps = Math.max(2, Math.min(column.length, 400));
  const width = 600;
  const height = 160;
  const canvas = make("canvas", { width, height, role: "img", "aria-label": `${column.name}: draw with the pointer` });
  const channel = make("select", { "aria-label": `${column.name}: channel to draw` });
  for (let c = 0; c < column.channels; c += 1) channel.append(make("option", { value: c }, `channel ${c + 1}`));
  channel.hidden = column.channels < 2;
  const lines = Array.from({ length: column.channels }, () => new Array(steps).fill(0));
  const pen = canvas.getContext("2d");
  let last = null;

  function paint() {
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(document.documentElement);
    lines.forEach((line, c) => {
      pen.strokeStyle = style.getPropertyValue(c === Number(channel.value) ? "--one" : "--line");
      pen.lineWidth = c === Number(channel.value) ? 3 : 1.5;
      pen.beginPath();
      line.forEach((value, i) => pen.lineTo((i / (steps - 1)) * width, (0.5 - value / 6) * height));
      pen.stroke();
    });
  }

  function trace(event) {
    const place = canvas.getBoundingClientRect();
    const i = Math.max(0, Math.min(steps - 1, Math.round(((event.clientX - place.left) / place.width) * (steps - 1))));
    const value = Math.max(-3, Math.min(3, (0.5 - (event.clientY - place.top) / place.height) * 6));
    const [from, start] = last ?? [i, value];
    const line = lines[Number(channel.value)];
    for (let k = Math.min(from, i); k <= Math.max(from, i); k += 1) {
      line[k] = from === i ? value : start + ((value - start) * (k - from)) / (i - from);
    }
    last = [i, value];
    paint();
  }

  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); last = null; trace(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) trace(event); });
  canvas.addEventListener("pointerup", () => {
    const row = (i) => lines.map((line, c) => column.mean[c] + line[i] * column.deviation[c]);
    const text = JSON.stringify(Array.from({ length: steps }, (_, i) => row(i)));
    done(new File([text], "drawn.json", { type: "application/json" }));
  });
  channel.addEventListener("change", (event) => { event.stopPropagation(); paint(); });
  paint();
  return { node: make("span", { class: "show" }, canvas, channel), wipe: () => { lines.forEach((l) => l.fill(0)); paint(); } };
}

// ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────────

async function call(path, options = {}) {
  const headers = key ? { "X-API-Key": key } : {};
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  const result = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(result.error.problem), result.error);
  return result;
}

// A new request in place of the one that is running; what is shown is stale until it is answered.
function begin() {
  running?.abort();
  running = new AbortController();
  const result = at("result");
  result.setAttribute("aria-busy", "true");
  result.classList.add("stale");
  return [running, result];
}

async function find(row = null) {
  const [mine, result] = begin();
  const body = new FormData();
  if (row === null) for (const [column, value] of cells) for (const one of [value].flat()) body.append(column, one);
  if (row !== null) body.append("@rows", "[]"); // a multipart form needs at least one part
  try {
    if (row === null && !cells.size) {
      result.replaceChildren(make("p", { class: "hint" }, `${form.search.rows} rows to search. Fill in a field.`));
    } else {
      const answer = await call(`models/${encodeURIComponent(form.model)}/search?${query(row)}`, { method: "POST", body, signal: mine.signal });
      if (mine.signal.aborted) return;
      const found = answer.answers ? answer.answers[0] : answer;
      result.replaceChildren(...hits(make, form.search, found, key ? { "X-API-Key": key } : {}, find));
    }
    result.classList.remove("stale");
  } catch (error) {
    if (mine.signal.aborted) return;
    showError(error);
  }
  result.setAttribute("aria-busy", "false");
}

async function ask() {
  if (form.search) return find();
  const [mine, result] = begin();
  const body = new FormData();
  for (const [column, value] of cells) for (const one of [value].flat()) body.append(column, one);
  if (!cells.size) body.append("@rows", "[{}]"); // a multipart form needs at least one part
  const options = { method: "POST", body, signal: mine.signal };
  const model = encodeURIComponent(form.model);
  try {
    const answer = await call(`models/${model}/predict?places=yes`, options);
    const prediction = answer.predictions ? answer.predictions[0] : answer;
    const shown = renderPrediction(prediction);
    if (mine.signal.aborted) return;
    result.replaceChildren(...shown);
    result.classList.remove("stale");
    result.append(...renderShares(await call(`models/${model}/explain`, options)));
    const more = make("button", { type: "button" }, "Show attribution maps");
    more.addEventListener("click", async () => {
      more.disabled = true;
      try {
        const { maps } = await call(`models/${model}/explain?where=yes`, options);
        if (!mine.signal.aborted) more.replaceWith(...renderMaps(maps));
      } catch (error) {
        if (!mine.signal.aborted) showError(error);
      }
    });
    result.append(more);
  } catch (error) {
    if (mine.signal.aborted) return;
    showError(error);
  }
  result.setAttribute("aria-busy", "false");
}

function showError(error) {
  for (const cell of error.cells ?? [error]) if (cell.column) wrong(cell.column, cell.problem);
  if (error.status === 401) at("key").hidden = false;
  const lost = "The server does not respond, or a selected file no longer exists.";
  const where = error.column ? `${error.column}: ` : "";
  const result = at("result");
  result.classList.remove("stale");
  result.replaceChildren(make("p", { class: "wrong" }, error.status ? `${where}${error.message}` : lost), make("p", { class: "hint" }, error.fix ?? ""));
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function bar(name, figure, left, width, kind = "") {
  const fill = make("span", { class: `bar ${kind}` });
  fill.style.left = `${100 * left}%`;
  fill.style.width = `${100 * width}%`;
  const track = make("span", { class: "track", "aria-hidden": "true" }, fill);
  return make("li", {}, make("span", { class: "name" }, name), track, make("span", { class: "figure" }, figure));
}

function plain(value) {
  if (Array.isArray(value)) return value.length ? value.map(plain).join(", ") : "none";
  return typeof value === "number" ? String(Number(value.toPrecision(5))) : String(value);
}

// A prediction may be or contain an image, a mask or a sound; nested values are shown as JSON.
function renderValue(value) {
  if (typeof value === "string" && value.startsWith("data:image/")) return [make("img", { src: value, class: "map", alt: "answer" })];
  if (typeof value === "string" && value.startsWith("data:audio/")) return [make("audio", { src: value, controls: "" })];
  if (Array.isArray(value) && value.some((item) => typeof item === "string" && item.startsWith("data:"))) return value.flatMap(renderValue);
  if (Array.isArray(value) ? value.some((item) => item !== null && typeof item === "object") : value !== null && typeof value === "object") {
    return [make("pre", { class: "value" }, JSON.stringify(value, null, 1))];
  }
  return [make("p", { class: "value" }, plain(value))];
}

const numeric = (list) => Array.isArray(list) && list.length > 1 && list.every((one) => typeof one === "number");

// Lines over x, with a band between two of them: a forecast with its interval, a curve of survival.
function chart(title, x, line, band = null, base = Infinity) {
  const [width, height, left, bottom] = [600, 180, 56, 22];
  const known = [...line, ...(band ?? []).flat(), ...(base === Infinity ? [] : [base])];
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const [start, end] = [typeof x[0] === "number" ? x[0] : 0, typeof x[0] === "number" ? x[x.length - 1] : x.length - 1];
  const right = (i) => left + ((typeof x[i] === "number" ? x[i] : i) - start) / (end - start || 1) * (width - left - 8);
  const up = (value) => 8 + (1 - (value - low) / (high - low || 1)) * (height - bottom - 8);
  const path = (list) => list.map((value, i) => `${right(i).toFixed(1)},${up(value).toFixed(1)}`);
  const draw = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  const sheet = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": title });
  if (band) sheet.append(draw("polygon", { points: [...path(band[0]), ...path(band[1]).reverse()].join(" "), class: "band" }));
  sheet.append(draw("polyline", { points: path(line).join(" "), class: "line" }));
  for (const value of [low, high]) sheet.append(draw("text", { x: left - 6, y: up(value) + 4, "text-anchor": "end" }, plain(value)));
  sheet.append(draw("text", { x: left, y: height - 4 }, plain(x[0])));
  sheet.append(draw("text", { x: width - 8, y: height - 4, "text-anchor": "end" }, plain(x[x.length - 1])));
  return make("figure", {}, sheet, make("figcaption", { class: "hint" }, title));
}

// Answers that are sequences: quantiles of steps ahead, and whatever has two lists of numbers of one length.
function renderCurves(name, answer) {
  const shown = [];
  const fan = answer.quantiles ?? {};
  const levels = Object.keys(fan).sort((a, b) => a - b);
  if (levels.length > 2) {
    const series = numeric(fan[levels[0]]) ? 1 : fan[levels[0]][0]?.length ?? 0;
    const of = (level, c) => series === 1 && numeric(fan[level]) ? fan[level] : fan[level].map((step) => step[c]);
    const [low, high] = levels.includes("0.1") && levels.includes("0.9") ? ["0.1", "0.9"] : [levels[0], levels[levels.length - 1]];
    const middle = levels.includes("0.5") ? "0.5" : levels[Math.floor(levels.length / 2)];
    for (let c = 0; c < Math.min(series, 6); c += 1) {
      const share = Math.round(100 * (high - low));
      const title = `${name}${series > 1 ? ` ${c + 1}` : ""}: median and ${share} % interval by step`;
      const steps = answer.times ?? answer.steps ?? of(middle, c).map((_, i) => i + 1);
      if (numeric(of(middle, c))) shown.push(chart(title, steps, of(middle, c), [of(low, c), of(high, c)]));
    }
  }
  for (const [key, value] of Object.entries(answer)) {
    const lists = value && typeof value === "object" && !Array.isArray(value) && key !== "quantiles" ? Object.entries(value) : [];
    if (lists.length !== 2 || !lists.every(([, list]) => numeric(list) && list.length === lists[0][1].length)) continue;
    shown.push(chart(`${name}: ${key}, ${lists[1][0]} by ${lists[0][0]}`, lists[0][1], lists[1][1], null, 0));
  }
  return shown;
}

const spans = (value) => Array.isArray(value) && value.length && value.every((one) =>
  Array.isArray(one) && one.length === 3 && numeric(one.slice(0, 2)) && typeof one[2] === "string");

// Answers that are spans: the words of a text marked, or a strip along time, each with its label.
function renderSpans(name, value, text) {
  const marks = [...new Set(value.map((one) => one[2]))];
  const hue = (label) => `hsl(${(215 + 137.5 * marks.indexOf(label)) % 360} 65% 55% / 45%)`;
  const shown = make("p", { class: "words spans", "aria-label": `${name}: spans` });
  const characters = text === undefined ? [] : [...text]; // answers count characters as Python does
  const end = Math.max(...value.map((one) => one[1]));
  let at = 0;
  for (const [from, to, label] of value) {
    if (characters.length) shown.append(characters.slice(at, from).join(""));
    const mark = make("mark", { title: `${label}: ${plain(from)} to ${plain(to)}` });
    mark.append(...(characters.length ? [characters.slice(from, to).join(""), make("sub", {}, ` ${label}`)] : [label]));
    mark.style.backgroundColor = hue(label);
    if (!characters.length) {
      mark.style.width = `${(100 * (to - from)) / (end || 1)}%`;
      mark.style.marginLeft = `${(100 * Math.max(0, from - at)) / (end || 1)}%`;
    }
    shown.append(mark);
    at = to;
  }
  if (characters.length) shown.append(characters.slice(at).join(""));
  else shown.setAttribute("class", "strip spans");
  const words = value.slice(0, 12).map(([from, to, label]) => `${label} ${plain(from)} to ${plain(to)}`).join(", ");
  return [shown, make("p", { class: "hint" }, value.length > 12 ? `${words}, …` : words)];
}

const COLOURS = ["#e6550d", "#3182bd", "#31a354", "#c51b8a", "#ffc828", "#5e3c99", "#00a0a0", "#964b1e", "#78be1e", "#5a5a5a"];

// Boxes, regions, lines and points over the picture that they lie on, in its own pixels.
function renderPlaces(name, placed) {
  const [width, height] = placed.size;
  const draw = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  const unit = Math.max(width, height) / 300;
  const count = placed.places.length;
  const sheet = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "places", role: "img", "aria-label": `${name}: ${count} drawn on ${placed.column}` });
  const file = [cells.get(placed.column)].flat()[0];
  if (file instanceof Blob) {
    const address = URL.createObjectURL(file);
    const picture = draw("image", { href: address, width, height, preserveAspectRatio: "none" });
    picture.addEventListener("load", () => URL.revokeObjectURL(address));
    sheet.append(picture);
  }
  const labels = [...new Set(placed.places.map((place) => place.label))];
  const word = (x, y, colour, text) => draw("text", { x, y, fill: colour, "font-size": 10 * unit, "stroke-width": 2.5 * unit }, text);
  placed.places.forEach((place, i) => {
    const colour = COLOURS[labels.indexOf(place.label) % COLOURS.length];
    const score = place.score === undefined ? "" : ` ${place.score.toFixed(2)}`;
    if (place.region) {
      const id = `region-${name}-${i}`.replaceAll(/[^\w-]/g, "_");
      const mask = draw("mask", { id });
      mask.append(draw("image", { href: place.region, width, height }));
      const fill = { width, height, fill: colour, "fill-opacity": place.thin ? 1 : 0.45, mask: `url(#${id})` };
      sheet.append(mask, draw("rect", fill));
    }
    if (place.box) {
      const [left, top, right, bottom] = place.box;
      sheet.append(draw("rect", { x: left, y: top, width: right - left, height: bottom - top, fill: "none", stroke: colour, "stroke-width": 1.5 * unit }));
      sheet.append(word(left + 2 * unit, top + 10 * unit, colour, `${place.label}${score}`));
    }
    (place.points ?? []).forEach((point, k) => {
      const own = COLOURS[k % COLOURS.length];
      sheet.append(draw("circle", { cx: point.x, cy: point.y, r: 3 * unit, fill: "none", stroke: own, "stroke-width": 1.5 * unit }));
      sheet.append(word(point.x + 4 * unit, point.y - 2 * unit, own, point.name));
    });
  });
  const key = labels.map((label, i) => {
    const square = make("i");
    square.style.backgroundColor = COLOURS[i % COLOURS.length];
    return make("span", {}, square, `${label} (${placed.places.filter((place) => place.label === label).length})`);
  });
  return make("figure", {}, sheet, make("figcaption", { class: "legend" }, ...(key.length ? key : ["nothing is drawn"])));
}

function renderPrediction(prediction) {
  const shown = [];
  for (const [name, answer] of Object.entries(prediction.targets)) {
    const on = (form?.targets ?? []).find((one) => one.name === name)?.on;
    const text = typeof cells.get(on) === "string" ? cells.get(on) : undefined;
    const placed = prediction.places?.[name];
    const inner = placed ? [renderPlaces(name, placed)]
      : spans(answer.value) ? renderSpans(name, answer.value, text) : renderValue(answer.value);
    shown.push(make("h3", {}, name), ...inner);
    const chances = Object.entries(answer.probabilities ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 12);
    if (chances.length) {
      const list = make("ul", { class: "bars", "aria-label": `${name}: probabilities` });
      list.append(...chances.map(([label, share]) => bar(label, percent(share), 0, share)));
      shown.push(list);
    }
    const scalar = (one) => typeof one === "number" || (typeof one === "string" && !one.startsWith("data:"));
    const more = Object.entries(answer).filter(([word, one]) => word !== "value" && scalar(one));
    if (more.length) shown.push(make("p", { class: "hint" }, more.map(([word, one]) => `${word.replaceAll("_", " ")} ${plain(one)}`).join(", ")));
    shown.push(...renderCurves(name, answer));
  }
  const missing = prediction.missing.length ? `Missing: ${prediction.missing.join(", ")}.` : "Nothing is missing.";
  return [...shown, make("p", { class: "hint" }, missing)];
}

// The legend has the same words and colours as reports.
function legend() {
  const told = { for: "supports the prediction", against: "opposes it", missing: "missing" };
  const keys = Object.entries(told).map(([name, words]) => {
    const mark = make("i");
    mark.style.background = `var(--${name})`;
    return make("span", {}, mark, words);
  });
  return make("p", { class: "legend" }, ...keys);
}

// Bars to the right of the centre support the prediction, bars to the left oppose it.
function renderShares(explanation) {
  const shown = [];
  for (const [name, [one]] of Object.entries(explanation.targets)) {
    if (!one) continue; // only numeric scores can be attributed
    const top = Math.max(1e-9, ...Object.values(one.shares).map(Math.abs));
    const list = make("ul", { class: "bars shares", "aria-label": `${name}: contribution of each modality` });
    for (const [stream, share] of Object.entries(one.shares)) {
      const absent = one.missing.includes(stream);
      const width = Math.abs(share) / top / 2;
      const figure = absent ? "missing" : (share >= 0 ? "+" : "−") + Math.abs(share).toFixed(3);
      const columns = form.streams[stream] ?? [stream];
      const row = bar(columns.join(", "), figure, share >= 0 ? 0.5 : 0.5 - width, absent ? 0 : width, share < 0 ? "against" : "for");
      if (absent) row.classList.add("absent");
      list.append(row);
    }
    shown.push(make("h3", {}, `What each modality did to ${name}`));
    shown.push(make("p", { class: "hint" }, `${one.what}: ${plain(one.value)}; without any input ${plain(one.nothing)}.`), list);
  }
  return shown.length ? [...shown, legend()] : shown;
}

function renderMaps(maps) {
  const shown = [];
  for (const one of maps) {
    const columns = form.streams[one.stream] ?? [one.stream];
    const title = maps.some((other) => other.target !== one.target) ? `${one.target}: ` : "";
    shown.push(make("h3", {}, `Attribution within ${title}${columns.join(", ")}`));
    shown.push(...one.pictures.map((picture) => make("img", { src: picture, class: "map", alt: one.summary })));
    if (one.layout === "ids" && one.names.length) {
      const words = one.names.map(([word, value]) => {
        const span = make("span", { title: value.toPrecision(3) }, word);
        const strength = Math.min(1, Math.abs(value) / Math.max(1e-9, one.scale)); // relative to the effect on the prediction
        span.style.backgroundColor = `color-mix(in srgb, var(--${value >= 0 ? "for" : "against"}) ${70 * strength}%, transparent)`;
        return span;
      });
      shown.push(make("p", { class: "words" }, ...words));
    }
    shown.push(make("p", { class: "hint" }, one.note || one.summary));
  }
  return shown;
}

// ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function start(model) {
  cells.clear();
  try {
    form = await call(model ? `models/${encodeURIComponent(model)}/schema` : "schema");
  } catch (error) {
    showError(error);
    return;
  }
  at("key").hidden = true;
  at("chat").hidden = !form.converses;
  const columns = form.search ? form.columns.filter((one) => form.search.query.includes(one.name)) : form.columns;
  at("answer").textContent = form.search ? "Found rows" : "Prediction";
  at("ask").textContent = form.search ? "Search" : "Input";
  at("search").replaceChildren(...(form.search ? options(make, () => ask()) : []));
  at("columns").replaceChildren(...columns.map((column) => field(column, index(column.name))));
  at("model").replaceChildren(...form.models.map((name) => make("option", { value: name, selected: name === form.model }, name)));
  at("models").hidden = form.models.length < 2;
  await ask();
}

at("model").addEventListener("change", (event) => start(event.target.value));
at("key-input").addEventListener("change", (event) => { key = event.target.value; start(); });
at("form").addEventListener("submit", (event) => event.preventDefault());
at("form").addEventListener("reset", () => {
  document.querySelectorAll(".drop").forEach((box) => box.dispatchEvent(new Event("wipe")));
  cells.clear();
  form.columns.forEach((column) => wrong(column.name, ""));
  clearTimeout(timer);
  timer = setTimeout(ask, 0);
});
start();
