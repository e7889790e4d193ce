// The microphone, from a press to the next one. It is open only in between, so the browser's sign for it is honest.
import { $, say } from "./common.js";

const WHY = {
  NotAllowedError: "The browser was told not to allow it: allow it beside the address of this page, then press again.",
  NotFoundError: "None is connected.",
  NotReadableError: "Another program may be using it.",
  OverconstrainedError: "The one chosen under Settings is not connected.",
};
const TWITCH = 500; // milliseconds after the start in which a second press is not meant
let context = null;
let open = null; // the recording that is going on; which button started it knows it too
let opening = false; // while the browser asks whether it may

/** For handlers that would change what a recording is of: throws while one is going on. */
export function notWhileRecording() {
  if (open || opening) throw new Error("A recording is in progress. Press Stop first.");
}

/** Start; `onLevel` gets the loudest value of each block, 0 to 1. Returns what `stop` takes. */
async function start(onLevel) {
  if (!navigator.mediaDevices) throw new Error("This browser does not let this page use a microphone. Open it as http://localhost.");
  const wanted = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const device = $("microphone").value;
  if (device) wanted.deviceId = { exact: device };
  context ??= await prepared();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
  } catch (error) {
    throw new Error(`There is no microphone. ${WHY[error.name] ?? ""}`);
  }
  await context.resume();
  const source = context.createMediaStreamSource(stream);
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  const blocks = [];
  tap.port.onmessage = ({ data }) => {
    blocks.push(data);
    let peak = 0;
    for (const x of data) peak = Math.max(peak, Math.abs(x));
    onLevel(peak);
  };
  source.connect(tap);
  open = { stream, source, tap, blocks };
  listMicrophones().catch(() => {}); // now the browser names them
  return open;
}

/** What the sound goes through. */
async function prepared() {
  const made = new AudioContext();
  try {
    await made.audioWorklet.addModule("js/worklet.js");
  } catch {
    await made.close();
    throw new Error("The app does not answer. Is it still running?");
  }
  return made;
}

/** Stop; returns the recording as a wav Blob. */
async function stop(mine) {
  const { stream, source, tap, blocks } = mine;
  await new Promise((resolve) => setTimeout(resolve, 250)); // what was said with the press is still on its way
  if (open === mine) open = null;
  source.disconnect();
  tap.port.onmessage = null;
  stream.getTracks().forEach((track) => track.stop());
  return wav(blocks, context.sampleRate);
}

function wav(blocks, rate) {
  const length = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const block of blocks) {
    for (const x of block) {
      view.setInt16(at, Math.max(-1, Math.min(1, x)) * 32767, true);
      at += 2;
    }
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}

/**
 * A button that starts and stops, with its level meter. `begin` is called at the start and returns what to do with the
 * recording at the end. Where that fails, the recording is kept, and the next press tries again.
 *
 * Returns `leave`, which ends a recording that is going on and says whether nothing is left to save; `hasUnsaved`; and
 * `forget`, which drops what is kept.
 */
export function recordButton({ button, label, meter, word, texts, begin }) {
  let busy = false;
  let began = 0;
  let use = null;
  let mine = null; // the recording this button started
  let kept = null; // a recording that nobody has taken yet
  let highest = 0;
  let quietSince = 0;
  const show = (peak) => {
    highest = Math.max(peak, highest * 0.97);
    meter.value = Math.min(1, highest);
    if (peak > 0.02) quietSince = performance.now();
    const silent = performance.now() - quietSince > 4000;
    const said = highest > 0.98 ? "Too loud: a little away from the microphone" : silent ? "I hear nothing" : highest < 0.05 ? "Quiet" : "Good";
    if (word.textContent !== said) word.textContent = said;
  };
  const deliver = async () => {
    label.textContent = texts.saving;
    try {
      await use(kept);
      kept = null;
    } catch (error) {
      if (error.refused) kept = null;
      throw error;
    }
    label.textContent = texts.start;
  };
  const press = async () => {
    if (busy) return;
    busy = true;
    try {
      if (kept) {
        await deliver();
      } else if (!mine) {
        notWhileRecording(); // by the other button
        label.textContent = texts.wait;
        use = begin();
        quietSince = performance.now();
        opening = true;
        try {
          mine = await start(show);
        } finally {
          opening = false;
        }
        if (!button.checkVisibility()) { // the place was left meanwhile: nobody would see that it listens
          await stop(mine);
          mine = null;
          label.textContent = texts.start;
          return;
        }
        began = performance.now();
        button.classList.add("live");
        label.textContent = texts.stop;
      } else {
        label.textContent = texts.saving;
        const ended = mine;
        mine = null;
        kept = await stop(ended);
        button.classList.remove("live");
        meter.value = highest = 0;
        word.textContent = "";
        await deliver();
      }
    } catch (error) {
      button.classList.remove("live");
      label.textContent = kept ? texts.retry : texts.start;
      say(error.message, true);
    } finally {
      busy = false;
    }
  };
  button.addEventListener("click", () => { if (!mine || performance.now() - began > TWITCH) press(); });
  window.addEventListener("beforeunload", (event) => { if (kept || busy || button.classList.contains("live")) event.preventDefault(); });
  const leave = async () => {
    if (button.classList.contains("live")) await press();
    while (busy) await new Promise((resolve) => setTimeout(resolve, 50));
    return !kept;
  };
  const hasUnsaved = () => kept !== null && !busy; // what is on its way to whom it belongs may be saved yet
  const forget = () => {
    if (!hasUnsaved()) return;
    kept = null;
    label.textContent = texts.start;
  };
  return { leave, forget, hasUnsaved };
}

/** Fill the list of microphones; browsers name them once one was allowed. */
export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const list = $("microphone");
  const chosen = list.value;
  list.length = 1;
  devices.filter((d) => d.kind === "audioinput" && d.deviceId && d.label).forEach((d) => list.add(new Option(d.label, d.deviceId)));
  list.value = chosen;
}
