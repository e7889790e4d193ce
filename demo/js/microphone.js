// The microphone, from a press to the next one. It is open only in between, so the browser's sign for it is honest.
import { $, gone } from "./common.js";
import { hush } from "./player.js";

const WHY = {
  NotAllowedError: "The browser was told not to let this page use the microphone. Allow it beside the address of this page, then press again.",
  NotFoundError: "No microphone is connected. Connect one, then press again.",
  NotReadableError: "The microphone cannot be opened: another program may be using it.",
  OverconstrainedError: "The microphone chosen under Settings is not connected. Choose another one there.",
};
let context = null;
let open = null; // the recording that is going on; which button started it knows it too
let opening = false; // while the browser asks whether it may

/** Throws while a recording is going on, or about to. */
export function notWhileRecording() {
  if (open || opening) throw new Error("A recording is in progress. Press Stop first.");
}

/** A handler that would change what a recording is of, or be heard in it: not while one is going on. */
export const still = (handler) => (event) => { notWhileRecording(); return handler(event); };

/** Start; `onLevel` gets the loudest value of each block, 0 to 1. Returns what `stop` takes. */
export async function start(onLevel) {
  if (!navigator.mediaDevices) throw new Error("This browser does not let this page use a microphone. Open it as http://localhost.");
  hush();
  opening = true;
  try {
    open = await opened(onLevel);
  } finally {
    opening = false;
  }
  listMicrophones().catch(() => {}); // now the browser names them
  return open;
}

async function opened(onLevel) {
  const wanted = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const device = $("microphone").value;
  if (device) wanted.deviceId = { exact: device };
  context ??= await prepared();
  const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted }).catch((error) => {
    throw new Error(WHY[error.name] ?? "The microphone cannot be opened.");
  });
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
  return { stream, source, tap, blocks };
}

/** What the sound goes through. */
async function prepared() {
  const made = new AudioContext();
  try {
    await made.audioWorklet.addModule("js/worklet.js");
  } catch {
    await made.close();
    throw gone();
  }
  return made;
}

/** Stop; returns the recording as a wav Blob. */
export async function stop(mine) {
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

/** Fill the list of microphones, which browsers name once one was allowed, and choose the one this browser remembers. */
export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const list = $("microphone");
  list.length = 1;
  devices.filter((d) => d.kind === "audioinput" && d.deviceId && d.label).forEach((d) => list.add(new Option(d.label, d.deviceId)));
  const chosen = localStorage.getItem("microphone");
  list.value = [...list.options].some(({ value }) => value === chosen) ? chosen : "";
}
