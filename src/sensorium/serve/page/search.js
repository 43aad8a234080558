// Search in an index: options, requests and found rows with their pictures and players.

let addresses = [];

export function options(make, changed) {
  const about = { filter: ["Filter", "price < 20"], top: ["Rows", ""] };
  const inputs = {
    filter: make("input", { id: "filter", type: "text", placeholder: about.filter[1], onchange: changed }),
    top: make("input", { id: "top", type: "number", min: 1, max: 200, value: 12, onchange: changed }),
  };
  return Object.entries(inputs).map(([name, input]) =>
    make("div", { class: "field" }, make("label", { for: name }, about[name][0]), input));
}

export function query(row = null) {
  const parts = new URLSearchParams({ top: document.getElementById("top").value || "12" });
  const filter = document.getElementById("filter").value.trim();
  if (filter) parts.set("filter", filter);
  if (row !== null) parts.set("row", row);
  return parts;
}

export function hits(make, search, answer, headers, like) {
  for (const address of addresses) URL.revokeObjectURL(address);
  addresses = [];
  if (!answer.hits.length) return [make("p", { class: "hint" }, "No row satisfies this search.")];
  const list = make("ol", { class: "hits" });
  for (const hit of answer.hits) {
    const shown = Object.entries(hit.cells).filter(([, cell]) => cell !== null);
    const parts = shown.map(([column, cell]) => {
      if (cell.media === undefined) return make("p", { dir: "auto" }, make("span", { class: "kind" }, `${column} `), String(cell));
      const place = make("div", { class: "media" });
      load(make, place, column, cell.media, headers);
      return place;
    });
    const more = make("button", { type: "button", onclick: () => like(hit.id) }, `Similar to ${hit.id}`);
    list.append(make("li", {}, ...parts, make("p", { class: "kind" }, `${hit.score.toFixed(3)} · ${hit.side} · ${hit.id}`), more));
  }
  return [make("p", { class: "hint" }, `${answer.hits.length} of ${search.rows} rows, the most similar first.`), list];
}

// The address needs the API key, which the source of a picture or player cannot send.
async function load(make, place, column, address, headers) {
  try {
    const answer = await fetch(address.replace(/^\//, ""), { headers });
    if (!answer.ok) return;
    const file = await answer.blob();
    const tag = { image: "img", audio: "audio", video: "video" }[file.type.split("/")[0]];
    if (!tag) return;
    const source = URL.createObjectURL(file);
    addresses.push(source);
    place.append(make(tag, { src: source, ...(tag === "img" ? { alt: column } : { controls: true }) }));
  } catch { /* the file is gone or the server stopped: the rest of the row is shown */ }
}
