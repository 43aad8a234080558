// What the pages share: elements, and recordings of the microphone.

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Records samples and writes WAV, since servers cannot decode all recording formats of browsers.
export function recorder(name, done, failed) {
  const button = make("button", { type: "button", "aria-pressed": "false" }, `Record ${name}`);
  let stop = null;
  button.addEventListener("click", async () => {
    if (stop) return stop();
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      failed(`no microphone: ${error.message}`);
      return undefined;
    }
    const context = new AudioContext();
    const source = context.createMediaStreamSource(stream);
    const tap = context.createScriptProcessor(4096, 1, 1);
    const blocks = [];
    tap.onaudioprocess = (event) => blocks.push(event.inputBuffer.getChannelData(0).slice());
    source.connect(tap);
    tap.connect(context.destination);
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop";
    const longest = setTimeout(() => stop && stop(), 60000);
    stop = () => {
      stop = null;
      clearTimeout(longest);
      tap.disconnect();
      source.disconnect();
      stream.getTracks().forEach((track) => track.stop());
      button.setAttribute("aria-pressed", "false");
      button.textContent = `Record ${name}`;
      if (blocks.length) done(new File([wav(blocks, context.sampleRate)], "recorded.wav", { type: "audio/wav" }));
      context.close();
    };
    return undefined;
  });
  return button;
}

function wav(blocks, rate) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const word = (place, text) => [...text].forEach((mark, i) => view.setUint8(place + i, mark.charCodeAt(0)));
  word(0, "RIFF"); view.setUint32(4, 36 + 2 * count, true); word(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true);
  view.setUint16(34, 16, true); word(36, "data"); view.setUint32(40, 2 * count, true);
  let place = 44;
  for (const block of blocks) {
    for (const value of block) {
      view.setInt16(place, Math.max(-1, Math.min(1, value)) * 32767, true);
      place += 2;
    }
  }
  return view.buffer;
}
